"""An order, or one operation, is cancelled: what is still deducted comes back once, and nothing follows it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from stocksync import InvalidInput, OrderCancelled, RefundExceedsSale
from tests.shop import REFUSED, SELLER, Shop, form, goods, later, open_shop


@pytest.fixture
def shop(database_url: str) -> Iterator[Shop]:
    with open_shop(database_url) as opened:
        opened.stock(A=10, B=5)
        yield opened


def cancel(shop: Shop, order_id: str = "order-1", **more: Any) -> Any:
    return shop.orders.cancel_order(order_id, SELLER, **more)


# A whole order


def test_what_is_still_deducted_comes_back_line_by_line(shop: Shop) -> None:
    shop.orders.process_order_stock_update(form(lines={"1": ("A", 5), "2": ("B", 2)}))
    shop.drain()
    shop.orders.process_return(goods(line="1", quantity=3))
    result = cancel(shop, actor="Anna", reason="changed her mind")
    shop.drain()

    refunds = [shop.operation(operation) for operation in result.operations]
    assert result.status == "cancelled"
    assert [(row["line_item_id"], row["quantity"]) for row in refunds] == [("1", 2), ("2", 2)]
    assert {(row["actor"], row["reason"]) for row in refunds} == {("Anna", "changed her mind")}
    assert (shop.on_hand("A"), shop.on_hand("B")) == (10, 5)
    assert (shop.flag(), shop.order().status) == (False, "CANCELLED")
    assert shop.broken_promises() == []


@pytest.mark.parametrize("again", ["call", "form"])
def test_cancelled_twice_nothing_comes_back_twice(shop: Shop, again: str) -> None:
    shop.orders.process_order_stock_update(form(lines={"1": ("A", 5)}))
    shop.orders.process_order_stock_update(form(status="CANCELLED", lines={"1": ("A", 5)}, revision="r2"))
    repeated = (
        cancel(shop)
        if again == "call"
        else shop.orders.process_order_stock_update(form(status="CANCELLED", revision="r3"))
    )

    assert (repeated.status, repeated.operations, shop.on_hand("A")) == ("already_cancelled", (), 10)
    assert shop.broken_promises() == []


def test_a_form_that_cancels_is_taken_whatever_its_time(shop: Shop) -> None:
    shop.orders.process_order_stock_update(form())
    early = form(status="CANCELLED", revision="r0", updated_at="2026-02-01T00:00:00Z")

    assert shop.orders.process_order_stock_update(early).status == "cancelled"
    assert shop.on_hand("A") == 10


def test_an_order_that_came_back_in_full_has_nothing_left_to_give_back(shop: Shop) -> None:
    shop.orders.process_order_stock_update(form())
    shop.orders.process_return(goods())

    assert cancel(shop).operations == []
    assert (shop.on_hand("A"), shop.order().status) == (10, "CANCELLED")


def test_without_restock_the_goods_stay_away(shop: Shop) -> None:
    shop.orders.process_order_stock_update(form(lines={"1": ("A", 5)}))
    cancel(shop, restock=False)

    assert (shop.on_hand("A"), shop.line("1")["refunded"]) == (5, 5)
    assert shop.broken_promises() == []


@pytest.mark.parametrize("by", ["call", "form"])
def test_a_cancellation_ahead_of_its_order_leaves_a_tombstone(shop: Shop, by: str) -> None:
    if by == "call":
        assert cancel(shop).status == "cancelled"
    else:
        shop.orders.process_order_stock_update(form(status="CANCELLED"))
    late = shop.orders.process_order_stock_update(later({"line-1": ("A", 1)}))

    assert (late.status, late.operations, shop.on_hand("A")) == ("cancelled", (), 10)
    assert shop.statuses() == []


def test_a_cancelled_order_takes_no_single_deduction(shop: Shop) -> None:
    cancel(shop)

    with pytest.raises(OrderCancelled, match="order-1"):
        shop.deduct(line_item_id="L")
    assert shop.statuses() == []


def test_an_order_of_single_calls_can_be_cancelled_too(shop: Shop) -> None:
    shop.deduct(quantity=2)
    shop.drain()
    cancel(shop)
    shop.drain()

    assert (shop.flag(), shop.on_hand("A")) == (False, 10)
    assert shop.broken_promises() == []


def test_cancelled_while_true_is_on_its_way_ends_at_false(shop: Shop) -> None:
    shop.orders.process_order_stock_update(form())
    shop.meanwhile(lambda: cancel(shop))
    shop.drain()
    shop.drain()

    assert [said for _, said, _ in shop.remote.calls] == [True, False]
    assert (shop.flag(), shop.statuses()) == (False, ["completed", "completed"])
    assert shop.broken_promises() == []


def test_cancelled_before_anybody_was_told_nothing_is_told(shop: Shop) -> None:
    shop.orders.process_order_stock_update(form())
    cancel(shop)
    shop.drain()

    assert (shop.remote.calls, shop.statuses()) == ([], ["completed", "completed"])


def test_a_return_after_the_cancellation_is_refused(shop: Shop) -> None:
    shop.orders.process_order_stock_update(form())
    cancel(shop)

    with pytest.raises(RefundExceedsSale):
        shop.orders.process_return(goods())
    assert shop.on_hand("A") == 10


# One operation, by a person


def test_an_operation_cancelled_by_a_person_keeps_its_stock_deducted(shop: Shop) -> None:
    operations = shop.orders.process_order_stock_update(form()).operations
    shop.service.cancel(operations[0], actor="Anna", reason="sold twice")
    shop.drain()

    assert (shop.on_hand("A"), shop.remote.calls) == (9, [])
    assert shop.runtime.queries.order(SELLER, "order-1")["differs"] is True
    assert shop.broken_promises() == []


def test_put_back_its_units_return_and_the_log_says_who_and_why(shop: Shop) -> None:
    operations = shop.orders.process_order_stock_update(form(lines={"1": ("A", 3)})).operations
    shop.service.cancel(operations[0], actor="Anna", reason="never left", put_back=True)
    shop.drain()

    row = shop.operation(operations[0])
    assert (row["status"], row["applied"], shop.on_hand("A")) == ("cancelled", "no", 10)
    assert [entry["action"] for entry in row["log"]] == ["created", "cancelled", "rolled_back"]
    assert all(
        (e["details"]["actor"], e["details"]["reason"]) == ("Anna", "never left") for e in row["log"][1:]
    )
    assert (shop.line("1")["deducted"], shop.line("1")["waived"]) == (0, True)
    assert (shop.remote.calls, shop.order().waiting) == ([], "cancelled")
    assert shop.runtime.queries.order(SELLER, "order-1")["differs"] is False
    assert shop.broken_promises() == []


def test_put_back_after_the_remote_may_have_heard_true_it_is_told_false(shop: Shop) -> None:
    shop.remote.applies_before_failing, shop.remote.answer = True, lambda _: REFUSED
    operations = shop.orders.process_order_stock_update(form()).operations
    shop.drain()
    shop.service.cancel(operations[0], actor="Anna", reason="never left", put_back=True)
    shop.remote.answer = type(shop.remote)().answer
    shop.drain()

    assert shop.flag() is False
    assert shop.broken_promises() == []


def test_the_rest_of_the_order_goes_on(shop: Shop) -> None:
    first, second = shop.orders.process_order_stock_update(
        form(lines={"1": ("A", 3), "2": ("B", 1)})
    ).operations
    shop.service.cancel(first, actor="Anna", reason="never left", put_back=True)
    shop.drain()

    assert (shop.flag(), shop.operation(second)["status"]) == (True, "completed")
    assert (shop.on_hand("A"), shop.on_hand("B")) == (10, 4)


def test_what_was_put_back_is_not_deducted_by_the_same_form_again(shop: Shop) -> None:
    bare = form(revision=None, updated_at=None)
    operations = shop.orders.process_order_stock_update(bare).operations
    shop.service.cancel(operations[0], actor="Anna", reason="never left", put_back=True)

    assert shop.orders.process_order_stock_update(bare).status == "already_updated"
    assert shop.on_hand("A") == 10


def test_units_that_came_back_already_can_not_be_put_back(shop: Shop) -> None:
    operations = shop.orders.process_order_stock_update(form(lines={"line-1": ("A", 3)})).operations
    shop.orders.process_return(goods(quantity=1))

    with pytest.raises(RefundExceedsSale):
        shop.service.cancel(operations[0], actor="Anna", reason="never left", put_back=True)
    assert (shop.on_hand("A"), shop.operation(operations[0])["status"]) == (8, "pending")
    assert shop.broken_promises() == []


def test_only_what_was_taken_from_our_stock_can_be_put_back(shop: Shop) -> None:
    operation = shop.deduct()

    with pytest.raises(InvalidInput, match="took nothing out of our stock"):
        shop.service.cancel(operation, actor="Anna", reason="never left", put_back=True)
    assert shop.operation(operation)["status"] == "pending"
