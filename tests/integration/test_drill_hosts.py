"""Hosts that can be cut off: nothing comes through while they are, nothing is lost, and nobody is told."""

from __future__ import annotations

import select
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from benchmarks.drill.hosts import Namespaces, Network, Proxies, join

# Sends each line of its input and prints what comes back, over one connection.
_CLIENT = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=30) as connection:
    for line in sys.stdin:
        connection.sendall(line.encode())
        print(connection.recv(100).decode(), end="", flush=True)
"""


class Echo(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line)


@pytest.fixture(params=["namespaces", "proxies"])
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    made: Network
    try:
        made = Namespaces() if request.param == "namespaces" else Proxies("the test wants it")
    except OSError as error:
        pytest.skip(f"no network namespaces here: {error}")
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server, at every address, that says again what it is told."""
    with socketserver.ThreadingTCPServer(("0.0.0.0", 0), Echo) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()


def answer(client: subprocess.Popen[str], seconds: float) -> str:
    """The next line that it prints; "" when none comes in time."""
    assert client.stdout is not None
    return client.stdout.readline() if select.select([client.stdout], [], [], seconds)[0] else ""


def test_a_host_that_is_cut_off_hears_nothing_and_goes_on_when_it_is_back(
    network: Network, echo: int
) -> None:
    host = network.host(0)
    address, port = host.way(echo)
    client = subprocess.Popen(
        [*host.prefix, sys.executable, "-c", _CLIENT, address, str(port)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
    )  # fmt: skip
    assert client.stdin is not None
    try:
        client.stdin.write("one\n")
        assert answer(client, 20) == "one\n"

        host.cut()
        client.stdin.write("two\n")
        assert answer(client, 0.7) == ""
        assert client.poll() is None

        host.restore()
        assert answer(client, 20) == "two\n"
    finally:
        client.kill()
        client.communicate()


def test_another_host_is_not_cut_off_with_it(network: Network, echo: int) -> None:
    network.host(0).cut()
    other = network.host(1)
    address, port = other.way(echo)

    said = subprocess.run(
        [*other.prefix, sys.executable, "-c", _CLIENT, address, str(port)],
        input="one\n", capture_output=True, text=True, timeout=20, check=True,
    )  # fmt: skip

    assert said.stdout == "one\n"


def test_proxies_say_why_they_are_there() -> None:
    network = join(namespaces=False)
    try:
        assert "proxy" in network.says
    finally:
        network.close()
