"""The sandbox keeps the contract of the orders microservice, and breaks it as asked, over a real socket."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import requests

from stocksync.sandbox import FaultPlan, Sandbox
from stocksync.sandbox.supervisor import CannotStart
from tests.servers import wait_until

NOON = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)
NOON_TEXT = "2024-05-01T12:00:00.000000Z"


class Client:
    """What a sender would do, in short: one kept-alive session with a bearer."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.url = sandbox.url
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["Authorization"] = "Bearer abc"

    def tell(
        self, order_id: str, flag: bool = True, key: str | None = None, token_id: str = "t1"
    ) -> requests.Response:
        body = json.dumps({"token_id": token_id, "is_stock_updated": flag}).encode()
        return self.put(f"/orders/{order_id}/stock-status", body, {"Idempotency-Key": key} if key else None)

    def put(
        self, path: str, body: bytes, headers: dict[str, str] | None = None, timeout: float = 2
    ) -> requests.Response:
        url = f"{self.url}{path}"
        return self.session.put(url, data=body, headers=headers, timeout=timeout, allow_redirects=False)

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.session.get(f"{self.url}{path}", **{"timeout": 2, **options})

    def listed(self, **query: Any) -> dict[str, Any]:
        answer = self.get("/orders", params={"token_id": "t1", **query})
        assert answer.status_code == 200, answer.text
        content: dict[str, Any] = answer.json()
        return content


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


def assert_refused(answer: requests.Response, status: int, word: str = "") -> None:
    """The answer has this status and the contract's own body, naming the word."""
    assert answer.status_code == status
    content = answer.json()
    assert content["success"] is False
    assert word in content["error"]


# The contract


def test_an_update_is_answered_with_success_and_kept(sandbox: Sandbox, client: Client) -> None:
    answer = client.tell("A", True, key="t1:A:1")

    assert (answer.status_code, answer.json()) == (200, {"success": True, "error": None})
    assert sandbox.orders() == [
        {
            "token_id": "t1",
            "order_id": "A",
            "is_stock_updated": True,
            "updated_at": NOON_TEXT,
            "history": [True],
        }
    ]


def test_a_late_repeat_of_a_key_is_answered_again_and_does_not_undo_a_newer_state(
    sandbox: Sandbox, client: Client
) -> None:
    first = client.tell("A", True, key="t1:A:1")
    client.tell("A", False, key="t1:A:2")

    assert client.tell("A", True, key="t1:A:1").json() == first.json()
    assert sandbox.orders()[0]["history"] == [True, False]
    assert (sandbox.stats()["applied"], sandbox.stats()["repeated"]) == (2, 1)


def test_the_same_key_with_other_content_is_refused(sandbox: Sandbox, client: Client) -> None:
    client.tell("A", True, key="t1:A:1")

    assert_refused(client.tell("A", False, key="t1:A:1"), 422, "Idempotency-Key")
    assert sandbox.orders()[0]["is_stock_updated"] is True


def test_without_a_key_every_update_is_applied(sandbox: Sandbox, client: Client) -> None:
    client.tell("A", True)
    client.tell("A", True)

    assert sandbox.orders()[0]["history"] == [True, True]


def test_the_same_order_id_of_two_sellers_is_two_orders(sandbox: Sandbox, client: Client) -> None:
    client.tell("A", True, token_id="t1")
    client.tell("A", False, token_id="t2")

    assert {(row["token_id"], row["is_stock_updated"]) for row in sandbox.orders()} == {
        ("t1", True),
        ("t2", False),
    }


def test_an_order_id_may_hold_any_character(sandbox: Sandbox, client: Client) -> None:
    client.tell("a%2Fb%20%D0%B6")

    assert sandbox.orders()[0]["order_id"] == "a/b ж"


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"{", "JSON"),
        (b"", "JSON"),
        (b"[]", "object"),
        (b'{"token_id": "", "is_stock_updated": true}', "token_id"),
        (b'{"token_id": "t1", "is_stock_updated": 1}', "is_stock_updated"),
    ],
)
def test_a_body_that_is_not_the_contracts_is_refused(client: Client, body: bytes, word: str) -> None:
    assert_refused(client.put("/orders/A/stock-status", body), 400, word)


def test_a_path_outside_the_contract_is_not_answered_in_its_words(client: Client) -> None:
    answer = client.get("/v1/orders/A")

    assert answer.status_code == 404
    assert answer.headers["Content-Type"].startswith("text/html")


def test_one_order_can_be_read_by_its_seller_only(client: Client) -> None:
    client.tell("A", True)

    answer = client.get("/orders/A", params={"token_id": "t1"})

    assert answer.json() == {"id": "A", "is_stock_updated": True, "updated_at": NOON_TEXT}
    assert_refused(client.get("/orders/A", params={"token_id": "t2"}), 404)


def test_a_missing_or_wrong_bearer_is_refused_and_nothing_is_applied(
    sandbox: Sandbox, client: Client
) -> None:
    client.session.headers["Authorization"] = "Bearer abd"
    assert_refused(client.tell("A"), 401, "bearer")
    assert_refused(requests.get(f"{sandbox.url}/orders?token_id=t1", timeout=2), 401, "bearer")
    assert sandbox.orders() == []


