"""The sandbox keeps the contract of the orders microservice, and breaks it as asked, over a real socket."""

import base64
import hmac
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests

from stocksync.sandbox import BadFault, FaultPlan, PortUnavailable, Sandbox, SandboxError, make_token
from stocksync.sandbox.orders import OrderBook, Outcome

NOON = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)
SECRET = "a secret that is long enough for HS256"


class Client:
    """What a sender would do, in short: one kept-alive session with a bearer."""

    def __init__(self, sandbox: Sandbox, token: str = "abc") -> None:
        self.url = sandbox.url
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["Authorization"] = f"Bearer {token}"

    def tell(
        self, order_id: str, flag: bool = True, key: str | None = None, token_id: str = "t1"
    ) -> requests.Response:
        return self.session.put(
            f"{self.url}/orders/{order_id}/stock-status",
            json={"token_id": token_id, "is_stock_updated": flag},
            headers={"Idempotency-Key": key} if key else {},
            timeout=2,
        )

    def tell_raw(self, body: bytes) -> requests.Response:
        return self.session.put(f"{self.url}/orders/A/stock-status", data=body, timeout=2)

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.session.get(f"{self.url}{path}", **{"timeout": 2, **options})

    def control(self, method: str, name: str, content: Any = None) -> requests.Response:
        return self.session.request(method, f"{self.url}/_sandbox/{name}", json=content, timeout=2)

    def listed(self, **query: Any) -> dict[str, Any]:
        answer = self.get("/orders", params={"token_id": "t1", **query})
        assert answer.status_code == 200, answer.text
        content: dict[str, Any] = answer.json()
        return content


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    # The clock stands still: whatever the sandbox promises must hold without its help.
    with Sandbox(token="abc", clock=lambda: NOON) as running:
        yield running


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[Client]:
    made = Client(sandbox)
    with made.session:
        yield made


def assert_refused(answer: requests.Response, status: int, *words: str) -> None:
    """The answer has this status and the contract's own body, naming the words."""
    assert answer.status_code == status
    content = answer.json()
    assert set(content) == {"success", "error"}
    assert content["success"] is False
    for word in words:
        assert word in content["error"]


def signed_by_hand(header: Any, claims: Any) -> str:
    """A token with any header and claims, rightly signed all the same."""

    def encoded(raw: bytes) -> str:
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    signed = f"{encoded(json.dumps(header).encode())}.{encoded(json.dumps(claims).encode())}"
    return f"{signed}.{encoded(hmac.digest(SECRET.encode(), signed.encode(), 'sha256'))}"


def wait_until(condition: Callable[[], bool], seconds: float = 2) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.005)


# The contract


def test_an_order_told_of_is_answered_with_success_and_kept(sandbox: Sandbox, client: Client) -> None:
    answer = client.tell("A", True, key="t1:A:1")

    assert answer.status_code == 200
    assert answer.json() == {"success": True, "error": None}
    assert sandbox.orders() == [
        {
            "token_id": "t1",
            "order_id": "A",
            "is_stock_updated": True,
            "updated_at": "2024-05-01T12:00:00.000000Z",
            "times_applied": 1,
            "history": [True],
        }
    ]


def test_the_same_key_with_the_same_content_is_answered_again_and_not_applied_twice(
    sandbox: Sandbox, client: Client
) -> None:
    first = client.tell("A", True, key="t1:A:1")
    second = client.tell("A", True, key="t1:A:1")

    assert second.json() == first.json()
    assert sandbox.orders()[0]["times_applied"] == 1
    assert sandbox.stats()["applied"] == 1
    assert sandbox.stats()["repeated"] == 1


def test_a_late_repeat_does_not_undo_a_newer_state(sandbox: Sandbox, client: Client) -> None:
    client.tell("A", True, key="t1:A:1")
    client.tell("A", False, key="t1:A:2")
    client.tell("A", True, key="t1:A:1")

    assert sandbox.orders()[0]["history"] == [True, False]


def test_the_same_key_with_other_content_is_refused(sandbox: Sandbox, client: Client) -> None:
    client.tell("A", True, key="t1:A:1")

    assert_refused(client.tell("A", False, key="t1:A:1"), 422, "Idempotency-Key")
    assert sandbox.orders()[0]["is_stock_updated"] is True
    assert sandbox.stats()["key_conflicts"] == 1


