"""What a monolith's developers test with: real delivery, by a clock of theirs, to a remote that does as it is told."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from stocksync.aio import AsyncStockSync
from stocksync.testing import Harness, harness
from tests.kit import DELIVERED, NOTHING, RETRYING, SELLER, sell, statuses

# Delivery


def test_what_is_sold_waits_until_it_is_delivered(stock_sync: Harness) -> None:
    sell(stock_sync)
    assert (statuses(stock_sync), stock_sync.remote.told) == (["pending"], {})

    assert stock_sync.deliver_now() == DELIVERED
    assert stock_sync.remote.told == {(SELLER, "order-1"): True}
    assert stock_sync.deliver_now() == NOTHING
    assert statuses(stock_sync) == ["completed"]


def test_every_sellers_work_is_delivered(stock_sync: Harness) -> None:
    for number in range(250):  # more than one batch
        sell(stock_sync, f"order-{number}", f"seller-{number % 3}")

    assert stock_sync.deliver_now()["succeeded"] == 250
    assert len(stock_sync.remote.told) == 250


def test_nothing_is_sent_by_another_thread(stock_sync: Harness) -> None:
    sell(stock_sync)
    before = threading.active_count()
    stock_sync.deliver_now()

    assert threading.active_count() == before


def test_with_immediate_a_call_delivers(stock_sync: Harness) -> None:
    assert sell(stock_sync, immediate=True)
    assert stock_sync.remote.told == {(SELLER, "order-1"): True}
    stock_sync.remote.fail(404)
    assert not sell(stock_sync, "order-2", immediate=True)


def test_a_call_from_another_thread_sees_the_same_database(stock_sync: Harness) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: sell(stock_sync, f"order-{number}"), range(40)))

    assert stock_sync.deliver_now()["succeeded"] == 40


def test_a_call_of_an_async_program_is_delivered(stock_sync: Harness) -> None:
    async def sell_async() -> None:
        sync = AsyncStockSync()  # the process's own
        await sync.service.sync_stock_deduction(SELLER, "order-1", "A", 1)
        await sync.close()

    asyncio.run(sell_async())
    assert stock_sync.deliver_now() == DELIVERED


# The remote


@pytest.mark.parametrize(
    ("status", "error_class"),
    [(404, "Http404"), (409, "Http409"), (200, "NotSuccessful")],
)
def test_an_order_that_is_refused_comes_back_by_the_retrys_time(
    stock_sync: Harness, status: int, error_class: str
) -> None:
    sell(stock_sync)
    stock_sync.remote.fail(status, "unknown order")
    assert stock_sync.deliver_now() == RETRYING
    (operation,) = stock_sync.operations(error_class=error_class)
    assert (operation["retry_count"], operation["error_message"]) == (1, "unknown order")

    stock_sync.remote.recover()
    stock_sync.clock.advance(seconds=59)
    assert stock_sync.deliver_now() == NOTHING
    stock_sync.clock.advance(seconds=1)
    assert stock_sync.deliver_now() == DELIVERED


def test_an_order_that_is_refused_too_often_fails_and_is_retried_by_a_person(stock_sync: Harness) -> None:
    sell(stock_sync)
    stock_sync.remote.fail(404, times=5)
    outcomes = []
    for _ in range(5):
        outcomes.append(stock_sync.deliver_now())
        stock_sync.clock.advance(hours=1)

    assert outcomes[:4] == [RETRYING] * 4
    assert outcomes[4]["max_retries_reached"] == 1
    assert stock_sync.deliver_now() == NOTHING
    (failed,) = stock_sync.operations(status="failed")
    stock_sync.runtime.service.retry(failed["id"], actor="somebody")
    assert stock_sync.deliver_now() == DELIVERED


def test_an_order_that_is_invalid_fails_at_once(stock_sync: Harness) -> None:
    sell(stock_sync)
    stock_sync.remote.fail(422)

    assert stock_sync.deliver_now()["max_retries_reached"] == 1


def test_an_outage_costs_no_attempt(stock_sync: Harness) -> None:
    for number in range(8):
        sell(stock_sync, f"order-{number}")
    stock_sync.remote.fail()
    for _ in range(20):
        stock_sync.deliver_now()
        stock_sync.clock.advance(minutes=10)
    assert {operation["retry_count"] for operation in stock_sync.operations()} == {0}
    assert stock_sync.remote.told == {}

    stock_sync.remote.recover()
    stock_sync.clock.advance(minutes=1)
    stock_sync.deliver_now()
    assert len(stock_sync.remote.told) == 8
    assert set(statuses(stock_sync)) == {"completed"}


def test_a_remote_that_is_busy_is_left_alone_for_as_long_as_it_asks(stock_sync: Harness) -> None:
    sell(stock_sync)
    stock_sync.remote.fail(429, retry_after=120, times=1)
    stock_sync.deliver_now()

    stock_sync.clock.advance(seconds=119)
    assert stock_sync.deliver_now() == NOTHING
    stock_sync.clock.advance(seconds=1)
    assert stock_sync.deliver_now() == DELIVERED


def test_refused_credentials_cost_no_attempt(stock_sync: Harness) -> None:
    sell(stock_sync)
    stock_sync.remote.fail(401)
    stock_sync.deliver_now()
    (operation,) = stock_sync.operations()

    assert (operation["status"], operation["retry_count"]) == ("pending", 0)
    stock_sync.remote.recover()
    stock_sync.clock.advance(minutes=2)
    assert stock_sync.deliver_now() == DELIVERED


def test_one_order_fails_alone(stock_sync: Harness) -> None:
    stock_sync.remote.fail(404, order_id="order-1")
    sell(stock_sync, "order-1")
    sell(stock_sync, "order-2")

    assert (stock_sync.deliver_now()["succeeded"], statuses(stock_sync)) == (1, ["completed", "pending"])


def test_the_remote_remembers_every_request(stock_sync: Harness) -> None:
    sell(stock_sync)
    stock_sync.remote.fail(404, times=1)
    stock_sync.deliver_now()
    stock_sync.clock.advance(minutes=1)
    stock_sync.deliver_now()
    stock_sync.runtime.service.sync_stock_refund(SELLER, "order-1", "A", 1, line_item_id="line-order-1")
    stock_sync.deliver_now()

    assert [flag for _, _, flag in stock_sync.remote.calls] == [True, True, False]
    assert stock_sync.remote.calls[0] == (SELLER, "order-1", True)
    assert stock_sync.remote.told == {(SELLER, "order-1"): False}


def test_what_the_remote_has_wrong_is_found_by_reconciliation(stock_sync: Harness) -> None:
    for number in range(3):
        sell(stock_sync, f"order-{number}")
    stock_sync.deliver_now()
    stock_sync.clock.advance(hours=1)
    stock_sync.remote.told[SELLER, "order-1"] = False
    del stock_sync.remote.told[SELLER, "order-2"]

    report = stock_sync.runtime.service.reconcile_stock_status(SELLER)
    assert (report["checked"], report["complete"], report["fixed"]) == (3, True, 1)
    assert report["buckets"] == {"agrees": 1, "missing_remote": 1, "missing_order": 1}
    assert stock_sync.woken == {SELLER}
    stock_sync.deliver_now()
    assert stock_sync.remote.told[SELLER, "order-1"] is True


def test_reconciliation_reads_page_by_page() -> None:
    with harness(reconciliation_batch_size=2) as stock_sync:
        for number in range(5):
            sell(stock_sync, f"order-{number}")
        stock_sync.deliver_now()
        stock_sync.clock.advance(hours=1)

        report = stock_sync.runtime.service.reconcile_stock_status(SELLER)
        assert (report["checked"], report["discrepancies"], report["complete"]) == (5, [], True)


def test_reconciliation_of_a_remote_that_is_down_is_not_complete(stock_sync: Harness) -> None:
    sell(stock_sync)
    stock_sync.deliver_now()
    stock_sync.remote.fail()

    assert stock_sync.runtime.service.reconcile_stock_status(SELLER)["complete"] is False