def test_health_is_answered_without_a_bearer(sandbox: Sandbox) -> None:
    answer = requests.get(f"{sandbox.url}/health", timeout=2)

    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_orders_are_listed_in_pages_without_gap_or_repeat(client: Client) -> None:
    names = [f"order+ж {number}" for number in range(6)]
    for name in names:
        client.tell(name)

    seen, cursor, pages = [], "", 0
    while pages == 0 or cursor:
        page = client.listed(limit=3, cursor=cursor)
        seen += [order["id"] for order in page["orders"]]
        cursor, pages = page["next_cursor"], pages + 1

    assert (seen, pages) == (names, 2)


def test_an_order_changed_while_it_is_listed_is_not_skipped_though_the_clock_stands_still(
    client: Client,
) -> None:
    for name in ("B", "C", "A"):
        client.tell(name, True)
    first = client.listed(limit=2)
    client.tell("B", False)

    second = client.listed(cursor=first["next_cursor"])

    assert [(order["id"], order["is_stock_updated"]) for order in second["orders"]] == [
        ("A", True),
        ("B", False),
    ]


def test_orders_dated_alike_are_listed_by_id(sandbox: Sandbox, client: Client) -> None:
    same = {"token_id": "t1", "is_stock_updated": True, "updated_at": "2024-04-01T02:00:00+02:00"}
    sandbox.set_orders({**same, "order_id": name} for name in "CAB")

    first = client.listed(limit=2)
    second = client.listed(cursor=first["next_cursor"])

    assert [order["id"] for order in first["orders"] + second["orders"]] == ["A", "B", "C"]


def test_updated_since_keeps_what_changed_then_or_later(client: Client) -> None:
    for name in ("A", "B", "C"):
        client.tell(name)
    since = client.listed()["orders"][1]["updated_at"]

    assert [order["id"] for order in client.listed(updated_since=since)["orders"]] == ["B", "C"]


def test_a_list_holds_100_orders_unless_asked_otherwise(sandbox: Sandbox, client: Client) -> None:
    sandbox.set_orders({"token_id": "t1", "order_id": str(n), "is_stock_updated": True} for n in range(600))

    assert len(client.listed()["orders"]) == 100
    assert len(client.listed(limit=500)["orders"]) == 500


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ({}, "token_id"),
        ({"token_id": "t1", "limit": "501"}, "limit"),
        ({"token_id": "t1", "updated_since": "2024-05-01T12:00:00"}, "updated_since"),
    ],
)
def test_a_list_asked_for_wrongly_is_refused(client: Client, query: dict[str, str], word: str) -> None:
    assert_refused(client.get("/orders", params=query), 400, word)


def test_orders_set_by_somebody_else_are_not_counted_as_told_and_can_be_removed(
    sandbox: Sandbox, client: Client
) -> None:
    client.tell("A", True, key="t1:A:1")
    sandbox.set_orders(
        [
            {"token_id": "t1", "order_id": "A", "removed": True},
            {"token_id": "t1", "order_id": "B", "is_stock_updated": True},
        ]
    )

    assert [order["id"] for order in client.listed()["orders"]] == ["B"]
    assert sandbox.orders()[0]["history"] == []
    client.tell("A", True, key="t1:A:1")
    assert sandbox.orders()[1]["history"] == [True], "the key of a removed order is void"


# Faults


@pytest.mark.parametrize(
    ("faults", "status"),
    [
        ({"error_share": 1, "error_status": 500}, 500),
        ({"rate_limit_share": 1}, 429),
        ({"not_success_share": 1}, 200),
    ],
)
def test_a_request_that_meets_a_fault_is_not_applied_and_its_key_is_good_for_the_retry(
    sandbox: Sandbox, client: Client, faults: dict[str, Any], status: int
) -> None:
    sandbox.set_faults(**faults)

    assert_refused(client.tell("A", key="t1:A:1"), status)
    assert sandbox.orders() == []
    sandbox.set_faults(**dict.fromkeys((name for name in faults if name.endswith("share")), 0))
    assert client.tell("A", key="t1:A:1").json()["success"] is True
    assert sandbox.stats()["answers"] == {str(status): 1, "200": 1} if status != 200 else {"200": 2}


@pytest.mark.parametrize("fault", [{"rate_limit_share": 1}, {"outage": "maintenance"}])
def test_retry_after_is_sent_as_given(sandbox: Sandbox, client: Client, fault: dict[str, Any]) -> None:
    sandbox.set_faults(retry_after="Wed, 01 May 2024 12:00:30 GMT", **fault)
    assert client.tell("A").headers["Retry-After"] == "Wed, 01 May 2024 12:00:30 GMT"

    sandbox.set_faults(retry_after=None)
    assert "Retry-After" not in client.tell("A").headers


@pytest.mark.parametrize("fault", [{"reset_share": 1}, {"outage": "reset"}])
def test_a_reset_breaks_the_connection_before_applying(
    sandbox: Sandbox, client: Client, fault: dict[str, Any]
) -> None:
    sandbox.set_faults(**fault)

    with pytest.raises(requests.ConnectionError, match="reset"):
        client.tell("A")
    assert sandbox.orders() == []


