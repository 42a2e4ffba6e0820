"""The stand-in microservice: faults that are asked for, and what was applied in spite of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from stocksync.sandbox import FaultPlan, Sandbox
from tests.sandbox_client import NOON, Client, assert_refused
from tests.servers import wait_until


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