def test_without_a_key_every_request_is_applied(sandbox: Sandbox, client: Client) -> None:
    client.tell("A", True)
    client.tell("A", True)

    assert sandbox.orders()[0]["times_applied"] == 2


def test_the_oldest_keys_are_forgotten_first() -> None:
    book = OrderBook(max_keys=2)
    for order_id in ("A", "B", "C"):
        book.tell("t1", order_id, True, f"key of {order_id}", NOON)

    assert book.tell("t1", "C", True, "key of C", NOON) is Outcome.REPEATED
    assert book.tell("t1", "A", True, "key of A", NOON) is Outcome.APPLIED


def test_the_same_order_id_of_two_accounts_is_two_orders(sandbox: Sandbox, client: Client) -> None:
    client.tell("A", True, token_id="t1")
    client.tell("A", False, token_id="t2")

    assert {(row["token_id"], row["is_stock_updated"]) for row in sandbox.orders()} == {
        ("t1", True),
        ("t2", False),
    }


def test_an_order_id_may_hold_any_character(sandbox: Sandbox, client: Client) -> None:
    client.tell("a%2Fb%20%D0%B6")

    assert sandbox.orders()[0]["order_id"] == "a/b ж"


def test_a_strict_sandbox_does_not_know_an_order_it_was_not_given() -> None:
    with Sandbox(unknown_orders="refuse") as strict:
        strict.set_orders([{"token_id": "t1", "order_id": "known", "is_stock_updated": False}])
        client = Client(strict)

        assert client.tell("known").status_code == 200
        assert_refused(client.tell("A", key="t1:A:1"), 404, "A")
        strict.set_orders([{"token_id": "t1", "order_id": "A", "is_stock_updated": False}])
        assert client.tell("A", key="t1:A:1").status_code == 200


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 20_000, "not JSON"),
        (b"", "not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"is_stock_updated": true}', "token_id"),
        (b'{"token_id": "", "is_stock_updated": true}', "token_id"),
        (b'{"token_id": "t1"}', "is_stock_updated"),
        (b'{"token_id": "t1", "is_stock_updated": 1}', "is_stock_updated"),
    ],
)
def test_a_body_that_is_not_the_contracts_is_refused(client: Client, body: bytes, word: str) -> None:
    assert_refused(client.tell_raw(body), 400, word)


def test_a_body_over_64_kib_is_refused_and_the_sender_learns_why(client: Client) -> None:
    assert_refused(client.tell_raw(b" " * (64 * 1024 + 1)), 413, "65536")


def test_a_body_of_64_kib_is_read(client: Client) -> None:
    body = b'{"token_id": "t1", "is_stock_updated": true}'

    assert client.tell_raw(body + b" " * (64 * 1024 - len(body))).status_code == 200


def test_a_chunked_body_is_refused(client: Client) -> None:
    answer = client.session.put(f"{client.url}/orders/A/stock-status", data=iter([b"{}"]), timeout=2)

    assert_refused(answer, 411, "Content-Length")


def test_a_path_outside_the_contract_is_not_answered_in_its_words(client: Client) -> None:
    answer = client.get("/v1/orders/A")

    assert answer.status_code == 404
    assert answer.headers["Content-Type"].startswith("text/html")


def test_a_method_outside_the_contract_is_refused_with_the_one_allowed(client: Client) -> None:
    answer = client.get("/orders/A/stock-status")

    assert (answer.status_code, answer.headers["Allow"]) == (405, "PUT")


def test_one_order_can_be_read(client: Client) -> None:
    client.tell("A", True)

    answer = client.get("/orders/A", params={"token_id": "t1"})

    assert answer.json() == {"id": "A", "is_stock_updated": True, "updated_at": "2024-05-01T12:00:00.000000Z"}


def test_an_order_of_another_account_is_not_shown(client: Client) -> None:
    client.tell("A", True, token_id="t2")

    assert_refused(client.get("/orders/A", params={"token_id": "t1"}), 404, "A")


def test_health_is_answered_without_a_bearer(sandbox: Sandbox) -> None:
    answer = requests.get(f"{sandbox.url}/health", timeout=2)

    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


# Listing


