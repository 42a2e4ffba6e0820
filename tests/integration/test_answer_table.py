"""Every row of the answer table over a real socket, and answers that lie: bounded, and told in words."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from stocksync.delivery.answers import Verdict
from stocksync.delivery.client import OrdersClient
from stocksync.sandbox import Sandbox
from tests.lies import LIES, lying
from tests.servers import free_port
from tests.shop import SELLER, Shop, open_shop


@pytest.fixture
def shop(sqlite_url: str, sandbox: Sandbox) -> Iterator[Shop]:
    with open_shop(sqlite_url) as opened:
        opened.runtime.__dict__["sender"] = client_of(sandbox)
        yield opened


def client_of(sandbox: Sandbox, **more: Any) -> OrdersClient:
    return OrdersClient(sandbox.url, "sandbox", **({"timeout": 0.6, "connect_timeout": 0.5} | more))


def told(sandbox: Sandbox, **more: Any) -> Any:
    return client_of(sandbox, **more).update_stock_status(token_id="t", order_id="o", is_stock_updated=True)


ROWS: dict[str, tuple[dict[str, Any], str, int, list[str], str]] = {
    # faults of the sandbox, status, attempts used, log after `created`, error class
    "success": ({}, "completed", 0, ["sync_success", "completed"], ""),
    "success false": (
        {"not_success_share": 1},
        "pending",
        1,
        ["sync_failed", "retry_failed"],
        "NotSuccessful",
    ),
    "404": (
        {"error_share": 1, "error_status": 404},
        "pending",
        1,
        ["sync_failed", "retry_failed"],
        "Http404",
    ),
    "408": (
        {"error_share": 1, "error_status": 408},
        "pending",
        1,
        ["sync_failed", "retry_failed"],
        "Http408",
    ),
    "409": (
        {"error_share": 1, "error_status": 409},
        "pending",
        1,
        ["sync_failed", "retry_failed"],
        "Http409",
    ),
    "425": (
        {"error_share": 1, "error_status": 425},
        "pending",
        1,
        ["sync_failed", "retry_failed"],
        "Http425",
    ),
    "400": ({"error_share": 1, "error_status": 400}, "failed", 1, ["sync_failed"], "Http400"),
    "410": ({"error_share": 1, "error_status": 410}, "failed", 1, ["sync_failed"], "Http410"),
    "422": ({"error_share": 1, "error_status": 422}, "failed", 1, ["sync_failed"], "Http422"),
    "429": ({"rate_limit_share": 1, "retry_after": "30"}, "pending", 0, ["sync_error", "snoozed"], "Http429"),
    "401": ({"error_share": 1, "error_status": 401}, "pending", 0, ["sync_error", "snoozed"], "Http401"),
    "403": ({"error_share": 1, "error_status": 403}, "pending", 0, ["sync_error", "snoozed"], "Http403"),
    "500": ({"error_share": 1, "error_status": 500}, "pending", 0, ["sync_error", "snoozed"], "Http500"),
    "503": ({"error_share": 1, "error_status": 503}, "pending", 0, ["sync_error", "snoozed"], "Http503"),
    "dropped": ({"drop_after_apply_share": 1}, "pending", 0, ["sync_error", "snoozed"], "ConnectionError"),
    "reset": ({"reset_share": 1}, "pending", 0, ["sync_error", "snoozed"], "ConnectionError"),
    "too slow": ({"latency_ms": 1500}, "pending", 0, ["sync_error", "snoozed"], "Timeout"),
    "html": ({"bad_body": "html"}, "pending", 0, ["sync_error", "snoozed"], "NotTheContract"),
    "empty": ({"bad_body": "empty"}, "pending", 0, ["sync_error", "snoozed"], "NotTheContract"),
    "no success": ({"bad_body": "no_success"}, "pending", 0, ["sync_error", "snoozed"], "NotTheContract"),
    "10 MB": ({"lie": "huge"}, "pending", 0, ["sync_error", "snoozed"], "NotTheContract"),
    "endless": ({"lie": "endless"}, "pending", 0, ["sync_error", "snoozed"], "Timeout"),
    "slow headers": ({"lie": "slow_headers"}, "pending", 0, ["sync_error", "snoozed"], "Timeout"),
}


@pytest.mark.parametrize("row", ROWS)
def test_an_answer_leaves_what_the_table_says(shop: Shop, sandbox: Sandbox, row: str) -> None:
    faults, status, attempts, log, error_class = ROWS[row]
    sandbox.set_faults(**{name: value for name, value in faults.items() if name != "lie"})
    operation = shop.deduct()
    with lying(faults.get("lie")):
        shop.drain()

    found = shop.operation(operation)
    assert (found["status"], found["retry_count"]) == (status, attempts)
    assert shop.actions(operation) == ["created", *log]
    assert (found["error_class"] or "") == error_class
    assert status == "completed" or found["error_message"]
    assert shop.broken_promises() == []


def test_a_429_with_a_date_snoozes_until_then(shop: Shop, sandbox: Sandbox) -> None:
    later = shop.clock.now + timedelta(seconds=77)
    sandbox.set_faults(rate_limit_share=1, retry_after=format_datetime(later, usegmt=True))
    shop.deduct()
    shop.drain()

    assert shop.wakeups.planned[SELLER] == later


def test_a_closed_port_is_no_answer(sandbox: Sandbox) -> None:
    client = OrdersClient(f"http://127.0.0.1:{free_port()}", "sandbox", timeout=1)
    answer = client.update_stock_status(token_id="t", order_id="o", is_stock_updated=True)

    assert (answer.verdict, answer.error_class) == (Verdict.UNCLEAR, "ConnectionError")
    assert "refused" in (answer.error or "").lower()


@pytest.mark.parametrize("lie", LIES)
def test_an_answer_without_end_is_bounded_in_time(sandbox: Sandbox, lie: str) -> None:
    started = time.monotonic()
    with lying(lie):
        answer = told(sandbox)

    assert answer.verdict is Verdict.UNCLEAR
    assert time.monotonic() - started < 5  # the sandbox would go on for a minute


def test_after_an_answer_that_was_cut_short_the_next_call_is_served(sandbox: Sandbox) -> None:
    client = client_of(sandbox)
    with lying("slow_headers"):
        client.update_stock_status(token_id="t", order_id="o", is_stock_updated=True)

    assert client.update_stock_status(token_id="t", order_id="o", is_stock_updated=True).success


def test_a_redirect_is_not_followed_and_never_carries_the_token_elsewhere(sandbox: Sandbox) -> None:
    with Sandbox(token="sandbox") as elsewhere:
        sandbox.set_faults(bad_body="redirect", redirect_to=f"{elsewhere.url}/orders/o/stock-status")
        answer = told(sandbox)

        assert answer.verdict is Verdict.UNCLEAR
        assert elsewhere.stats()["requests"] == {}


def test_health_is_a_json_object_with_200(sandbox: Sandbox) -> None:
    client = client_of(sandbox)
    assert client.is_healthy()
    for outage in ("maintenance", "reset"):
        sandbox.set_faults(outage=outage)
        assert not client.is_healthy()


def test_a_refused_token_is_read_again(sandbox: Sandbox) -> None:
    tokens = iter(["old", "sandbox"])
    client = OrdersClient(sandbox.url, lambda: next(tokens), timeout=1)
    first = client.update_stock_status(token_id="t", order_id="o", is_stock_updated=True)
    client.forget_token()

    assert first.verdict is Verdict.CREDENTIALS
    assert client.update_stock_status(token_id="t", order_id="o", is_stock_updated=True).success


@pytest.mark.parametrize("order_id", ["a/b", "..", "a?b=c#d", "заказ 1", "x" * 200, "a%2Fb"])
def test_an_odd_order_id_arrives_as_it_is(sandbox: Sandbox, order_id: str) -> None:
    answer = client_of(sandbox).update_stock_status(
        token_id="t", order_id=order_id, is_stock_updated=True, idempotency_key=f"t:{order_id}:1"
    )

    assert answer.success, answer
    assert [row["order_id"] for row in sandbox.orders()] == [order_id]