def test_a_dropped_answer_was_applied_and_its_repeat_is_not(sandbox: Sandbox, client: Client) -> None:
    sandbox.set_faults(drop_after_apply_share=1)
    with pytest.raises(requests.ConnectionError, match="without response"):
        client.tell("A", key="t1:A:1")
    sandbox.set_faults(drop_after_apply_share=0)

    assert client.tell("A", key="t1:A:1").json()["success"] is True
    assert sandbox.orders()[0]["history"] == [True]


def test_a_redirect_leads_elsewhere_and_is_not_applied(sandbox: Sandbox, client: Client) -> None:
    sandbox.set_faults(bad_body="redirect", redirect_to="https://login.invalid/")

    answer = client.tell("A")

    assert (answer.status_code, answer.headers["Location"]) == (302, "https://login.invalid/")
    assert sandbox.orders() == []


@pytest.mark.parametrize(
    ("bad_body", "text"), [("html", "<!doctype html>"), ("empty", ""), ("no_success", '{"status": "acc')]
)
def test_a_bad_body_comes_with_200_after_applying(
    sandbox: Sandbox, client: Client, bad_body: str, text: str
) -> None:
    sandbox.set_faults(bad_body=bad_body)

    answer = client.tell("A")

    assert (answer.status_code, answer.text[:15]) == (200, text)
    assert sandbox.orders()[0]["history"] == [True]


def test_a_refusal_is_not_spoiled(sandbox: Sandbox, client: Client) -> None:
    sandbox.set_faults(bad_body="html", drop_after_apply_share=1)

    assert_refused(client.put("/orders/A/stock-status", b"{}"), 400)


def test_a_truncated_body_ends_before_its_announced_length(sandbox: Sandbox, client: Client) -> None:
    sandbox.set_faults(bad_body="truncated")

    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="IncompleteRead"):
        client.tell("A")


def test_a_huge_body_is_10_mb_of_good_json(sandbox: Sandbox, client: Client) -> None:
    sandbox.set_faults(bad_body="huge")

    answer = client.tell("A")

    assert len(answer.content) == 10_000_000
    assert json.loads(answer.content)["success"] is True


@pytest.mark.parametrize(
    ("bad_body", "start", "drop"),
    [("endless", b"HTTP/1.1 200 OK\r\n", b"  "), ("slow_headers", b"HTTP/1.1 200 OK\r\n", b"xx")],
)
def test_an_answer_without_end_drips_until_the_client_goes(
    sandbox: Sandbox, bad_body: str, start: bytes, drop: bytes
) -> None:
    sandbox.set_faults(bad_body=bad_body)
    with socket.create_connection(("127.0.0.1", sandbox.port), timeout=2) as raw:
        raw.sendall(b"GET /orders?token_id=t1 HTTP/1.1\r\nAuthorization: Bearer abc\r\n\r\n")
        received = b""
        while not received.endswith(drop):
            received += raw.recv(4096)

    assert received.startswith(start)
    assert (b"\r\n\r\n" in received) == (bad_body == "endless")


def test_a_client_that_gave_up_waiting_was_served_all_the_same(sandbox: Sandbox, client: Client) -> None:
    sandbox.set_faults(latency_ms=200)

    with pytest.raises(requests.Timeout):
        client.put(
            "/orders/A/stock-status", b'{"token_id": "t1", "is_stock_updated": true}', None, timeout=0.05
        )
    wait_until(lambda: sandbox.stats()["applied"] == 1)


def test_only_an_outage_reaches_health(sandbox: Sandbox, client: Client) -> None:
    sandbox.set_faults(error_share=1, bad_body="html", reset_share=1)
    assert client.get("/health").status_code == 200

    sandbox.set_faults(outage="maintenance")
    assert client.get("/health").status_code == 503


def test_one_after_another_the_same_requests_meet_the_same_faults_again(
    sandbox: Sandbox, client: Client
) -> None:
    def errors(**faults: Any) -> list[int]:
        sandbox.set_faults(error_share=0.5, seed=7, **faults)
        return [number for number in range(30) if client.tell(str(number)).status_code == 503]

    first = errors()

    assert 0 < len(first) < 30
    assert errors() == first
    assert errors(not_success_share=0.5) == first, "another fault does not move those of this one"


@pytest.mark.parametrize(
    "changes",
    [
        {"latency": 3},
        {"error_share": 1.5},
        {"latency_ms": float("nan")},
        {"error_status": 200},
        {"bad_body": "xml"},
        {"retry_after": "1\r\nX: y"},
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(sandbox: Sandbox, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        sandbox.set_faults(**changes)
    assert sandbox.faults == FaultPlan()


# Refused connections


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
        sandbox.set_orders([{"token_id": "t1", "order_id": "A", "is_stock_updated": True}])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", sandbox.port), timeout=2)

    sandbox.set_faults(latency_ms=0)
    with sandbox:
        assert sandbox.url == url
        assert Client(sandbox).get("/orders/A", params={"token_id": "t1"}).status_code == 200