def test_orders_are_listed_in_pages_without_gap_or_repeat(client: Client) -> None:
    names = [f"order {number}" for number in range(7)]
    for name in names:
        client.tell(name)

    seen, cursor, pages = [], None, 0
    while pages == 0 or cursor:
        page = client.listed(limit=3, **({"cursor": cursor} if cursor else {}))
        seen += [order["id"] for order in page["orders"]]
        cursor, pages = page["next_cursor"], pages + 1

    assert seen == names
    assert pages == 3


def test_the_last_full_page_has_no_cursor(client: Client) -> None:
    for name in ("A", "B"):
        client.tell(name)

    assert client.listed(limit=2)["next_cursor"] is None


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
    moment = "2024-04-01T00:00:00Z"
    sandbox.set_orders(
        [
            {"token_id": "t1", "order_id": name, "is_stock_updated": True, "updated_at": moment}
            for name in "CAB"
        ]
    )

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
        ({"token_id": "t1", "limit": "0"}, "limit"),
        ({"token_id": "t1", "limit": "501"}, "limit"),
        ({"token_id": "t1", "limit": "many"}, "limit"),
        ({"token_id": "t1", "cursor": "made up"}, "cursor"),
        ({"token_id": "t1", "cursor": "W10="}, "cursor"),
        ({"token_id": "t1", "updated_since": "2024-05-01T12:00:00"}, "updated_since"),
    ],
)
def test_a_list_asked_for_wrongly_is_refused(client: Client, query: dict[str, str], word: str) -> None:
    assert_refused(client.get("/orders", params=query), 400, word)


# Bearers


@pytest.mark.parametrize("path", ["/orders?token_id=t1", "/orders/A?token_id=t1"])
def test_a_request_without_a_bearer_is_refused(sandbox: Sandbox, path: str) -> None:
    assert_refused(requests.get(f"{sandbox.url}{path}", timeout=2), 401, "Authorization")


def test_a_wrong_bearer_is_refused_and_nothing_is_applied(sandbox: Sandbox) -> None:
    assert_refused(Client(sandbox, token="abd").tell("A"), 401, "wrong")
    assert sandbox.orders() == []


def test_any_bearer_will_do_when_none_is_set() -> None:
    with Sandbox() as lenient:
        assert Client(lenient, token="whatever").tell("A").status_code == 200
        assert_refused(requests.get(f"{lenient.url}/orders?token_id=t1", timeout=2), 401)


def test_a_token_made_here_is_accepted_until_it_expires() -> None:
    present = [NOON]
    with Sandbox(jwt_secret=SECRET, clock=lambda: present[0]) as signed:
        client = Client(signed, token=make_token(SECRET, NOON, timedelta(minutes=5)))
        assert client.tell("A").status_code == 200

        present[0] = NOON + timedelta(minutes=5)
        assert_refused(client.tell("A"), 401, "expired")


def test_a_token_without_lifetime_never_expires() -> None:
    with Sandbox(jwt_secret=SECRET, clock=lambda: NOON + timedelta(days=36500)) as signed:
        assert Client(signed, token=make_token(SECRET, NOON)).tell("A").status_code == 200


def test_a_token_made_elsewhere_is_accepted() -> None:
    # The example token of jwt.io, with its secret.
    token = (
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"
        ".eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyfQ"
        ".SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c"
    )
    with Sandbox(jwt_secret="your-256-bit-secret") as signed:
        assert Client(signed, token=token).tell("A").status_code == 200


def test_either_bearer_will_do_when_both_are_set() -> None:
    with Sandbox(token="abc", jwt_secret=SECRET) as sandbox:
        assert Client(sandbox, token="abc").tell("A").status_code == 200
        assert Client(sandbox, token=make_token(SECRET, NOON)).tell("A").status_code == 200


@pytest.mark.parametrize(
    ("token", "word"),
    [
        (make_token("another secret", NOON), "signature"),
        (signed_by_hand({"alg": "HS512"}, {"sub": "x"}), "HS256"),
        (signed_by_hand({"alg": "none"}, {"sub": "x"}), "HS256"),
        (signed_by_hand({"alg": "HS256"}, ["sub"]), "HS256"),
        (signed_by_hand({"alg": "HS256"}, {"exp": "soon"}), "exp"),
        (signed_by_hand({"alg": "HS256"}, {"exp": float("nan")}), "expired"),
        (make_token(SECRET, NOON)[:-4], "signature"),
        ("opaque", "not a JWT"),
        ("a.b.c", "not a JWT"),
    ],
)
def test_a_token_that_is_not_good_is_refused_with_the_reason(token: str, word: str) -> None:
    with Sandbox(jwt_secret=SECRET, clock=lambda: NOON) as signed:
        assert_refused(Client(signed, token=token).tell("A"), 401, word)


