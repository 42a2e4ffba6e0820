"""The stand-in microservice as a server: connections refused, its control over HTTP, its start and end."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
import requests

from stocksync.sandbox import FaultPlan, Sandbox
from stocksync.sandbox.supervisor import CannotStart
from tests.remote_orders import set_orders
from tests.sandbox_client import NOON, Client


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    # The clock stands still: whatever the sandbox promises must hold without its help.
    with Sandbox("abc", clock=lambda: NOON) as running:
        yield running


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[Client]:
    made = Client(sandbox)
    with made.session:
        yield made


def test_refused_connections_are_refused_by_the_system_until_accepted_again(
    sandbox: Sandbox, client: Client
) -> None:
    client.tell("A")
    sandbox.refuse()
    with pytest.raises(requests.ConnectionError):
        client.tell("B")  # on the connection that was kept alive
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", sandbox.port), timeout=2)
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", sandbox.port))

    sandbox.accept()
    assert client.tell("B").status_code == 200


def test_a_request_in_hand_when_connections_are_refused_is_not_applied(
    sandbox: Sandbox, client: Client
) -> None:
    sandbox.set_faults(latency_ms=60_000)
    with pytest.raises(requests.Timeout):
        client.put("/orders/A/stock-status", b"{}", None, timeout=0.05)
    sandbox.refuse()
    sandbox.set_faults(latency_ms=0)
    sandbox.accept()

    assert client.tell("B").status_code == 200
    assert [row["order_id"] for row in sandbox.orders()] == ["B"]


# The control over HTTP


def test_faults_are_read_and_changed_in_part_over_http_whatever_is_in_force(
    sandbox: Sandbox, client: Client
) -> None:
    client.put("/_sandbox/faults", b'{"outage": "reset"}')
    client.put("/_sandbox/faults", b'{"latency_ms": 3}')

    assert client.get("/_sandbox/faults").json() == {
        **FaultPlan().model_dump(),
        "outage": "reset",
        "latency_ms": 3,
    }
    assert sandbox.faults == FaultPlan(outage="reset", latency_ms=3)


@pytest.mark.parametrize("body", [b'{"latency": 3}', b"[]", b"{"])
def test_a_change_over_http_that_makes_no_sense_is_refused(
    sandbox: Sandbox, client: Client, body: bytes
) -> None:
    answer = client.put("/_sandbox/faults", body)

    assert answer.status_code == 400
    assert answer.json()["error"]
    assert sandbox.faults == FaultPlan()


def test_stats_and_orders_are_shown_over_http(sandbox: Sandbox, client: Client) -> None:
    client.tell("A", True)
    client.get("/orders")

    assert client.get("/_sandbox/orders").json() == sandbox.orders()
    assert client.get("/_sandbox/stats").json() == {
        "applied": 1,
        "repeated": 0,
        "requests": {"PUT": 1, "GET": 1},
        "answers": {"200": 1, "400": 1},
    }
    assert "stats" in client.get("/_sandbox/weather").json()["error"]


def test_only_this_machine_may_change_the_sandbox() -> None:
    own = own_address()
    if own is None:
        pytest.skip("this machine has no address but the loopback one")
    with Sandbox("abc", host="0.0.0.0") as open_to_all:
        assert requests.get(f"http://{own}:{open_to_all.port}/_sandbox/stats", timeout=2).status_code == 403


def own_address() -> str | None:
    """An address of this machine that is not a loopback one, found without sending anything."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address: str = probe.getsockname()[0]
    return None if address.startswith(("127.", "0.")) else address


# The server


def test_kept_alive_requests_are_not_held_up_by_delayed_acknowledgements(client: Client) -> None:
    client.tell("A")
    began = time.monotonic()
    for number in range(20):
        client.tell(str(number))

    assert time.monotonic() - began < 20 * 0.04


def test_a_taken_port_is_named(sandbox: Sandbox) -> None:
    with (
        pytest.raises(CannotStart, match=f"port {sandbox.port} .*is taken"),
        Sandbox("abc", port=sandbox.port),
    ):
        pass


def test_it_stops_though_requests_hang_and_starts_again_on_its_port_with_its_orders() -> None:
    sandbox = Sandbox("abc", faults=FaultPlan(latency_ms=60_000))
    with sandbox:
        url = sandbox.url
        with pytest.raises(requests.Timeout):
            requests.get(f"{url}/health", timeout=0.05)
        set_orders(sandbox, [{"token_id": "t1", "order_id": "A", "is_stock_updated": True}])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", sandbox.port), timeout=2)

    sandbox.set_faults(latency_ms=0)
    with sandbox:
        assert sandbox.url == url
        assert Client(sandbox).get("/orders/A", params={"token_id": "t1"}).status_code == 200
