"""Orders that were begun with an inventory elsewhere and go on with forms."""

from __future__ import annotations

import threading

import psycopg
import pytest

from stocksync import InDoubt, InvalidInput, InvalidOrder, InventoryManagerWithSync
from tests.elsewhere import Elsewhere, raising, sell
from tests.shop import SELLER, WAREHOUSE, Shop, form, open_shop


@pytest.fixture
def elsewhere() -> Elsewhere:
    return Elsewhere()


@pytest.fixture
def synced(shop: Shop, elsewhere: Elsewhere) -> InventoryManagerWithSync:
    return InventoryManagerWithSync(elsewhere, shop.service)


def test_what_was_denied_leaves_the_line_to_the_form(
    shop: Shop, elsewhere: Elsewhere, synced: InventoryManagerWithSync
) -> None:
    shop.stock(A=10)
    elsewhere.before = raising(ValueError("not here"))
    with pytest.raises(ValueError, match="not here"):
        sell(synced, 1, line_item_id="line-1")
    result = shop.orders.process_order_stock_update(form())
    shop.drain()

    assert (result.status, shop.on_hand("A"), shop.flag()) == ("queued", 9, True)
    assert shop.broken_promises() == []


def test_a_form_is_refused_while_an_unnamed_deduction_is_in_doubt(
    shop: Shop, elsewhere: Elsewhere, synced: InventoryManagerWithSync
) -> None:
    shop.stock(A=10)
    elsewhere.after = raising(TimeoutError())
    with pytest.raises(InDoubt):
        sell(synced, 1)

    with pytest.raises(InvalidOrder, match="deduct them twice"):
        shop.orders.process_order_stock_update(form())
    assert shop.on_hand("A") == 10


def test_a_form_does_not_deduct_more_of_a_line_that_is_kept_elsewhere(
    shop: Shop, synced: InventoryManagerWithSync
) -> None:
    shop.stock(A=10)
    sell(synced, 1, line_item_id="line-1")
    with pytest.raises(InvalidOrder, match="kept elsewhere"):
        shop.orders.process_order_stock_update(form(lines={"line-1": ("A", 3)}))

    assert (shop.on_hand("A"), shop.order().has_form) == (10, False)


def test_no_call_deducts_more_of_a_line_than_the_form_ordered(
    shop: Shop, elsewhere: Elsewhere, synced: InventoryManagerWithSync
) -> None:
    shop.stock(A=10)
    elsewhere.after = raising(TimeoutError())
    with pytest.raises(InDoubt) as doubt:
        sell(synced, 5, line_item_id="line-1")
    shop.orders.process_order_stock_update(form(lines={"line-1": ("A", 2)}))
    shop.service.confirm(str(doubt.value.operation_id), False, actor="Anna")
    with pytest.raises(InvalidInput, match="2 were ordered"):
        shop.service.sync_stock_deduction(SELLER, "order-1", "A", 5, line_item_id="line-1")
    shop.service.sync_stock_deduction(SELLER, "order-1", "A", 2, line_item_id="line-1")

    assert shop.broken_promises() == []


def test_a_line_id_that_reads_like_a_call_without_one_is_refused(shop: Shop) -> None:
    shop.stock(A=10)
    with pytest.raises(InvalidOrder, match="kept for calls without line id"):
        shop.orders.process_order_stock_update(form(lines={f"A@{WAREHOUSE}": ("A", 1)}))


def test_a_revision_without_time_does_not_let_an_older_one_win(shop: Shop) -> None:
    shop.stock(A=10)
    first = form(lines={"L": ("A", 1)}, revision="r1")
    shop.orders.process_order_stock_update(first)
    shop.orders.process_order_stock_update(form(lines={"L": ("A", 2)}, revision="r2", updated_at=None))
    shop.orders.process_order_stock_update(first)

    assert shop.on_hand("A") == 8


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-10:00"])
def test_a_time_beyond_utc_is_refused_in_words(shop: Shop, moment: str) -> None:
    with pytest.raises(InvalidOrder, match="updatedAt"):
        shop.orders.process_order_stock_update(form(updated_at=moment))


def test_immediate_mode_writes_its_answer_once_a_caller_lets_go_of_the_order(postgres_url: str) -> None:
    with open_shop(postgres_url) as shop:
        caller = psycopg.connect(postgres_url)

        def hold_for_a_moment() -> None:
            caller.execute("SELECT id FROM stock_sync_orders FOR UPDATE")
            threading.Timer(0.3, caller.rollback).start()

        shop.remote.takes_time = hold_for_a_moment
        result = shop.service.sync_stock_deduction(SELLER, "order-1", "A", 1, immediate=True)

        assert (result.success, result.status) == (True, "completed")