# Faults: no service


def test_an_error_is_answered_with_its_status_and_not_applied(sandbox: Sandbox, client: Client) -> None:
    sandbox.set_faults(error_share=1, error_status=500)

    assert_refused(client.tell("A"), 500)
    assert sandbox.orders() == []


def test_health_stays_well_while_orders_fail(sandbox: Sandbox, client: Client) -> None:
    sandbox.set_faults(error_share=1, bad_body="html", reset_share=1)

    assert client.get("/health").json() == {"status": "ok"}


@pytest.mark.parametrize("retry_after", ["7", "Wed, 01 May 2024 12:00:30 GMT", "soon"])
def test_a_rate_limit_sends_retry_after_as_given(sandbox: Sandbox, client: Client, retry_after: str) -> None:
    sandbox.set_faults(rate_limit_share=1, retry_after=retry_after)

    answer = client.tell("A")

    assert_refused(answer, 429)
    assert answer.headers["Retry-After"] == retry_after


def test_a_rate_limit_may_come_without_retry_after(sandbox: Sandbox, client: Client) -> None:
    sandbox.set_faults(rate_limit_share=1, retry_after=None)

    assert "Retry-After" not in client.tell("A").headers


def test_not_success_is_said_with_200_and_not_applied(sandbox: Sandbox, client: Client) -> None:
    sandbox.set_faults(not_success_share=1)

    assert_refused(client.tell("A"), 200)
    assert sandbox.orders() == []


def test_a_key_that_met_a_fault_is_good_for_the_retry(sandbox: Sandbox, client: Client) -> None:
    sandbox.set_faults(not_success_share=1)
    client.tell("A", key="t1:A:1")
    sandbox.set_faults(not_success_share=0)

    client.tell("A", key="t1:A:1")

    assert (sandbox.stats()["applied"], sandbox.stats()["repeated"]) == (1, 0)


def test_a_reset_breaks_the_connection_before_applying(sandbox: Sandbox, client: Client) -> None:
    sandbox.set_faults(reset_share=1)

    with pytest.raises(requests.ConnectionError, match="reset"):
        client.tell("A")
    assert sandbox.orders() == []
    assert sandbox.stats()["unanswered"] == {"reset": 1}


def test_a_redirect_leads_elsewhere_and_is_not_applied(sandbox: Sandbox, client: Client) -> None:
    sandbox.set_faults(bad_body="redirect", redirect_to="https://login.invalid/")

    answer = client.session.put(f"{client.url}/orders/A/stock-status", allow_redirects=False, timeout=2)

    assert (answer.status_code, answer.headers["Location"]) == (302, "https://login.invalid/")
    assert sandbox.orders() == []


# Faults: served, and the answer lost or spoiled


def test_a_dropped_answer_was_applied(sandbox: Sandbox, client: Client) -> None:
    sandbox.set_faults(drop_after_apply_share=1)

    with pytest.raises(requests.ConnectionError, match="without response"):
        client.tell("A", key="t1:A:1")
    assert sandbox.orders()[0]["times_applied"] == 1


def test_a_repeat_after_a_dropped_answer_is_not_applied_again(sandbox: Sandbox, client: Client) -> None:
    sandbox.set_faults(drop_after_apply_share=1)
    with pytest.raises(requests.ConnectionError):
        client.tell("A", key="t1:A:1")
    sandbox.set_faults(drop_after_apply_share=0)

    assert client.tell("A", key="t1:A:1").json()["success"] is True
    assert sandbox.orders()[0]["times_applied"] == 1


def test_a_refusal_is_not_dropped_nor_spoiled(sandbox: Sandbox, client: Client) -> None:
    sandbox.set_faults(drop_after_apply_share=1, bad_body="html")

    assert_refused(client.tell_raw(b"{}"), 400)


