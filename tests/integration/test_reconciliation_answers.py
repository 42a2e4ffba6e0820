"""Answers that reconciliation trusts no more than it should: late ones, slow ones, those of a monolith's own client."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest

from stocksync.contrib.sqlalchemy import with_session
from stocksync.delivery.answers import Answer, Verdict
from stocksync.delivery.client import OrdersClient
from stocksync.errors import OpenTransaction, RemoteError
from stocksync.runtime import Runtime
from stocksync.sandbox import Sandbox
from tests.reconciling import flags, found, open_delivering_shop, open_sandbox, reconcile, say, sell
from tests.remote_orders import set_orders
from tests.shop import SELLER, Shop, goods, open_shop


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with open_sandbox() as running:
        yield running


@pytest.fixture
def shop(database_url: str, sandbox: Sandbox) -> Iterator[Shop]:
    with open_delivering_shop(database_url, sandbox) as opened:
        yield opened


@pytest.fixture
def sqlite_shop(sqlite_url: str, sandbox: Sandbox) -> Iterator[Shop]:
    with open_delivering_shop(sqlite_url, sandbox) as opened:
        yield opened


def test_a_repair_that_the_remote_refuses_for_good_is_brought_up_again_and_then_comes_to_a_person(
    shop: Shop, sandbox: Sandbox
) -> None:
    sell(shop, "a")
    say(sandbox, {"a": False})
    tell = shop.runtime.sender.update_stock_status
    refused = Answer(Verdict.INVALID, "Http422", "no", 422)
    shop.runtime.sender.update_stock_status = lambda **_: refused  # type: ignore[method-assign]
    assert reconcile(shop)["fixed"] == 1
    shop.drain()
    shop.clock.advance(300)

    # No operation has failed, so nobody has it yet.
    assert (shop.order("a").waiting, shop.statuses()) == ("failed", ["completed"])
    again = reconcile(shop)
    assert (again["buckets"], again["fixed"]) == ({"missing_remote": 1}, 1)
    shop.drain()

    shop.clock.advance(days=1)
    late = reconcile(shop)
    assert (found(late), late["fixed"]) == ([("a", "missing_remote")], 0)
    shop.runtime.sender.update_stock_status = tell  # type: ignore[method-assign]
    shop.runtime.reconciliation.fix(late["discrepancies"][0]["id"], actor="Anna", reason="allowed by now")
    shop.drain()
    assert flags(sandbox) == {"a": True}


def test_an_answer_older_than_a_delivery_leads_to_no_repair(shop: Shop, sandbox: Sandbox) -> None:
    sell(shop, "a")
    say(sandbox, {"a": False})
    reader = shop.runtime.sender
    ask = reader.find_order  # type: ignore[attr-defined]

    def slow(**asked: Any) -> Any:
        answer = ask(**asked)
        assert shop.runtime.reconciliation.records.runs()[0]["status"] == "running"
        shop.runtime.reconciliation.tell_again(SELLER, "a", actor="Anna", reason="first")
        shop.drain()
        shop.clock.advance(5)  # the answer was long under way: by now the order rests again
        return answer

    reader.find_order = slow  # type: ignore[attr-defined]
    report = reconcile(shop)

    assert report["fixed"] == 0
    assert (shop.order("a").state_version, shop.order("a").due_at) == (2, None)


def test_nothing_is_compared_inside_a_callers_transaction(sqlite_shop: Shop, sandbox: Sandbox) -> None:
    sell(sqlite_shop, "a")
    with sqlite_shop.runtime.database.transaction_scope(), pytest.raises(OpenTransaction, match="commit"):
        sqlite_shop.service.reconcile_stock_status(SELLER)

    from sqlalchemy import create_engine
    from sqlalchemy.orm import Session

    engine = create_engine(sqlite_shop.runtime.config.database)
    with Session(engine) as session, pytest.raises(OpenTransaction):
        with_session(session, sqlite_shop.runtime).service.reconcile_stock_status(SELLER)
    engine.dispose()
    assert sandbox.stats()["requests"].get("GET", 0) == 0


@dataclass
class TheirOrder:
    """An order as a monolith's own client may have it."""

    id: Any
    is_stock_updated: Any
    more: str = "whatever"


@dataclass
class TheirPage:
    orders: list[TheirOrder]
    next_cursor: str | None = None


