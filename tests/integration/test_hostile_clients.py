"""Whoever reaches the page's socket, with gunicorn as `stocksync web` starts it: slow, oversize and crooked requests."""

from __future__ import annotations

import base64
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from urllib.request import urlopen

import pytest

from stocksync.sandbox import Sandbox
from stocksync.web.server import SILENT_SECONDS
from tests.logins import SETTINGS
from tests.processes import Processes
from tests.servers import free_port, wait_until

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
THREADS = 8
HEAD = b"Host: localhost\r\nConnection: close\r\n"
FORM = b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"


@pytest.fixture
def shop(tmp_path: Path, database_url: str, redis_url: str) -> Iterator[Processes]:
    with (
        Sandbox(token="sandbox") as sandbox,
        Processes(tmp_path, database_url, redis_url, sandbox, **SETTINGS) as processes,
    ):
        yield processes


@pytest.fixture
def port(shop: Processes) -> int:
    """Of a page that answers."""
    found = free_port()
    shop.start("stocksync", "web", "--host", "127.0.0.1", "--port", str(found))
    wait_until(lambda: answers(found), timeout=30, message="the page")
    return found


def answers(port: int, timeout: float = 10) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/healthz", timeout=timeout) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def exchange(port: int, request: bytes) -> tuple[int, bytes]:
    """Status and head of what is answered to `request`, word for word."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(request)
        while b"\r\n\r\n" not in received and (part := client.recv(65536)):
            received += part
    return int(received.split()[1]), received.partition(b"\r\n\r\n")[0]


def stall(port: int, open_: ExitStack, *sent: bytes) -> socket.socket:
    """A client that sends this and then nothing."""
    client = open_.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))
    client.sendall(b"".join(sent))
    return client


UNFINISHED = (b"", FORM, FORM + b"Content-Length: 1000\r\n\r\nname=")


def test_clients_that_stall_keep_no_other_from_the_page(port: int) -> None:
    with ExitStack() as open_:
        for request in UNFINISHED[1:] * 3:
            stall(port, open_, request)
        started = time.monotonic()
        assert all(answers(port) for _ in range(5))
        assert time.monotonic() - started < SILENT_SECONDS / 2


def test_a_client_that_falls_silent_gives_its_thread_back(port: int, shop: Processes) -> None:
    with ExitStack() as open_:
        clients = [stall(port, open_, request) for request in (*UNFINISHED[1:] * (THREADS // 2), b"")]
        assert answers(port, timeout=8 * SILENT_SECONDS)
        for client in clients:
            assert client.recv(12) in (b"", b"HTTP/1.1 400")
    assert answers(port)
    assert "Traceback" not in shop.logs()


REFUSED = (
    (b"GET /login HTTP/1.1\r\n" + HEAD + b"X: " + b"a" * 100_000 + b"\r\n\r\n", 431),
    (b"GET /login HTTP/1.1\r\n" + HEAD + b"X: a\r\n" * 500 + b"\r\n", 431),
    (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n" + HEAD + b"\r\n", 414),
    (FORM + b"Content-Length: 100000000000\r\n\r\nname=", 413),
    (FORM + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (FORM + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nname=", 400),
    # Without its token.
    (FORM + b"Transfer-Encoding: chunked\r\n\r\n" + (b"10000\r\n" + b"a" * 65536 + b"\r\n") * 4 + b"0\r\n\r\n", 403),
)  # fmt: skip


def test_an_oversize_or_ambiguous_request_is_refused_at_once(port: int) -> None:
    started = time.monotonic()
    for sent, status in REFUSED:
        assert exchange(port, sent)[0] == status, sent[:200]
    assert time.monotonic() - started < SILENT_SECONDS / 2
    assert answers(port)


def test_no_client_writes_a_line_of_the_log_or_moves_its_cursor(port: int, shop: Processes) -> None:
    forged = b"x\nFORGED line\r\x1b[2J\xc2\x9b2J"
    basic = base64.b64encode(forged + b":password")
    for request in (
        b"GET /healthz HTTP/1.1\r\n" + HEAD + b"Authorization: Basic " + basic + b"\r\n\r\n",
        b"GET /" + forged + b" HTTP/1.1\r\n" + HEAD + b"\r\n",
        b"GET /?a=%0aFORGED%1b[2J HTTP/1.1\r\n" + HEAD + b"\r\n",
        *(
            b"GET /healthz HTTP/1.1\r\n" + HEAD + name + b": " + text + b"\r\n\r\n"
            for name in (b"User-Agent", b"Referer", b"X-Request-Id", b"X-Forwarded-For", b"Host")
            for text in (b"\xc2\x9b2JFORGED\x85", b"\x1b[2JFORGED", b"a\rFORGED")
        ),
    ):
        assert exchange(port, request)[0] < 500
    assert "/?a=%0aFORGED" in shop.logs()
    for log in shop.folder.glob("*.log"):
        for line in log.read_bytes().decode().split("\n"):
            assert line.isprintable(), line
            assert not line.startswith("FORGED")


def test_no_header_is_forged_through_an_address(port: int) -> None:
    for path in (
        *(
            "/login?next=",
            "/?language=en",
            "/?theme=dark",
            "/",
            "//evil.example/",
            "/operations",
            "/static/",
            "/static//",
        ),
        "/orders/a/",
    ):
        sent = f"GET {path}%0d%0aX-Forged:%20a HTTP/1.1\r\n".encode() + HEAD + b"\r\n"
        _, head = exchange(port, sent)
        assert b"x-forged" not in [line.partition(b":")[0].lower() for line in head.split(b"\r\n")], path


def test_no_path_leads_out_of_the_files_that_are_served(port: int) -> None:
    steps = ("../", "..%2f", "%2e%2e/", "%2e%2e%2f", "..%5c", "%252e%252e%252f", "/", "%2f", "%00/")
    for folder, step in product(("/static/", "/docs/files/", "/orders/"), steps):
        for target, depth in product(("auth.py", "web/auth.py", "etc/passwd"), (1, 2, 12)):
            sent = f"GET {folder}{step * depth}{target} HTTP/1.1\r\n".encode() + HEAD + b"\r\n"
            assert exchange(port, sent)[0] in (303, 308, 400, 404), sent