@pytest.mark.parametrize(
    ("bad_body", "text"),
    [("html", "<!doctype html>"), ("empty", ""), ("no_success", '{"status":"accepted"}')],
)
def test_a_bad_body_comes_with_200_after_applying(
    sandbox: Sandbox, client: Client, bad_body: str, text: str
) -> None:
    sandbox.set_faults(bad_body=bad_body)

    answer = client.tell("A")

    assert answer.status_code == 200
    assert answer.text.startswith(text)
    assert answer.text == text or bad_body == "html"
    assert sandbox.orders()[0]["times_applied"] == 1


def test_a_truncated_body_ends_before_its_announced_length(sandbox: Sandbox, client: Client) -> None:
    sandbox.set_faults(bad_body="truncated")

    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="IncompleteRead"):
        client.tell("A")
    assert sandbox.orders()[0]["times_applied"] == 1


def test_a_huge_body_is_10_mb_of_good_json(sandbox: Sandbox, client: Client) -> None:
    client.tell("A")
    sandbox.set_faults(bad_body="huge")

    answer = client.get("/orders/A", params={"token_id": "t1"})

    assert len(answer.content) == 10_000_000
    assert json.loads(answer.content)["id"] == "A"


def test_an_endless_body_drips_until_the_client_goes(sandbox: Sandbox, client: Client) -> None:
    sandbox.set_faults(bad_body="endless")
    answer = client.get("/orders", params={"token_id": "t1"}, stream=True)

    pieces = answer.iter_content(1)
    assert [next(pieces), next(pieces)] == [b" ", b" "]
    assert client.control("GET", "stats").json()["max_concurrent"] == 1
    answer.close()


def test_slow_headers_never_end(sandbox: Sandbox) -> None:
    sandbox.set_faults(bad_body="slow_headers")
    with socket.create_connection(("127.0.0.1", sandbox.port), timeout=2) as raw:
        raw.sendall(b"GET /orders?token_id=t1 HTTP/1.1\r\nAuthorization: Bearer abc\r\n\r\n")
        received = b""
        while not received.endswith(b"xx"):
            received += raw.recv(4096)

    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\n\r\n" not in received


def test_latency_is_waited_before_answering(sandbox: Sandbox, client: Client) -> None:
    sandbox.set_faults(latency_ms=60)

    began = time.monotonic()
    client.tell("A")

    assert time.monotonic() - began >= 0.06


def test_a_client_that_gave_up_waiting_was_served_all_the_same(sandbox: Sandbox, client: Client) -> None:
    sandbox.set_faults(latency_ms=100)

    with pytest.raises(requests.Timeout):
        client.session.put(
            f"{client.url}/orders/A/stock-status",
            json={"token_id": "t1", "is_stock_updated": True},
            timeout=0.03,
        )
    wait_until(lambda: sandbox.stats()["applied"] == 1)


# Faults: which requests they meet


def test_a_fault_of_one_order_leaves_the_others_alone(sandbox: Sandbox, client: Client) -> None:
    sandbox.set_faults(order_faults={"X": {"error_share": 1.0, "error_status": 422}})

    assert_refused(client.tell("X"), 422)
    assert client.tell("A").status_code == 200


def test_one_order_may_be_spared_what_meets_all_others(sandbox: Sandbox, client: Client) -> None:
    sandbox.set_faults(error_share=1, order_faults={"A": {"error_share": 0}})

    assert client.tell("A").status_code == 200
    assert client.tell("B").status_code == 503


def test_a_sequential_run_meets_the_same_faults_again(sandbox: Sandbox, client: Client) -> None:
    def run() -> list[int]:
        sandbox.set_faults(error_share=0.5, seed=7)
        return [client.tell(str(number)).status_code for number in range(30)]

    first = run()

    assert set(first) == {200, 503}
    assert run() == first


def test_switching_one_fault_on_leaves_the_others_where_they_were(sandbox: Sandbox, client: Client) -> None:
    def errors() -> list[int]:
        return [n for n in range(30) if client.tell(str(n)).status_code == 503]

    sandbox.set_faults(error_share=0.5, seed=7)
    before = errors()
    sandbox.set_faults(not_success_share=0.5, latency_jitter_ms=0.1, seed=7)

    assert errors() == before


