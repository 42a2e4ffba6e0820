"""An outage costs waiting, not failures; on recovery everything is due at once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from stocksync.delivery.answers import Answer, understand
from stocksync.delivery.breaker import Breaker
from stocksync.queue.wakeups import connect_redis
from tests.servers import free_port
from tests.shop import DELIVERED, NO_ANSWER, REFUSED, SELLER, Clock, Shop, open_shop


@pytest.fixture
def shop(sqlite_url: str) -> Iterator[Shop]:
    with open_shop(sqlite_url) as opened:
        yield opened


def live_for(shop: Shop, hours: float) -> None:
    """Do what worker and scheduler do: sweep every minute, drain when woken or planned."""
    until = shop.clock.now + timedelta(hours=hours)
    while shop.clock.now < until:
        shop.wakeups.woken.clear()
        shop.runtime.periodic.sweep()
        minute = shop.clock.now + timedelta(minutes=1)
        while shop.clock.now < minute:
            planned = shop.wakeups.planned.get(SELLER)
            if SELLER in shop.wakeups.woken or (planned is not None and planned <= shop.clock.now):
                shop.wakeups.woken.clear()
                shop.wakeups.planned.pop(SELLER, None)
                shop.drain()
                continue
            shop.clock.now = min(filter(None, (planned, minute)))


def go_away(shop: Shop) -> None:
    shop.remote.answer = lambda _: NO_ANSWER
    shop.remote.healthy = False


def come_back(shop: Shop) -> None:
    shop.remote.answer = lambda _: DELIVERED
    shop.remote.healthy = True


@pytest.mark.parametrize("orders", [1, 60])
def test_ten_hours_away_use_up_no_attempt_and_recovery_takes_one_probe(shop: Shop, orders: int) -> None:
    go_away(shop)
    with shop.runtime.database.transaction_scope():
        operations = [shop.deduct(f"order-{number}") for number in range(orders)]
    live_for(shop, 10)
    rows = [shop.operation(operation) for operation in operations]
    assert {(row["status"], row["retry_count"]) for row in rows} == {("pending", 0)}

    come_back(shop)
    live_for(shop, 30.0 / 3600)
    assert set(shop.statuses()) == {"completed"}
    assert shop.broken_promises() == []


def test_the_answer_that_closes_the_breaker_wakes_every_lane_that_waited(shop: Shop) -> None:
    go_away(shop)
    for number in range(6):
        shop.deduct(f"order-{number}")
    shop.service.sync_stock_deduction("seller-2", "another", "A", 1)
    shop.drain()
    shop.drain("seller-2")
    come_back(shop)
    shop.clock.advance(5)
    shop.wakeups.woken.clear()
    shop.drain()

    assert "seller-2" in shop.wakeups.woken


def test_failures_after_an_answer_are_counted_from_there(shop: Shop) -> None:
    """Four in a row are one too few for the breaker, whatever came before them."""
    for number in range(5):
        shop.deduct(f"order-{number}")
    shop.remote.answer = lambda order_id: DELIVERED if order_id == "order-0" else NO_ANSWER
    shop.drain()

    assert shop.runtime.breaker.open_until() is None


def test_while_away_it_is_asked_once_in_a_while_and_not_by_every_order(shop: Shop) -> None:
    go_away(shop)
    with shop.runtime.database.transaction_scope():
        for number in range(500):
            shop.deduct(f"order-{number}")
    shop.drain()
    at_first = len(shop.remote.calls)
    shop.remote.calls.clear()
    live_for(shop, 1)

    assert at_first <= 200
    assert len(shop.remote.calls) <= 130  # one probe in 30 s, and the first ones closer together


def test_each_probe_asks_with_another_order(shop: Shop) -> None:
    go_away(shop)
    with shop.runtime.database.transaction_scope():
        for number in range(20):
            shop.deduct(f"order-{number}")
    live_for(shop, 0.1)
    shop.remote.calls.clear()
    live_for(shop, 0.05)

    asked = [order_id for order_id, _, _ in shop.remote.calls]
    assert len(asked) >= 4
    assert len(set(asked)) == len(asked)


def test_one_order_that_never_gets_an_answer_fails_while_the_others_go_through(shop: Shop) -> None:
    shop.remote.takes_time = lambda: shop.clock.advance(0.05)
    shop.remote.answer = lambda order_id: NO_ANSWER if order_id == "poison" else DELIVERED
    poison = shop.deduct("poison")
    for number in range(12):
        shop.deduct(f"order-{number}")
        live_for(shop, 0.5)

    assert shop.operation(poison)["status"] == "failed"
    assert shop.statuses().count("completed") == 12


def test_a_lonely_order_that_never_gets_an_answer_fails_when_the_remote_says_it_is_well(shop: Shop) -> None:
    shop.remote.takes_time = lambda: shop.clock.advance(0.05)
    shop.remote.answer = lambda _: NO_ANSWER
    lonely = shop.deduct()
    live_for(shop, 12)

    assert shop.operation(lonely)["status"] == "failed"


def test_a_429_snoozes_the_lane_as_long_as_it_says_and_costs_no_attempt(shop: Shop) -> None:
    shop.remote.answer = lambda _: understand(429, None, "120")
    operation = shop.deduct()
    shop.drain()
    assert shop.wakeups.planned[SELLER] == shop.clock.now + timedelta(seconds=120)
    shop.remote.answer = lambda _: DELIVERED
    shop.clock.advance(119)
    assert shop.drain().held_back == "snoozed"
    shop.clock.advance(1)
    shop.drain()

    row = shop.operation(operation)
    assert (row["status"], row["retry_count"]) == ("completed", 0)
    assert shop.actions(operation) == ["created", "sync_error", "snoozed", "sync_success", "completed"]


def test_a_snoozed_lane_is_left_alone_by_an_immediate_call_too(shop: Shop) -> None:
    shop.remote.answer = lambda _: understand(429, None, "120")
    shop.deduct("order-1")
    shop.drain()
    result = shop.service.sync_stock_deduction(SELLER, "order-2", "A", 1, immediate=True)

    assert (result.success, result.status, len(shop.remote.calls)) == (False, "pending", 1)


def test_a_snoozed_lane_does_not_hold_up_another(shop: Shop) -> None:
    shop.remote.answer = lambda order_id: understand(429, None, "120") if order_id == "order-1" else DELIVERED
    shop.deduct("order-1")
    shop.drain()
    other = shop.service.sync_stock_deduction("seller-2", "order-2", "A", 1).operation_id
    shop.drain("seller-2")

    assert shop.operation(other)["status"] == "completed"


@pytest.mark.parametrize("healthy", [False, True])
def test_refused_credentials_pause_everything_and_are_tried_again_once_a_minute(
    shop: Shop, healthy: bool
) -> None:
    shop.remote.answer = lambda _: understand(401, {"success": False, "error": "who are you"})
    shop.remote.healthy = healthy  # which says nothing of our credentials
    operation = shop.deduct()
    live_for(shop, 0.5)
    assert shop.operation(operation)["retry_count"] == 0
    assert 20 <= len(shop.remote.calls) <= 40
    assert shop.remote.tokens_forgotten == len(shop.remote.calls)
    opened_at, why = shop.runtime.breaker.opened()
    assert why == "credentials"
    assert opened_at
    assert shop.clock.now - opened_at > timedelta(minutes=25)  # or its alert would never come

    come_back(shop)
    live_for(shop, 61 / 3600)
    assert shop.operation(operation)["status"] == "completed"


def test_a_403_holds_back_its_lane_alone_and_one_order_tries_once_a_minute(shop: Shop) -> None:
    shop.remote.answer = lambda _: understand(403, {"success": False, "error": "not yours"})
    with shop.runtime.database.transaction_scope():
        for number in range(50):
            shop.deduct(f"order-{number}")
    shop.drain()
    shop.remote.calls.clear()
    live_for(shop, 0.5)
    assert 25 <= len(shop.remote.calls) <= 31
    assert shop.runtime.breaker.open_until() is None

    come_back(shop)
    live_for(shop, 2 / 60)
    assert set(shop.statuses()) == {"completed"}


@pytest.mark.parametrize(("answer", "level"), [(REFUSED, "INFO"), (NO_ANSWER, "DEBUG")])
def test_what_was_not_delivered_is_in_the_log_and_in_an_outage_only_in_a_detailed_one(
    shop: Shop, caplog: pytest.LogCaptureFixture, answer: Answer, level: str
) -> None:
    shop.remote.answer = lambda _: answer
    shop.deduct()
    with caplog.at_level("DEBUG", "stocksync.delivery"):
        shop.drain()

    (line,) = (line for line in caplog.records if "not delivered" in line.message)
    assert line.levelname == level
    assert f"({answer.error_class}: {answer.error}), again at" in line.message


def test_twenty_refusals_in_a_row_pause_the_lane_and_the_rest_keeps_waiting(shop: Shop) -> None:
    shop.remote.answer = lambda _: understand(422, {"success": False, "error": "what is this"})
    with shop.runtime.database.transaction_scope():
        for number in range(60):
            shop.deduct(f"order-{number}")
    live_for(shop, 1)

    state = shop.runtime.deliveries.state(SELLER)
    assert state["paused"]
    assert "what is this" in state["paused_reason"]
    assert shop.statuses().count("failed") == 19
    assert shop.statuses().count("pending") == 41
    assert shop.broken_promises() == []

    shop.runtime.deliveries.resume(SELLER)
    come_back(shop)
    live_for(shop, 2 / 60)
    assert shop.statuses().count("completed") == 41


def test_refusals_between_successes_do_not_pause_the_lane(shop: Shop) -> None:
    refused = understand(422, {"success": False, "error": "no"})
    shop.remote.answer = lambda order_id: refused if int(order_id.split("-")[1]) % 2 else DELIVERED
    with shop.runtime.database.transaction_scope():
        for number in range(80):
            shop.deduct(f"order-{number}")
    shop.drain()

    assert not shop.runtime.deliveries.state(SELLER)["paused"]
    assert (shop.statuses().count("failed"), shop.statuses().count("completed")) == (40, 40)


def test_an_ordinary_rejection_does_not_open_the_breaker(shop: Shop) -> None:
    shop.remote.answer = lambda _: REFUSED
    for number in range(30):
        shop.deduct(f"order-{number}")
    shop.drain()

    assert shop.runtime.breaker.open_until() is None


def test_without_redis_it_counts_as_closed() -> None:
    clock = Clock()
    nobody = connect_redis(f"redis://127.0.0.1:{free_port()}/0", timeout=0.25)
    breaker = Breaker(nobody, "stock-sync", clock)

    assert not breaker.failed(times=100)
    assert breaker.admit() == "closed"
    assert not breaker.served()
    assert breaker.served_at() == clock.now
