"""Tallies: every figure of success is counted with the rows that it tells of, and stays the same when folded."""

from __future__ import annotations

import time
from datetime import timedelta

from stocksync.store.models import PendingStockOperation, Tally
from stocksync.store.tallies import Counts
from tests.shop import DELIVERED, REFUSED, START, Shop, form


def rows(shop: Shop) -> list[tuple[int, int]]:
    """(grain, completed) of every row."""
    with shop.runtime.database.scope():
        return sorted(Tally.select(Tally.grain, Tally.completed).tuples())


def test_what_is_told_at_once_and_what_is_told_later_are_told_apart(shop: Shop) -> None:
    shop.deduct("well")
    shop.clock.advance(2)
    shop.drain()
    shop.remote.answer = lambda _: REFUSED
    shop.deduct("unwell")
    shop.drain()
    shop.clock.advance(100)
    shop.remote.answer = lambda _: DELIVERED
    shop.drain()

    counts = shop.runtime.tallies.since(START)
    success = counts.success()
    assert (counts["delivered"], counts["failed"], counts["completed"]) == (2, 1, 2)
    assert success["first_attempt_share"] == 0.5
    assert success["mean_retry_seconds"] == 100
    assert success["mean_wait_seconds"] == 51
    assert (counts["wait_le_5"], counts["wait_le_300"]) == (1, 1)


def test_how_long_the_requests_took_is_counted(shop: Shop) -> None:
    shop.remote.takes_time = lambda: time.sleep(0.06)
    shop.deduct()
    shop.drain()
    counts = shop.runtime.tallies.since(START)

    assert counts["took_ms"] >= 60
    assert counts["took_le_50"] == 0


def test_an_operation_that_was_given_up_and_retried_by_hand_was_not_told_at_once(shop: Shop) -> None:
    shop.remote.answer = lambda _: REFUSED
    operation = shop.deduct()
    for _ in range(5):
        shop.drain()
        shop.clock.advance(4000)
    shop.remote.answer = lambda _: DELIVERED
    shop.service.retry(operation, actor="Anna")
    shop.drain()

    success = shop.runtime.tallies.since(START).success()
    assert shop.operation(operation)["status"] == "completed"
    assert (success["first_attempt_share"], success["recovered_operations"]) == (0, 1)
    assert success["given_up_operations"] == 1
    assert success["mean_retry_seconds"] == 5 * 4000


def test_without_deliveries_there_is_no_share(shop: Shop) -> None:
    success = shop.runtime.tallies.since(START).success()

    assert (success["first_attempt_share"], success["mean_retry_seconds"]) == (None, None)


def test_the_kept_count_is_the_number_of_completed_operations(shop: Shop) -> None:
    shop.stock(A=9)
    shop.orders.process_order_stock_update(form("one", lines={"1": ("A", 1), "2": ("A", 2)}))
    shop.drain()
    shop.orders.cancel_order("one", "seller-1")
    shop.drain()
    shop.orders.process_order_stock_update(form("two", lines={"1": ("A", 1)}))
    shop.orders.cancel_order("two", "seller-1")  # never told: complete without a delivery
    shop.service.sync_stock_adjustment("seller-1", None, "A", 5, reason="found", actor="Anna")

    with shop.runtime.database.scope():
        counted = PendingStockOperation.select().where(PendingStockOperation.status == "completed").count()
    assert counted == 7
    assert shop.runtime.operation_lists.by_status()["completed"] == counted


def test_folding_sums_up_what_has_aged_and_loses_nothing(shop: Shop) -> None:
    tallies, database = shop.runtime.tallies, shop.runtime.database
    moments = [START + timedelta(seconds=20 * number) for number in range(30)]
    moments += [START - timedelta(days=2, minutes=number) for number in range(90)]
    moments += [START - timedelta(days=12, hours=number) for number in range(30)]
    for moment in moments:
        with database.transaction_scope():
            tallies.add(Counts(completed=2, pruned=1, at_once=2, wait_ms=10), moment)
    before = tallies.since(START - timedelta(days=30))
    now = START + timedelta(minutes=11)

    assert tallies.fold(now) > 0
    assert tallies.since(START - timedelta(days=30)) == before
    assert tallies.completed() == 150
    grains = [grain for grain, _ in rows(shop)]
    # The youngest two minutes stay as they are; 90 minutes are three hours, 30 hours are three days at most.
    assert (grains.count(0), grains.count(60)) == (3, 9)
    assert grains.count(3600) <= 3
    assert grains.count(86400) <= 3
    tallies.fold(now)
    assert [grain for grain, _ in rows(shop)] == grains


def test_a_series_has_a_place_for_every_step(shop: Shop) -> None:
    shop.deduct()
    shop.drain()
    series = shop.runtime.tallies.series(START - timedelta(hours=1), 600, START + timedelta(seconds=1))

    assert [counts["delivered"] for _, counts in series] == [0, 0, 0, 0, 0, 0, 1]
    assert series[-1][0] == START