def test_the_control_api_meets_no_fault(sandbox: Sandbox, client: Client) -> None:
    sandbox.set_faults(reset_share=1, error_share=1, latency_ms=5000, bad_body="empty")
    sandbox.set_outage("timeout")

    assert client.control("GET", "faults").json()["latency_ms"] == 5000


# Outages


@pytest.mark.parametrize(("kind", "status"), [("500", 500), ("502", 502), ("503", 503), ("maintenance", 503)])
def test_an_outage_answers_everything_with_a_page(
    sandbox: Sandbox, client: Client, kind: str, status: int
) -> None:
    sandbox.set_outage(kind)

    answer = client.tell("A")

    assert answer.status_code == status
    assert answer.headers["Content-Type"].startswith("text/html")
    assert ("Retry-After" in answer.headers) == (kind == "maintenance")
    assert client.get("/health").status_code == 503
    assert sandbox.orders() == []


def test_a_timeout_outage_answers_nothing(sandbox: Sandbox, client: Client) -> None:
    sandbox.set_outage("timeout")

    with pytest.raises(requests.ReadTimeout):
        client.get("/health", timeout=0.05)
    assert sandbox.stats()["unanswered"] == {"hung": 1}


def test_a_reset_outage_breaks_every_connection(sandbox: Sandbox, client: Client) -> None:
    sandbox.set_outage("reset")

    with pytest.raises(requests.ConnectionError, match="reset"):
        client.get("/health")


def test_an_outage_of_some_seconds_ends_by_itself(sandbox: Sandbox, client: Client) -> None:
    sandbox.set_outage("503", seconds=1)
    assert client.get("/health").status_code == 503

    wait_until(lambda: client.get("/health").status_code == 200)


def test_a_new_outage_is_not_ended_by_the_time_of_the_one_before(sandbox: Sandbox, client: Client) -> None:
    sandbox.set_outage("503", seconds=0.03)
    sandbox.set_outage("502")
    time.sleep(0.06)

    assert client.tell("A").status_code == 502


def test_refused_connections_are_refused_by_the_system_until_accepted_again(sandbox: Sandbox) -> None:
    sandbox.refuse()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", sandbox.port), timeout=2)

    sandbox.accept()
    assert Client(sandbox).tell("A").status_code == 200


def test_refusing_breaks_connections_that_are_kept_alive(sandbox: Sandbox, client: Client) -> None:
    client.tell("A")
    sandbox.refuse()

    with pytest.raises(requests.ConnectionError):
        client.tell("B")


def test_the_port_is_kept_while_connections_are_refused(sandbox: Sandbox) -> None:
    sandbox.refuse()

    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", sandbox.port))


def test_a_refusal_asked_for_over_http_is_answered_and_ends_by_time(sandbox: Sandbox, client: Client) -> None:
    answer = client.control("POST", "outage", {"kind": "refuse", "seconds": 1})

    assert answer.json() == {"kind": "refuse", "seconds": 1}
    wait_until(lambda: sandbox.outage == "refuse")
    with pytest.raises(requests.ConnectionError):
        client.get("/health")
    wait_until(lambda: sandbox.outage == "off")
    assert client.get("/health").status_code == 200


def test_a_refusal_without_end_cannot_be_asked_for_over_http(client: Client) -> None:
    answer = client.control("POST", "outage", {"kind": "refuse"})

    assert answer.status_code == 400
    assert "seconds" in answer.json()["error"]


# The control API


def test_faults_are_changed_in_part(client: Client) -> None:
    client.control("PUT", "faults", {"error_share": 0.25})
    client.control("PUT", "faults", {"latency_ms": 3})

    faults = client.control("GET", "faults").json()
    assert (faults["error_share"], faults["latency_ms"], faults["error_status"]) == (0.25, 3, 503)


def test_what_the_faults_read_as_can_be_put_back(client: Client) -> None:
    faults = client.control("GET", "faults").json()

    assert client.control("PUT", "faults", faults).json() == faults


