"""Stock that is kept elsewhere: intent, call, confirm. What nobody knows is never guessed, delivered or forgotten."""

from __future__ import annotations

from typing import Any

import pytest

from stocksync import InsufficientStock, InvalidInput, InventoryManagerWithSync, UnknownWarehouse
from tests.elsewhere import Elsewhere, give_back, sell
from tests.shop import SELLER, WAREHOUSE, Shop, listed


@pytest.fixture
def elsewhere() -> Elsewhere:
    return Elsewhere()


@pytest.fixture
def synced(shop: Shop, elsewhere: Elsewhere) -> InventoryManagerWithSync:
    return InventoryManagerWithSync(elsewhere, shop.service)


# Of our own stock


def test_our_own_stock_is_moved_and_recorded_in_one_call(shop: Shop) -> None:
    shop.stock(A=10)
    ours = shop.runtime.inventory_with_sync
    sold = sell(ours, line_item_id="L", actor="Anna")
    assert (sold.success, sold.status, shop.on_hand("A")) == (True, "pending", 8)
    shop.drain()

    back = give_back(ours, line_item_id="L")
    shop.drain()
    assert (back.success, shop.on_hand("A"), shop.flag()) == (True, 10, False)
    assert shop.operation(sold.operation_id)["actor"] == "Anna"
    assert shop.broken_promises() == []


def test_our_own_shortage_writes_nothing(shop: Shop) -> None:
    shop.stock(A=1)

    with pytest.raises(InsufficientStock):
        sell(shop.runtime.inventory_with_sync)
    with pytest.raises(UnknownWarehouse):
        shop.runtime.inventory_with_sync.remove_as_sale_with_sync("A", "Marte", 1, "order-1", SELLER)
    assert (shop.on_hand("A"), shop.statuses()) == (1, [])


def test_a_line_of_our_stock_is_not_taken_elsewhere_and_the_other_way_round(
    shop: Shop, synced: InventoryManagerWithSync
) -> None:
    shop.stock(A=10)
    sell(shop.runtime.inventory_with_sync)
    shop.deduct("order-2")

    with pytest.raises(InvalidInput, match="kept here"):
        shop.deduct("order-1")
    with pytest.raises(InvalidInput, match="kept here"):
        sell(synced)
    with pytest.raises(InvalidInput, match="kept elsewhere"):
        shop.runtime.inventory_with_sync.remove_as_sale_with_sync("A", WAREHOUSE, 1, "order-2", SELLER)
    assert (shop.on_hand("A"), shop.line("A@Ирина")["deducted"]) == (8, 2)
    assert shop.broken_promises() == []


def test_our_stock_and_its_record_are_undone_with_the_callers_transaction(shop: Shop) -> None:
    shop.stock(A=10)

    def fails() -> None:
        with shop.runtime.database.transaction_scope():
            sell(shop.runtime.inventory_with_sync)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert (shop.on_hand("A"), shop.statuses(), shop.wakeups.woken) == (10, [], [])


# Kept elsewhere


def test_the_intent_is_written_before_the_inventory_is_asked(
    shop: Shop, elsewhere: Elsewhere, synced: InventoryManagerWithSync
) -> None:
    seen: list[Any] = []
    elsewhere.before = lambda: seen.append(listed(shop.runtime, in_doubt=True))
    result = sell(synced)

    assert [(row["applied"], row["status"], row["quantity"]) for row in seen[0]] == [
        ("unknown", "pending", 2)
    ]
    assert (result.success, result.status, elsewhere.stock["A"]) == (True, "pending", 8)
    assert shop.actions(result.operation_id) == ["created", "in_doubt", "confirmed"]
    shop.drain()
    assert (shop.flag(), shop.operation(result.operation_id)["status"]) == (True, "completed")
    assert shop.broken_promises() == []


def test_a_repeated_call_asks_the_inventory_once(
    elsewhere: Elsewhere, synced: InventoryManagerWithSync
) -> None:
    assert sell(synced, line_item_id="L").operation_id == sell(synced, line_item_id="L").operation_id
    assert len(elsewhere.calls) == 1


def test_its_error_means_not_deducted_and_reaches_the_caller(
    shop: Shop, elsewhere: Elsewhere, synced: InventoryManagerWithSync
) -> None:
    with pytest.raises(ValueError, match="only 10 of A"):
        sell(synced, 11, line_item_id="L")
    shop.drain()

    rows = listed(shop.runtime)
    assert [(row["status"], row["applied"], row["error_class"]) for row in rows] == [
        ("cancelled", "no", "ValueError")
    ]
    assert shop.remote.calls == []
    assert shop.broken_promises() == []


def test_after_its_error_the_same_call_may_be_made_again(
    shop: Shop, elsewhere: Elsewhere, synced: InventoryManagerWithSync
) -> None:
    with pytest.raises(ValueError, match="only"):
        sell(synced, 11, line_item_id="L", idempotency_key="K")
    elsewhere.stock["A"] = 20
    sell(synced, 11, line_item_id="L", idempotency_key="K")
    shop.drain()

    assert (elsewhere.stock["A"], shop.line("L")["deducted"], shop.flag()) == (9, 11, True)
    assert shop.broken_promises() == []


def test_a_line_that_was_not_deducted_does_not_hold_the_others_up(
    shop: Shop, synced: InventoryManagerWithSync
) -> None:
    sell(synced, line_item_id="1")
    with pytest.raises(ValueError, match="only"):
        sell(synced, 11, line_item_id="2")
    shop.drain()

    assert shop.flag() is True
