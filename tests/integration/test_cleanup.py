"""Clean-up: what is long at an end goes, what is not stays, and a repeat months later is known all the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from stocksync import InDoubt, InventoryManagerWithSync
from stocksync.store import models
from tests.cleaning import (
    DAY,
    clean,
    count,
    delivered,
    delivered_and_given_back,
    difference,
    everything,
    execute,
    sell,
)
from tests.shop import REFUSED, SELLER, WAREHOUSE, Shop, later, open_shop


@pytest.fixture
def shop(database_url: str) -> Iterator[Shop]:
    with open_shop(database_url) as opened:
        opened.stock(A=10, B=5)
        yield opened


class Silent:
    """An inventory of which nobody knows what it did."""

    def remove_as_sale(self, sku: str, warehouse: str, quantity: int) -> None:
        raise TimeoutError


def in_doubt(shop: Shop, order: str = "order-1") -> Any:
    synced = InventoryManagerWithSync(Silent(), shop.service)
    with pytest.raises(InDoubt) as doubt:
        synced.remove_as_sale_with_sync("A", WAREHOUSE, 1, order, SELLER)
    return doubt.value.operation_id


def given_up_and_delivered_after_all(shop: Shop) -> None:
    shop.remote.answer = lambda _: REFUSED
    operation = sell(shop)
    for _ in range(5):
        shop.drain()
        shop.clock.advance(4000)
    assert shop.operation(operation)["status"] == "failed"
    shop.remote.answer = type(shop.remote)().answer
    shop.service.retry(operation, actor="Anna")
    shop.drain()


def recorded_without_our_stock(shop: Shop) -> None:
    shop.deduct(quantity=2)
    shop.drain()


def put_back(shop: Shop) -> None:
    shop.service.cancel(sell(shop), actor="Anna", reason="no", put_back=True)


def denied_by_another_inventory(shop: Shop) -> None:
    shop.service.confirm(in_doubt(shop, "order-3"), False, actor="Anna")


def cancelled_though_told(shop: Shop) -> None:
    shop.deduct(quantity=2)
    shop.drain()
    shop.service.cancel(shop.deduct(), actor="Anna", reason="no")


def adjusted_with_a_long_sku(shop: Shop) -> None:
    for order in ("order-1", None):
        if order:
            recorded_without_our_stock(shop)
        shop.service.sync_stock_adjustment(SELLER, order, "S" * 200, 1, "W" * 200, reason="r", actor="a")
    shop.drain()


def of_a_difference_long_gone(shop: Shop) -> None:
    delivered(shop)
    difference(shop, "gone", 100)


@pytest.mark.parametrize(
    "happens",
    [
        delivered,
        delivered_and_given_back,
        given_up_and_delivered_after_all,
        recorded_without_our_stock,
        put_back,
        denied_by_another_inventory,
        cancelled_though_told,
        adjusted_with_a_long_sku,
        of_a_difference_long_gone,
    ],
)
def test_what_is_at_an_end_goes_after_thirty_days_and_the_ledger_still_adds_up(
    shop: Shop, happens: Callable[[Shop], None]
) -> None:
    happens(shop)
    kept = [models.Order, models.OrderLine, models.Movement, models.Level, models.IdempotencyKey]
    before = [count(shop, model) for model in kept]
    operations, logs = len(shop.statuses()), count(shop, models.StockSynchronizationLog)

    early, report = clean(shop, 29), clean(shop, 2)

    assert (early["operations"], early["logs"]) == (0, 0)
    assert (report["operations"], report["logs"], report["more"]) == (operations, logs, False)
    assert (shop.statuses(), count(shop, models.StockSynchronizationLog)) == ([], 0)
    assert [count(shop, model) for model in kept] == before
    assert shop.broken_promises() == []


def test_what_was_pruned_is_recorded_as_its_line_counts_it(shop: Shop) -> None:
    put_back(shop)
    denied_by_another_inventory(shop)
    sell(shop, order_id="order-2", lines={"line-1": ("B", 3)})
    shop.drain()
    clean(shop)

    with shop.runtime.database.scope():
        rows = models.Pruned.select().order_by(models.Pruned.operation_id).dicts()
        written = [
            (row["line_item_id"], row["operation_type"], row["quantity"], row["moves_stock"]) for row in rows
        ]
    assert written == [("line-1", "deduction", 0, True), ("line-1", "deduction", 3, True)]


# What stays


def pending(shop: Shop) -> None:
    sell(shop)


def processing(shop: Shop) -> None:
    sell(shop)
    shop.runtime.deliveries.claim(SELLER, 1)


def failed(shop: Shop) -> None:
    shop.remote.answer = lambda _: REFUSED
    sell(shop)
    for _ in range(5):
        shop.drain()
        shop.clock.advance(4000)


def unanswered(shop: Shop) -> None:
    in_doubt(shop)


def cancelled_of_an_order_that_was_never_told(shop: Shop) -> None:
    shop.service.cancel(sell(shop), actor="Anna", reason="no")


def of_an_order_on_its_way_again(shop: Shop) -> None:
    delivered(shop)
    shop.clock.advance(40 * DAY)
    shop.orders.process_order_stock_update(later({"line-1": ("A", 2)}))


def of_an_order_that_differs(shop: Shop) -> None:
    delivered(shop)
    execute(shop, "UPDATE stock_sync_orders SET remote_flag = FALSE")


def of_an_order_that_the_remote_alone_has(shop: Shop) -> None:
    put_back(shop)
    execute(shop, "UPDATE stock_sync_orders SET remote_flag = TRUE")


def of_an_open_difference(shop: Shop) -> None:
    delivered(shop)
    difference(shop, "open")


def delivered_after_a_long_time(shop: Shop) -> None:
    sell(shop)
    shop.clock.advance(40 * DAY)
    shop.drain()
    shop.clock.advance(-2 * DAY)


@pytest.mark.parametrize(
    "happens",
    [
        pending,
        processing,
        failed,
        unanswered,
        cancelled_of_an_order_that_was_never_told,
        of_an_order_on_its_way_again,
        of_an_order_that_differs,
        of_an_order_that_the_remote_alone_has,
        of_an_open_difference,
        delivered_after_a_long_time,
    ],
)
def test_what_is_not_at_an_end_stays_with_all_its_logs(shop: Shop, happens: Callable[[Shop], None]) -> None:
    happens(shop)
    before = everything(shop)

    report = clean(shop)

    assert (report["operations"], report["logs"], report["keys"]) == (0, 0, 0)
    assert everything(shop) == before


def test_on_postgresql_an_order_that_somebody_holds_keeps_its_operations(postgres_url: str) -> None:
    with open_shop(postgres_url) as shop:
        shop.stock(A=10)
        delivered(shop)
        with shop.runtime.database.transaction_scope(), ThreadPoolExecutor(1) as pool:
            shop.service.recorder.lock_order(SELLER, "order-1")
            held = pool.submit(clean, shop).result(30)
        free = clean(shop, 0)

        assert (held["operations"], free["operations"]) == (0, 1)