class TheirClient:
    """A monolith's own client that offers lists of orders."""

    def __init__(self, answer: Callable[[], TheirPage]) -> None:
        self.answer = answer

    def update_stock_status(self, *, token_id: str, order_id: str, is_stock_updated: bool) -> Any:
        raise AssertionError("a comparison tells the remote nothing")

    def list_orders(
        self, *, token_id: str, updated_since: datetime, cursor: str | None, limit: int
    ) -> TheirPage:
        del token_id, updated_since, cursor, limit
        return self.answer()

    def find_order(self, *, token_id: str, order_id: str) -> TheirOrder | None:
        del token_id, order_id
        return None


def failing() -> TheirPage:
    raise ValueError("their trouble")


def hanging() -> TheirPage:
    time.sleep(5)
    return TheirPage([])


@pytest.mark.parametrize(
    ("answer", "status", "reason"),
    [
        (lambda: TheirPage([TheirOrder("foreign", True)]), "complete", None),
        (lambda: TheirPage([TheirOrder("foreign", "yes")]), "incomplete", "not the contract's"),
        (lambda: TheirPage([TheirOrder("nul\x00", True)]), "incomplete", "not the contract's"),
        (lambda: TheirPage([TheirOrder("foreign", True)], "nul\x00"), "incomplete", "not the contract's"),
        (lambda: None, "incomplete", "orders"),
        (failing, "incomplete", "their trouble"),
        (hanging, "incomplete", "no answer within 0.3 s"),
    ],
)
def test_a_monoliths_own_client_may_list_orders_and_is_trusted_no_more_than_the_wire(
    sqlite_url: str, answer: Callable[[], TheirPage], status: str, reason: str | None
) -> None:
    with open_shop(sqlite_url, STOCK_SYNC_MICROSERVICE_TIMEOUT="0.3") as shop:
        runtime = Runtime(
            shop.runtime.config, clock=shop.clock, client=TheirClient(answer), wakeups=shop.wakeups
        )
        try:
            report = runtime.service.reconcile_stock_status(SELLER)
        finally:
            runtime.close()

    assert report["status"] == status
    assert report["reason"] is None if reason is None else reason in report["reason"]
    assert found(report) == ([("foreign", "extra_remote")] if status == "complete" else [])


def test_a_200_that_is_no_success_does_not_say_that_an_order_is_unknown(
    sqlite_shop: Shop, sandbox: Sandbox
) -> None:
    reader = sqlite_shop.runtime.sender
    assert isinstance(reader, OrdersClient)
    assert reader.find_order(token_id=SELLER, order_id="nobody's") is None
    sandbox.set_faults(not_success_share=1.0)

    with pytest.raises(RemoteError, match="not the contract's"):
        reader.find_order(token_id=SELLER, order_id="nobody's")


def test_an_order_that_changes_while_others_are_asked_for_is_not_called_different(
    shop: Shop, sandbox: Sandbox
) -> None:
    sell(shop, "a", "b")
    set_orders(sandbox, [{"token_id": SELLER, "order_id": "a", "removed": True}])
    early = (shop.clock() - timedelta(days=30)).isoformat()
    set_orders(
        sandbox, [{"token_id": SELLER, "order_id": "b", "is_stock_updated": True, "updated_at": early}]
    )
    reader = shop.runtime.sender
    ask = reader.find_order  # type: ignore[attr-defined]

    def find_order(*, token_id: str, order_id: str) -> Any:
        if order_id == "a":
            shop.orders.process_return(goods(order="b"))
            shop.drain()
            shop.clock.advance(5)
        return ask(token_id=token_id, order_id=order_id)

    reader.find_order = find_order  # type: ignore[attr-defined]
    report = reconcile(shop)

    assert report["buckets"] == {"missing_order": 1, "in_flight": 1}
    assert found(report) == []


def test_a_slow_remote_is_asked_in_steps_that_a_job_survives(shop: Shop, sandbox: Sandbox) -> None:
    """Each answer takes two seconds; a slice ends after some five, not after fifty answers."""
    sell(shop, *(f"o{number:02}" for number in range(20)))
    set_orders(
        sandbox, [{"token_id": SELLER, "order_id": f"o{number:02}", "removed": True} for number in range(20)]
    )
    reconciliation, reader = shop.runtime.reconciliation, shop.runtime.sender
    passed, asked = [0.0], [0]
    reconciliation._monotonic = lambda: passed[0]
    ask = reader.find_order  # type: ignore[attr-defined]

    def slow(**what: Any) -> Any:
        passed[0] += 2
        asked[0] += 1
        return ask(**what)

    reader.find_order = slow  # type: ignore[attr-defined]
    slices = [reconciliation.slice()]
    while slices[-1]["more"]:
        before = asked[0]
        slices.append(reconciliation.slice())
        assert asked[0] - before <= 6

    assert asked[0] == 20
    assert slices[-1]["runs"][0]["buckets"] == {"missing_order": 20}