def test_an_unknown_fault_is_refused_with_those_that_are_allowed(client: Client) -> None:
    answer = client.control("PUT", "faults", {"latency": 3, "error_share": 1})

    assert answer.status_code == 400
    assert "latency_ms" in answer.json()["error"]
    assert client.control("GET", "faults").json()["error_share"] == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"error_share": 1.5},
        {"error_share": True},
        {"latency_ms": -1},
        {"latency_ms": float("nan")},
        {"latency_ms": 10**400},
        {"error_status": 200},
        {"bad_body": "xml"},
        {"bad_body": ["html"]},
        {"retry_after": 5},
        {"retry_after": "1\r\nX: y"},
        {"order_faults": ["X"]},
        {"order_faults": {"X": {"seed": 1}}},
        {"order_faults": {"X": {"error_share": 2}}},
        {"seed": "x"},
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(sandbox: Sandbox, changes: dict[str, Any]) -> None:
    with pytest.raises(BadFault, match=next(iter(changes.get("order_faults", changes)))):
        sandbox.set_faults(**changes)
    assert sandbox.faults == FaultPlan()


@pytest.mark.parametrize(
    "outage",
    [{"kind": "fire"}, {"kind": 503}, {}, {"kind": "503", "seconds": -1}, {"kind": "503", "minutes": 1}],
)
def test_an_outage_that_is_not_known_is_refused(client: Client, outage: dict[str, Any]) -> None:
    assert client.control("POST", "outage", outage).status_code == 400
    assert client.control("GET", "outage").json() == {"kind": "off"}


def test_an_outage_is_switched_over_http(client: Client) -> None:
    client.control("POST", "outage", {"kind": "502"})
    assert client.tell("A").status_code == 502

    client.control("POST", "outage", {"kind": "off"})
    assert client.tell("A").status_code == 200


def test_stats_tell_what_was_asked_and_answered(sandbox: Sandbox, client: Client) -> None:
    client.tell("A", True)
    client.tell("B", False)
    client.get("/orders")

    stats = client.control("GET", "stats").json()

    assert stats == sandbox.stats()
    assert stats["requests"] == {"PUT": 2, "GET": 1}
    assert stats["answers"] == {"200": 2, "400": 1}
    assert (stats["flagged_true"], stats["flagged_false"]) == (1, 1)
    assert (stats["connections"], stats["max_concurrent"]) == (1, 1)


def test_the_most_requests_at_one_time_are_counted(sandbox: Sandbox) -> None:
    sandbox.set_faults(latency_ms=100)

    with ThreadPoolExecutor(4) as pool:
        statuses = list(pool.map(lambda name: Client(sandbox).tell(name).status_code, "ABCD"))

    assert statuses == [200] * 4
    assert sandbox.stats()["max_concurrent"] == 4


def test_an_order_the_microservice_forgot_is_gone_and_can_be_told_again(
    sandbox: Sandbox, client: Client
) -> None:
    client.tell("A", True, key="t1:A:1")
    client.control("POST", "orders", {"orders": [{"token_id": "t1", "order_id": "A", "removed": True}]})

    assert client.get("/orders/A", params={"token_id": "t1"}).status_code == 404
    assert client.listed()["orders"] == []
    client.tell("A", True, key="t1:A:1")
    assert sandbox.orders()[0]["is_stock_updated"] is True


def test_orders_set_by_hand_are_not_counted_as_told(client: Client) -> None:
    answer = client.control(
        "POST", "orders", {"orders": [{"token_id": "t1", "order_id": "A", "is_stock_updated": True}]}
    )

    assert answer.json() == {"set": 1}
    (row,) = client.control("GET", "orders").json()["orders"]
    assert (row["is_stock_updated"], row["times_applied"], row["history"]) == (True, 0, [])


def test_orders_are_set_all_or_none(sandbox: Sandbox, client: Client) -> None:
    good = {"token_id": "t1", "order_id": "A", "is_stock_updated": True}

    answer = client.control("POST", "orders", {"orders": [good, {**good, "is_stock_updated": "yes"}]})

    assert answer.status_code == 400
    assert sandbox.orders() == []


def test_reset_makes_everything_as_at_the_start() -> None:
    with Sandbox(faults=FaultPlan(retry_after="9")) as sandbox:
        client = Client(sandbox)
        client.tell("A", key="t1:A:1")
        sandbox.set_faults(error_share=1)
        sandbox.set_outage("503")

        client.control("POST", "reset")

        assert sandbox.orders() == []
        assert sandbox.stats()["requests"] == {}
        assert sandbox.faults == FaultPlan(retry_after="9")
        assert client.tell("A", key="t1:A:1").status_code == 200


