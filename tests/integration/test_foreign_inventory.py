"""Stock that is kept elsewhere: intent, call, confirm. What nobody knows is never guessed, delivered or forgotten."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from requests.exceptions import ReadTimeout

from stocksync import (
    InDoubt,
    InsufficientStock,
    InvalidInput,
    InvalidOrder,
    InventoryManagerWithSync,
    OpenTransaction,
    OrderCancelled,
    TransitionRefused,
    UnknownWarehouse,
)
from tests.shop import SELLER, WAREHOUSE, Shop, form, later, listed, open_shop


class Elsewhere:
    """The monolith's own inventory: keeps stock, and fails when told to."""

    def __init__(self) -> None:
        self.stock = {"A": 10}
        self.calls: list[tuple[str, str, int]] = []
        self.before: Callable[[], Any] = lambda: None
        self.after: Callable[[], Any] = lambda: None

    def remove_as_sale(self, sku: str, warehouse: str, quantity: int) -> None:
        self._move(sku, warehouse, -quantity)

    def add(self, sku: str, warehouse: str, quantity: int) -> None:
        self._move(sku, warehouse, quantity)

    def _move(self, sku: str, warehouse: str, quantity: int) -> None:
        self.calls.append((sku, warehouse, quantity))
        self.before()
        if self.stock[sku] + quantity < 0:
            raise ValueError(f"only {self.stock[sku]} of {sku}")
        self.stock[sku] += quantity
        self.after()


@pytest.fixture
def shop(database_url: str) -> Iterator[Shop]:
    with open_shop(database_url) as opened:
        yield opened


@pytest.fixture
def elsewhere() -> Elsewhere:
    return Elsewhere()


@pytest.fixture
def synced(shop: Shop, elsewhere: Elsewhere) -> InventoryManagerWithSync:
    return InventoryManagerWithSync(elsewhere, shop.service)


