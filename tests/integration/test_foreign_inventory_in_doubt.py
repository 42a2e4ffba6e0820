"""An inventory elsewhere that fell silent: what is in doubt is held up until a person has said, whatever comes meanwhile."""

from __future__ import annotations

from http.client import IncompleteRead
from typing import Any

import psycopg
import pytest
from requests.exceptions import ChunkedEncodingError, ReadTimeout

from stocksync import (
    InDoubt,
    InvalidInput,
    InventoryManagerWithSync,
    OpenTransaction,
    OrderCancelled,
    TransitionRefused,
)
from tests.elsewhere import Elsewhere, give_back, raising, sell
from tests.shop import SELLER, Shop, form, later, listed


@pytest.fixture
def elsewhere() -> Elsewhere:
    return Elsewhere()


@pytest.fixture
def synced(shop: Shop, elsewhere: Elsewhere) -> InventoryManagerWithSync:
    return InventoryManagerWithSync(elsewhere, shop.service)


def in_doubt(synced: InventoryManagerWithSync, elsewhere: Elsewhere, act: Any = sell, **more: Any) -> Any:
    """The id of an operation of which nobody knows whether the inventory did it."""
    elsewhere.before = raising(TimeoutError("no answer"))
    with pytest.raises(InDoubt) as doubt:
        act(synced, **more)
    elsewhere.before = lambda: None
    return doubt.value.operation_id


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError(),
        ConnectionResetError(),
        ReadTimeout(),
        ChunkedEncodingError(),
        IncompleteRead(b""),
        psycopg.OperationalError(),
    ],
    ids=lambda error: type(error).__name__,
)
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


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
def test_an_inventory_of_coroutines_is_refused_because_nobody_would_run_them(shop: Shop) -> None:
    class Coroutines:
        async def remove_as_sale(self, sku: str, warehouse: str, quantity: int) -> None:
            raise AssertionError("it is never run")

    with pytest.raises(InvalidInput, match="coroutines"):
        sell(InventoryManagerWithSync(Coroutines(), shop.service), line_item_id="L")
    shop.drain()

    assert shop.remote.calls == []