def test_an_unknown_control_path_says_which_there_are(client: Client) -> None:
    answer = client.control("GET", "weather")

    assert answer.status_code == 404
    assert "stats" in answer.json()["error"]


def test_the_control_api_answers_this_machine_only() -> None:
    own = own_address()
    if own is None:
        pytest.skip("this machine has no address but the loopback one")
    with Sandbox(host="0.0.0.0") as open_to_all:
        assert requests.get(f"http://{own}:{open_to_all.port}/_sandbox/stats", timeout=2).status_code == 403
        assert (
            requests.get(f"http://127.0.0.1:{open_to_all.port}/_sandbox/stats", timeout=2).status_code == 200
        )


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


def test_kept_alive_requests_are_not_held_up_by_delayed_acknowledgements(
    sandbox: Sandbox, client: Client
) -> None:
    client.tell("A")
    began = time.monotonic()
    for number in range(20):
        client.tell(str(number))

    assert time.monotonic() - began < 20 * 0.04
    assert sandbox.stats()["connections"] == 1


def test_a_request_that_comes_in_pieces_is_answered(sandbox: Sandbox) -> None:
    with socket.create_connection(("127.0.0.1", sandbox.port), timeout=2) as raw:
        for piece in (b"GET /hea", b"lth HTTP/1.1\r\nHost: x\r", b"\n\r\n"):
            raw.sendall(piece)
            time.sleep(0.01)
        assert raw.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"PUT / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000, 431),
    ],
)
def test_what_is_not_http_is_refused_and_closed(sandbox: Sandbox, request_bytes: bytes, status: int) -> None:
    with socket.create_connection(("127.0.0.1", sandbox.port), timeout=2) as raw:
        raw.sendall(request_bytes)
        received = raw.recv(4096)

    assert received.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"Connection: close" in received


def test_a_client_that_asks_to_close_is_closed(sandbox: Sandbox) -> None:
    answer = requests.get(f"{sandbox.url}/health", headers={"Connection": "close"}, timeout=2)

    assert answer.headers["Connection"] == "close"


def test_an_occupied_port_is_named_with_what_to_do(sandbox: Sandbox) -> None:
    with pytest.raises(PortUnavailable, match=f"127.0.0.1:{sandbox.port}.*another port") as raised:
        Sandbox(port=sandbox.port).start()
    assert isinstance(raised.value, SandboxError)
    assert (raised.value.host, raised.value.port) == ("127.0.0.1", sandbox.port)


@pytest.mark.parametrize(("host", "port"), [("no-such-host.invalid", 0), ("127.0.0.1", 70_000)])
def test_an_address_that_cannot_be_is_refused(host: str, port: int) -> None:
    with pytest.raises(PortUnavailable):
        Sandbox(host=host, port=port).start()


def test_stop_ends_the_thread_though_requests_hang() -> None:
    sandbox = Sandbox().start()
    sandbox.set_outage("timeout")
    with socket.create_connection(("127.0.0.1", sandbox.port), timeout=2) as raw:
        raw.sendall(b"GET /health HTTP/1.1\r\n\r\n")
        wait_until(lambda: sandbox.stats()["unanswered"] == {"hung": 1})

        sandbox.stop()

    assert not [thread for thread in threading.enumerate() if thread.name == "stocksync-sandbox"]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", sandbox.port), timeout=2)


def test_a_sandbox_started_again_has_its_port_and_its_orders() -> None:
    sandbox = Sandbox()
    with sandbox:
        url = sandbox.url
        Client(sandbox).tell("A")
    with sandbox:
        assert sandbox.url == url
        assert Client(sandbox).get("/orders/A", params={"token_id": "t1"}).status_code == 200


def test_a_running_sandbox_is_not_started_twice(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxError, match="running already"):
        sandbox.start()


def test_an_outage_of_a_sandbox_that_does_not_run_is_refused() -> None:
    with pytest.raises(SandboxError, match="start"):
        Sandbox().refuse()


def test_serve_forever_returns_when_stopped() -> None:
    sandbox = Sandbox()
    stopper = threading.Timer(0.05, sandbox.stop)
    stopper.start()

    sandbox.serve_forever()

    stopper.join()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", sandbox.port), timeout=2)