def raising(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def sell(synced: InventoryManagerWithSync, quantity: int = 2, **more: Any) -> Any:
    return synced.remove_as_sale_with_sync("A", WAREHOUSE, quantity, "order-1", SELLER, **more)


def give_back(synced: InventoryManagerWithSync, quantity: int = 2, **more: Any) -> Any:
    return synced.return_with_sync("A", WAREHOUSE, quantity, "order-1", SELLER, **more)


def in_doubt(synced: InventoryManagerWithSync, elsewhere: Elsewhere, act: Any = sell, **more: Any) -> Any:
    """The id of an operation of which nobody knows whether the inventory did it."""
    elsewhere.before = raising(TimeoutError("no answer"))
    with pytest.raises(InDoubt) as doubt:
        act(synced, **more)
    elsewhere.before = lambda: None
    return doubt.value.operation_id


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


@pytest.mark.parametrize("error", [TimeoutError(), ConnectionResetError(), ReadTimeout()])
def test_an_uncertain_error_leaves_it_in_doubt_and_nothing_is_delivered(
    shop: Shop, elsewhere: Elsewhere, synced: InventoryManagerWithSync, error: Exception
) -> None:
    shop.deduct(line_item_id="other")
    elsewhere.before = raising(error)
    with pytest.raises(InDoubt) as doubt:
        sell(synced, line_item_id="L")
    shop.drain()

    assert doubt.value.__cause__ is error
    assert shop.remote.calls == []
    assert (shop.order().is_stock_updated, shop.order().due_at) == (None, None)
    rows = listed(shop.runtime, in_doubt=True)
    assert (len(rows), rows[0]["id"]) == (1, doubt.value.operation_id)
    assert shop.broken_promises() == []


def test_a_return_in_doubt_holds_its_order_up_too(
    shop: Shop, elsewhere: Elsewhere, synced: InventoryManagerWithSync
) -> None:
    sell(synced)
    operation = in_doubt(synced, elsewhere, give_back, quantity=1)
    shop.drain()
    assert shop.remote.calls == []

    shop.service.confirm(operation, True, actor="Anna")
    shop.drain()
    assert (shop.flag(), shop.statuses()) == (True, ["completed", "completed"])


def test_which_errors_are_uncertain_is_the_callers_choice(shop: Shop, elsewhere: Elsewhere) -> None:
    elsewhere.before = raising(KeyError("gone"))

    with pytest.raises(InDoubt):
        sell(InventoryManagerWithSync(elsewhere, shop.service, uncertain=(KeyError,)))


def test_a_process_that_dies_in_the_call_leaves_it_in_doubt(
    shop: Shop, elsewhere: Elsewhere, synced: InventoryManagerWithSync
) -> None:
    elsewhere.after = raising(SystemExit())
    with pytest.raises(SystemExit):
        sell(synced)
    elsewhere.after = lambda: None

    assert len(listed(shop.runtime, in_doubt=True)) == 1
    assert shop.broken_promises() == []


@pytest.mark.parametrize("act", [sell, give_back])
def test_repeated_while_in_doubt_it_is_not_asked_again(
    shop: Shop, elsewhere: Elsewhere, synced: InventoryManagerWithSync, act: Any
) -> None:
    if act is give_back:
        sell(synced)
    operation = in_doubt(synced, elsewhere, act, idempotency_key="K")
    asked = len(elsewhere.calls)

    with pytest.raises(InDoubt) as again:
        act(synced, idempotency_key="K")
    assert (again.value.operation_id, len(elsewhere.calls)) == (operation, asked)


def test_confirmed_as_deducted_it_is_delivered(
    shop: Shop, elsewhere: Elsewhere, synced: InventoryManagerWithSync
) -> None:
    operation = in_doubt(synced, elsewhere)
    shop.service.confirm(operation, True, actor="Anna", reason="counted")
    shop.drain()

    row = shop.operation(operation)
    assert (row["status"], row["applied"], shop.flag()) == ("completed", "yes", True)
    assert row["log"][2]["details"] == {"actor": "Anna", "reason": "counted", "done": True}
    assert shop.broken_promises() == []


def test_confirmed_as_not_deducted_it_is_cancelled_and_the_rest_goes_on(
    shop: Shop, elsewhere: Elsewhere, synced: InventoryManagerWithSync
) -> None:
    other = shop.deduct(line_item_id="other")
    operation = in_doubt(synced, elsewhere, line_item_id="L")
    shop.service.confirm(operation, False, actor="Anna")
    shop.drain()

    assert (shop.operation(operation)["status"], shop.operation(other)["status"]) == (
        "cancelled",
        "completed",
    )
    assert shop.flag() is True
    assert shop.broken_promises() == []


def test_what_is_not_in_doubt_can_not_be_confirmed(shop: Shop, synced: InventoryManagerWithSync) -> None:
    with pytest.raises(TransitionRefused, match="not in doubt"):
        shop.service.confirm(sell(synced).operation_id, True, actor="Anna")


def test_what_is_in_doubt_can_be_neither_retried_nor_cancelled(
    shop: Shop, elsewhere: Elsewhere, synced: InventoryManagerWithSync
) -> None:
    operation = in_doubt(synced, elsewhere)

    with pytest.raises(InDoubt, match="operations confirm"):
        shop.service.retry(operation, actor="Anna")
    with pytest.raises(InDoubt):
        shop.service.cancel(operation, actor="Anna", reason="no")
    assert shop.operation(operation)["status"] == "pending"


def test_it_is_not_called_inside_an_open_transaction(
    shop: Shop, elsewhere: Elsewhere, synced: InventoryManagerWithSync
) -> None:
    with shop.runtime.database.transaction_scope(), pytest.raises(OpenTransaction, match="commit"):
        sell(synced)
    assert (elsewhere.calls, shop.statuses()) == ([], [])


def test_goods_come_back_through_its_add(
    shop: Shop, elsewhere: Elsewhere, synced: InventoryManagerWithSync
) -> None:
    sell(synced, 3)
    shop.drain()
    give_back(synced, 3)
    shop.drain()

    assert (elsewhere.stock["A"], shop.flag()) == (10, False)
    assert shop.broken_promises() == []


def test_without_add_it_says_so(shop: Shop) -> None:
    class OnlySells:
        def remove_as_sale(self, sku: str, warehouse: str, quantity: int) -> None: ...

    synced = InventoryManagerWithSync(OnlySells(), shop.service)
    sell(synced)
    with pytest.raises(InvalidInput, match="OnlySells has no add"):
        give_back(synced)
    assert shop.statuses() == ["pending"]


def test_units_whose_return_is_in_doubt_are_given_back_by_nobody_else(
    shop: Shop, elsewhere: Elsewhere, synced: InventoryManagerWithSync
) -> None:
    sell(synced, 3, line_item_id="L")
    operation = in_doubt(synced, elsewhere, give_back, quantity=2, line_item_id="L")
    cancelled = shop.orders.cancel_order("order-1", SELLER)
    assert [shop.operation(refund)["quantity"] for refund in cancelled.operations] == [1]

    shop.service.confirm(operation, False, actor="Anna")
    shop.drain()
    assert shop.line("L")["refunded"] == 3
    assert shop.broken_promises() == []


@pytest.mark.parametrize(("restock", "on_hand"), [(True, 10), (False, 7)])
def test_a_cancellation_without_restocking_holds_for_a_return_that_was_in_doubt_then(
    shop: Shop, elsewhere: Elsewhere, synced: InventoryManagerWithSync, restock: bool, on_hand: int
) -> None:
    shop.stock(A=10)
    sell(shop.runtime.inventory_with_sync, 3, line_item_id="L")
    operation = in_doubt(synced, elsewhere, give_back, quantity=2, line_item_id="L")
    shop.orders.cancel_order("order-1", SELLER, restock=restock)

    shop.service.confirm(operation, False, actor="Anna")
    assert (shop.line("L")["refunded"], shop.on_hand("A")) == (3, on_hand)
    assert shop.broken_promises() == []


# Changed while in doubt


def test_cancelled_meanwhile_it_is_given_back_as_soon_as_it_is_confirmed(
    shop: Shop, elsewhere: Elsewhere, synced: InventoryManagerWithSync
) -> None:
    operation = in_doubt(synced, elsewhere)
    shop.orders.cancel_order("order-1", SELLER)
    assert shop.line("A@Ирина")["deducted"] == 0

    shop.service.confirm(operation, True, actor="Anna")
    shop.drain()
    line = shop.line("A@Ирина")
    assert (line["deducted"], line["refunded"], shop.statuses()) == (2, 2, ["completed", "completed"])
    with pytest.raises(OrderCancelled):
        sell(synced)
    assert shop.broken_promises() == []


def test_a_form_that_lowers_the_line_meanwhile_gets_the_rest_back(
    shop: Shop, elsewhere: Elsewhere, synced: InventoryManagerWithSync
) -> None:
    shop.stock(A=10)
    operation = in_doubt(synced, elsewhere, quantity=3, line_item_id="1")
    shop.orders.process_order_stock_update(form(lines={"1": ("A", 3)}))
    shop.orders.process_order_stock_update(later({"1": ("A", 1)}))
    shop.service.confirm(operation, True, actor="Anna")
    shop.drain()

    line = shop.line("1")
    assert (line["deducted"] - line["refunded"], shop.on_hand("A"), shop.flag()) == (1, 10, True)
    assert shop.broken_promises() == []


# Forms of orders that were begun with a foreign inventory


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
