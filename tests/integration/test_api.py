"""The HTTP API: the plan's calls in their shapes, errors in words, and that a change asks for more than a reader."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from stocksync.sandbox import Sandbox
from stocksync.web import create_app
from tests.logins import ELSEWHERE, KEYS, SETTINGS
from tests.shop import NO_ANSWER, REFUSED, SELLER, START, WAREHOUSE, Shop, form, open_shop

API = "/api/v1/stock-sync"
UNKNOWN = "01a20a68-a1b1-7459-a326-d85c4cd3d65e"

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


class Caller:
    """A program of the monolith, somewhere in the network."""

    def __init__(self, shop: Shop, role: str | None = "operator") -> None:
        self._client: FlaskClient = create_app(shop.runtime).test_client()
        self._headers = {"Authorization": f"Bearer {KEYS[role]}"} if role else {}

    def ask(self, method: str, path: str, **more: Any) -> TestResponse:
        where = path if path.startswith("/api/") else API + path
        options = {"headers": self._headers, "environ_base": ELSEWHERE, "base_url": "http://shop.internal"}
        return self._client.open(where, method=method, **options | more)

    def get(self, path: str, **query: Any) -> Any:
        answer = self.ask("GET", path, query_string=query)
        assert answer.status_code == 200, answer.text
        return answer.json

    def post(self, path: str, **query: Any) -> Any:
        answer = self.ask("POST", path, query_string=query)
        assert answer.status_code == 200, answer.text
        return answer.json


@pytest.fixture
def shop(database_url: str) -> Iterator[Shop]:
    with open_shop(database_url, **SETTINGS) as opened:
        yield opened


@pytest.fixture
def api(shop: Shop) -> Caller:
    return Caller(shop)


def give_up(shop: Shop, *orders: str) -> list[str]:
    """Operations whose every attempt was refused."""
    operations = [str(shop.deduct(order)) for order in orders]
    shop.remote.answer = lambda _: REFUSED
    for _ in range(5):
        shop.drain()
        shop.clock.advance(3600)
    return operations


def fault(answer: TestResponse, code: int) -> str:
    """The words of an error, which has nothing but words."""
    assert answer.status_code == code, answer.text
    assert isinstance(answer.json, dict)
    assert list(answer.json) == ["detail"]
    return str(answer.json["detail"])


# The plan's calls


def test_status_is_the_plans(api: Caller, shop: Shop) -> None:
    shop.deduct()

    document = api.get("/status")

    assert document["status"] == "healthy"
    assert document["statistics"] == {
        "pending_operations": 1,
        "failed_operations": 0,
        "completed_today": 0,
        "stale_operations": 0,
    }
    assert document["last_updated"] == "2026-03-01T12:00:00Z"
    assert document["lost"] == 0


def test_pending_is_the_plans_with_the_true_total(api: Caller, shop: Shop) -> None:
    operations = [str(shop.deduct(f"order-{number}", quantity=2)) for number in range(3)]

    document = api.get("/pending", limit=1, offset=1)

    assert {**document, "operations": 1} == {"operations": 1, "total": 3, "limit": 1, "offset": 1}
    assert document["operations"] == [
        {
            "id": operations[1],
            "order_id": "order-1",
            "sku": "A",
            "quantity": 2,
            "status": "pending",
            "retry_count": 0,
            "created_at": "2026-03-01T12:00:00Z",
            "next_retry_at": "2026-03-01T12:00:00Z",
            "error_message": None,
        }
    ]
    assert api.get("/pending", status="completed")["operations"] == []


def test_retry_and_cancel_are_the_plans(api: Caller, shop: Shop) -> None:
    one, other = give_up(shop, "one", "other")

    assert api.post(f"/retry/{one}") == {"message": "Operation queued for retry", "operation_id": one}
    answer = api.ask("DELETE", f"/cancel/{other}")
    assert answer.json == {"message": "Operation cancelled", "operation_id": other}
    assert [shop.operation(id)["status"] for id in (one, other)] == ["pending", "cancelled"]
    assert shop.operation(one)["log"][-1]["details"]["actor"] == "operator"
    assert "cancelled and cannot be retried" in fault(api.ask("POST", f"/retry/{other}"), 400)
    for unknown in (UNKNOWN, "nope"):
        assert "is unknown" in fault(api.ask("POST", f"/retry/{unknown}"), 404)
        assert "is unknown" in fault(api.ask("DELETE", f"/cancel/{unknown}"), 404)


def test_a_cancelled_deduction_is_put_back_when_asked(api: Caller, shop: Shop) -> None:
    shop.stock(A=5)
    operation = shop.orders.process_order_stock_update(form()).operations[0]

    api.ask("DELETE", f"/cancel/{operation}", query_string={"put_back": "true", "reason": "by phone"})

    assert shop.on_hand("A") == 5
    assert shop.operation(operation)["reason"] == "by phone"


def test_a_form_is_processed_once(api: Caller, shop: Shop) -> None:
    shop.stock(A=5)
    process = "/api/v1/orders/process"

    first = api.ask("POST", process, json=form(lines={"l": ("A", 2), "post": (None, 1)}))
    again = api.ask("POST", process, json=form(lines={"l": ("A", 2), "post": (None, 1)}))

    assert first.json
    assert (first.json["order_id"], first.json["status"], len(first.json["operations"])) == (
        "order-1",
        "queued",
        1,
    )
    assert again.json == {"order_id": "order-1", "status": "already_updated", "operations": []}
    assert shop.on_hand("A") == 3
    assert api.get(f"/operations/{first.json['operations'][0]}")["actor"] == "operator"


def test_reconciliation_of_one_account_and_of_all(database_url: str) -> None:
    with Sandbox(token="sandbox") as remote:
        remote_settings = {
            "ALLEGRO_MICROSERVICE_BASE_URL": remote.url,
            "ALLEGRO_MICROSERVICE_JWT_TOKEN": "sandbox",
        }
        with open_shop(database_url, **SETTINGS, **remote_settings) as shop:
            del shop.runtime.__dict__["sender"]
            shop.deduct()
            shop.drain()
            shop.clock.advance(60)
            api = Caller(shop)

            one = api.post("/reconcile", token_id=SELLER)
            everything = api.post("/reconcile")

            assert (one["status"], one["complete"], one["discrepancies"]) == ("complete", True, [])
            assert set(everything) == {"task_id", "status"}
            assert everything["status"] == "queued"
            shop.runtime.reconciliation.slice()
            assert len(shop.runtime.reconciliation.records.runs(SELLER)) == 2
            assert "unknown" in fault(api.ask("POST", "/reconcile", query_string={"token_id": "x"}), 404)


# Lists


def test_pages_follow_their_cursor_to_the_end(api: Caller, shop: Shop) -> None:
    recorded = [str(shop.deduct(f"order-{number}")) for number in range(7)]
    seen: list[str] = []
    cursor: dict[str, str] = {}
    for _ in range(4):
        page = api.get("/operations", limit=2, **cursor)
        seen += [row["id"] for row in page["operations"]]
        assert (page["total"], page["total_is_more"]) == (7, False)
        cursor = {"cursor": page["next"]}

    assert seen == recorded[::-1]
    assert cursor == {"cursor": None}


def test_lists_are_filtered(api: Caller, shop: Shop) -> None:
    shop.deduct("early", sku="B")
    shop.clock.advance(3600)
    shop.deduct("late")
    give_up(shop, "given-up")

    def orders(**query: Any) -> list[str]:
        return [row["order_id"] for row in api.get("/operations", **query)["operations"]]

    assert orders(sku="B") == ["early"]
    assert orders(order_id="late") == ["late"]
    assert orders(since=(START + timedelta(hours=1)).isoformat(), limit=1) == ["given-up"]
    assert orders(until=(START + timedelta(minutes=1)).isoformat()) == ["early"]
    assert len(orders(error_class="NotSuccessful", status="failed")) == 3
    assert orders(token_id="nobody") == []


# One operation, one order, lanes, alerts, the breaker


def test_an_operation_is_shown_with_its_log_and_an_order_with_its_lines(api: Caller, shop: Shop) -> None:
    (operation,) = give_up(shop, "given-up")

    document = api.get(f"/operations/{operation}")
    order = api.get(f"/orders/{SELLER}/given-up")

    assert [entry["action"] for entry in document["log"]][:2] == ["created", "sync_failed"]
    assert (document["error_class"], document["max_retries"]) == ("NotSuccessful", 5)
    assert [row["id"] for row in order["operations"]] == [operation]
    assert (order["is_stock_updated"], order["remote_flag"]) == (True, None)
    assert "claim_id" not in order


def test_a_lane_is_paused_by_somebody_and_resumed(api: Caller, shop: Shop) -> None:
    shop.deduct()

    api.post(f"/lanes/{SELLER}/pause", reason="stock-taking")
    (lane,) = api.get("/lanes")["lanes"]
    assert (lane["paused"], lane["paused_reason"]) == (True, "stock-taking (operator)")
    assert api.post(f"/lanes/{SELLER}/pause", reason="again") == {"token_id": SELLER, "paused": True}
    shop.wakeups.woken.clear()
    api.post(f"/lanes/{SELLER}/resume")

    assert not api.get("/lanes")["lanes"][0]["paused"]
    assert shop.wakeups.woken == [SELLER]


def test_alerts_are_listed_in_words_and_acknowledged(api: Caller, shop: Shop) -> None:
    shop.runtime.alerts.observe([("lane_paused", SELLER, {"reason": "401"})], [], START, START)

    (alert,) = api.get("/alerts")["alerts"]
    assert SELLER in alert["text"]
    assert api.post(f"/alerts/{alert['id']}/acknowledge")["acknowledged_by"] == "operator"
    assert api.get("/alerts", status="all")["alerts"][0]["acknowledged_by"] == "operator"
    assert "acknowledged already" in fault(api.ask("POST", f"/alerts/{alert['id']}/acknowledge"), 404)


def test_the_breaker_says_why_it_is_open(api: Caller, shop: Shop) -> None:
    assert api.get("/breaker")["state"] == "closed"
    for number in range(5):
        shop.deduct(f"order-{number}")
    shop.remote.answer = lambda _: NO_ANSWER
    shop.drain()

    document = api.get("/breaker")

    assert (document["state"], document["reason"]) == ("open", "outage")
    assert document["asked_again_at"] > document["opened_at"]


def test_an_operation_in_doubt_is_confirmed(api: Caller, shop: Shop) -> None:
    assert "not in doubt" in fault(
        api.ask("POST", f"/operations/{shop.deduct()}/confirm", query_string={"deducted": "true"}), 400
    )


def test_a_discrepancy_is_left_with_a_reason(api: Caller, shop: Shop) -> None:
    assert api.get("/discrepancies") == {"discrepancies": [], "next": None}
    assert "reason" in fault(api.ask("POST", f"/discrepancies/{UNKNOWN}/fix"), 400)


@on_sqlite
def test_stock_of_another_warehouse_is_taken_where_it_is_asked_for(api: Caller, shop: Shop) -> None:
    shop.runtime.inventory.set_on_hand({"A": 3}, "Poznań")
    shop.stock(A=1)

    answer = api.ask("POST", "/api/v1/orders/process", json=form(), query_string={"warehouse": "Poznań"})

    assert answer.status_code == 200
    assert (
        shop.runtime.inventory.on_hand("A", "Poznań"),
        shop.runtime.inventory.on_hand("A", WAREHOUSE),
    ) == (2, 1)
