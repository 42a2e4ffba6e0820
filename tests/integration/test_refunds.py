"""Units of a sale come back: never more than were sold, each return once, and the remote hears of the last one."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from stocksync import (
    IdempotencyConflict,
    InvalidInput,
    InvalidReturn,
    OrphanRefund,
    RefundExceedsSale,
    StockSyncError,
)
from stocksync.store.models import Movement, Order as OrderModel
from tests.shop import SELLER, Shop, form, goods, open_shop


@pytest.fixture
def shop(database_url: str) -> Iterator[Shop]:
    with open_shop(database_url) as opened:
        opened.stock(A=10, B=5)
        yield opened


def orders_known(shop: Shop) -> int:
    with shop.runtime.database.scope():
        return int(OrderModel.select().count())


# Recorded by the monolith


def test_the_remote_is_told_false_once_nothing_is_deducted_any_more(shop: Shop) -> None:
    shop.deduct(quantity=3)
    shop.drain()
    shop.refund(quantity=2)
    shop.drain()
    assert shop.flag() is True

    last = shop.refund(quantity=1)
    shop.drain()
    assert (shop.flag(), shop.operation(last)["status"]) == (False, "completed")
    assert shop.broken_promises() == []


def test_an_order_given_back_before_anybody_was_told_is_complete_without_a_word(shop: Shop) -> None:
    operations = [shop.deduct(), shop.refund()]
    shop.drain()

    assert shop.remote.calls == []
    assert shop.statuses() == ["completed", "completed"]
    assert [shop.actions(operation) for operation in operations] == [["created", "completed"]] * 2
    assert "nothing had to be told" in shop.operation(operations[0])["log"][-1]["details"]["why"]
    assert (shop.order().due_at, shop.order().waiting) == (None, None)
    assert shop.broken_promises() == []


def test_sold_again_after_that_it_is_told(shop: Shop) -> None:
    shop.deduct()
    shop.refund()
    shop.deduct()
    shop.drain()

    assert (shop.flag(), shop.statuses()) == (True, ["completed"] * 3)


def test_a_refund_while_true_is_on_its_way_ends_at_false(shop: Shop) -> None:
    shop.deduct()
    shop.meanwhile(shop.refund)
    shop.drain()
    shop.drain()

    assert [said for _, said, _ in shop.remote.calls] == [True, False]
    assert (shop.flag(), shop.statuses()) == (False, ["completed", "completed"])


def test_more_than_is_left_is_refused_with_the_figures(shop: Shop) -> None:
    shop.deduct(quantity=3)
    shop.refund(quantity=2)

    with pytest.raises(RefundExceedsSale, match="at most 1") as refused:
        shop.refund(quantity=2)
    assert (refused.value.deducted, refused.value.refunded, refused.value.asked) == (3, 2, 2)
    assert len(shop.statuses()) == 2
    assert shop.broken_promises() == []


def test_two_callers_at_once_never_get_more_back_than_was_sold(shop: Shop) -> None:
    shop.deduct(quantity=5)
    came_back: list[Any] = []

    def ask() -> None:
        for _ in range(4):
            with contextlib.suppress(RefundExceedsSale):
                came_back.append(shop.refund(quantity=1))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (len(came_back), shop.line("A@Ирина")["refunded"]) == (5, 5)
    assert shop.broken_promises() == []


@pytest.mark.parametrize("line", [None, "line-1"])
def test_without_a_known_order_it_is_an_orphan_and_nothing_is_written(shop: Shop, line: str | None) -> None:
    with pytest.raises(OrphanRefund) as orphan:
        shop.refund("nobody's", line_item_id=line)

    fault = orphan.value
    assert (fault.token_id, fault.order_id, fault.sku, fault.line_item_id) == (SELLER, "nobody's", "A", line)
    assert orders_known(shop) == 0


def test_a_line_of_another_sku_is_refused_in_words(shop: Shop) -> None:
    shop.deduct(line_item_id="L")

    with pytest.raises(InvalidInput, match="line L is of SKU A"):
        shop.refund(sku="B", line_item_id="L")


def test_without_a_line_id_the_first_line_of_the_sku_with_enough_left_is_taken(shop: Shop) -> None:
    shop.orders.process_order_stock_update(form(lines={"1": ("A", 1), "2": ("A", 3), "3": ("A", 3)}))
    shop.refund(quantity=2)

    assert [shop.line(line)["refunded"] for line in "123"] == [0, 2, 0]
    assert shop.broken_promises() == []


def test_what_calls_without_line_id_sold_comes_back_first(shop: Shop) -> None:
    shop.deduct(line_item_id="L", quantity=2)
    shop.deduct(quantity=2)
    shop.refund(quantity=2)

    assert (shop.line("L")["refunded"], shop.line("A@Ирина")["refunded"]) == (0, 2)


def test_with_a_key_a_repeated_refund_answers_with_the_first(shop: Shop) -> None:
    shop.deduct(quantity=3)

    assert shop.refund(idempotency_key="K") == shop.refund(idempotency_key="K")
    with pytest.raises(IdempotencyConflict):
        shop.refund(idempotency_key="K", quantity=2)
    with pytest.raises(IdempotencyConflict):
        shop.deduct(idempotency_key="K")
    assert shop.line("A@Ирина")["refunded"] == 1


def test_a_refund_can_be_delivered_in_the_call(shop: Shop) -> None:
    shop.service.sync_stock_deduction(SELLER, "order-1", "A", 1, immediate=True)
    result = shop.service.sync_stock_refund(SELLER, "order-1", "A", 1, immediate=True)

    assert (result.success, result.status, shop.flag()) == (True, "completed", False)


def test_a_key_used_for_two_orders_at_one_moment_is_a_conflict_for_one_of_them(shop: Shop) -> None:
    said: list[Any] = []

    def call(order: str) -> None:
        barrier.wait()
        try:
            said.append(shop.deduct(order, idempotency_key=f"K{number}"))
        except StockSyncError as error:
            said.append(type(error))

    for number in range(8):
        barrier = threading.Barrier(2)
        threads = [threading.Thread(target=call, args=(f"order-{number}-{i}",)) for i in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert said.count(IdempotencyConflict) == 8
    assert len(shop.statuses()) == 8
    assert orders_known(shop) == 8


# Returns


def test_a_return_puts_its_goods_back_under_its_own_cause(shop: Shop) -> None:
    shop.orders.process_order_stock_update(form(lines={"line-1": ("A", 3)}))
    result = shop.orders.process_return(goods(quantity=2), actor="Anna")

    assert (result.status, len(result.operations), shop.on_hand("A")) == ("queued", 1, 9)
    with shop.runtime.database.scope():
        movement = Movement.get(Movement.cause == "refund")
    assert (movement.delta, movement.balance_after, movement.actor) == (2, 9, "Anna")
    assert movement.operation_id == result.operations[0]
    assert shop.broken_promises() == []


def test_without_restock_it_is_recorded_and_stock_stays(shop: Shop) -> None:
    shop.orders.process_order_stock_update(form(lines={"line-1": ("A", 3)}))
    shop.orders.process_return(goods(quantity=3), restock=False)

    assert (shop.on_hand("A"), shop.line("line-1")["refunded"]) == (7, 3)
    assert shop.broken_promises() == []


def test_goods_that_were_deducted_elsewhere_do_not_come_into_our_stock(shop: Shop) -> None:
    shop.deduct(line_item_id="line-1", quantity=2)
    shop.orders.process_return(goods(quantity=2))

    assert shop.on_hand("A") == 10
    assert shop.broken_promises() == []


def test_the_same_return_again_changes_nothing(shop: Shop) -> None:
    shop.orders.process_order_stock_update(form(lines={"line-1": ("A", 3)}))
    shop.orders.process_return(goods())
    again = shop.orders.process_return(goods())

    assert (again.status, again.operations, shop.on_hand("A")) == ("already_returned", (), 8)
    with pytest.raises(IdempotencyConflict):
        shop.orders.process_return(goods(quantity=2))


def test_a_return_that_names_its_line_once_and_only_its_sku_once_gives_back_once(shop: Shop) -> None:
    shop.orders.process_order_stock_update(form(lines={"line-1": ("A", 3)}))
    for first, second in (
        (goods(), goods(line=None)),
        (goods(return_id="R2", line=None), goods(return_id="R2")),
    ):
        shop.orders.process_return(first)
        with pytest.raises(IdempotencyConflict):
            shop.orders.process_return(second)
        assert shop.orders.process_return(first).status == "already_returned"

    assert shop.on_hand("A") == 9
    assert shop.broken_promises() == []


def test_a_return_before_its_sale_is_refused_and_taken_when_repeated(shop: Shop) -> None:
    with pytest.raises(OrphanRefund):
        shop.orders.process_return(goods())
    shop.orders.process_order_stock_update(form())

    assert shop.orders.process_return(goods()).status == "queued"
    assert shop.on_hand("A") == 10


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        ([], "expected a JSON object, got list"),
        (goods() | {"quantity": 0}, "quantity: .*greater than or equal to 1"),
        (goods() | {"quantity": "2"}, "quantity: .*valid integer"),
        (goods() | {"sku": "a\x00"}, "sku: .*NUL"),
        ({"return_id": "r"}, "order_id: Field required.*sku: Field required"),
    ],
)
def test_a_return_that_can_not_be_read_names_every_fault(shop: Shop, document: Any, fault: str) -> None:
    with pytest.raises(InvalidReturn, match=fault):
        shop.orders.process_return(document)
