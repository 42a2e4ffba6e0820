"""What comes months after its operations were cleaned up, and what else is cleaned up with them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from stocksync.store import models
from tests.cleaning import clean, count, delivered, delivered_and_given_back, difference, execute
from tests.shop import SELLER, WAREHOUSE, Shop, form, goods, open_shop


@pytest.fixture
def shop(database_url: str) -> Iterator[Shop]:
    with open_shop(database_url) as opened:
        opened.stock(A=10, B=5)
        yield opened


def test_a_repeated_event_deducts_nothing(shop: Shop) -> None:
    first = shop.deduct("order-2", "A", 2, line_item_id="7")
    delivered(shop)
    shop.drain()
    clean(shop, 200)

    assert shop.orders.process_order_stock_update(form()).status == "already_updated"
    assert shop.orders.process_order_stock_update(form(revision="r2")).operations == ()
    assert shop.deduct("order-2", "A", 2, line_item_id="7") == first
    assert (shop.on_hand("A"), shop.statuses()) == (9, [])
    assert shop.broken_promises() == []


def test_a_repeated_call_for_a_line_that_came_back_in_full_deducts_nothing(shop: Shop) -> None:
    """Its line would have room again: the key alone stops it."""
    delivered_and_given_back(shop)
    synced = shop.runtime.inventory_with_sync
    clean(shop, 200)

    again = synced.remove_as_sale_with_sync("A", WAREHOUSE, 1, "order-1", SELLER, line_item_id="line-1")

    assert (again.success, again.status, shop.on_hand("A"), shop.statuses()) == (True, None, 10, [])


def test_a_return_half_a_year_later_finds_its_sale_once(shop: Shop) -> None:
    delivered(shop)
    clean(shop, 200)

    assert shop.orders.process_return(goods()).status == "queued"
    shop.drain()
    assert (shop.on_hand("A"), shop.flag()) == (10, False)
    clean(shop, 200)
    assert shop.orders.process_return(goods()).status == "already_returned"
    assert (shop.on_hand("A"), shop.statuses()) == (10, [])
    assert shop.broken_promises() == []


def test_keys_of_callers_outlive_their_operations_by_months_and_those_that_moved_stock_for_good(
    shop: Shop,
) -> None:
    synced = shop.runtime.inventory_with_sync
    shop.deduct("order-2", idempotency_key="recorded")
    shop.deduct("order-3", idempotency_key="never delivered")
    execute(shop, "UPDATE stock_sync_orders SET due_at = NULL WHERE order_id = 'order-3'")
    synced.remove_as_sale_with_sync("A", WAREHOUSE, 1, "order-1", SELLER, idempotency_key="ours")
    shop.drain()

    assert [clean(shop, days)["keys"] for days in (31, 58, 2)] == [0, 0, 1]
    with shop.runtime.database.scope():
        keys = sorted(row.key for row in models.IdempotencyKey.select())
    assert keys == ["call:never delivered", "call:ours"]
    assert synced.remove_as_sale_with_sync(
        "A", WAREHOUSE, 1, "order-1", SELLER, idempotency_key="ours"
    ).success
    assert shop.on_hand("A") == 9


# Reports


def test_finished_reports_alerts_and_runs_go_after_ninety_days(shop: Shop) -> None:
    now, past = shop.clock.now, shop.clock.now + timedelta(days=1)
    alert = {"details": {}, "raised_at": now, "last_seen_at": now}
    run = {"started_at": now, "result": {}}
    rows: list[tuple[Any, dict[str, Any]]] = [
        (models.Alert, alert | {"kind": "over", "resolved_at": past}),
        (models.Alert, alert | {"kind": "untold", "resolved_at": past, "pending_notification": "resolved"}),
        (models.Alert, alert | {"kind": "raised"}),
        (models.TaskRun, run | {"task": "sweep", "status": "done", "finished_at": past}),
        (models.TaskRun, run | {"task": "sweep", "lease_until": past}),
    ]
    with shop.runtime.database.transaction_scope():
        for model, values in rows:
            model.create(id=shop.runtime.new_id(), **values)
    difference(shop, "gone", 100)
    difference(shop, "open")
    difference(shop, "fixed", 1)
    difference(shop, "left", 100)

    early, report = clean(shop, 91), clean(shop, 2)

    kinds = ("discrepancies", "reconciliations", "alerts", "task_runs")
    assert [early[kind] for kind in kinds] == [1, 1, 0, 0]
    assert [report[kind] for kind in kinds] == [0, 0, 1, 1]
    left = (models.Discrepancy, models.Reconciliation, models.Alert, models.TaskRun)
    assert [count(shop, model) for model in left] == [3, 3, 2, 1]
