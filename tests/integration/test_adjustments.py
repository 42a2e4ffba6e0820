"""A person corrected stock: the correction is on record, and its order is told again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from stocksync import IdempotencyConflict
from tests.shop import SELLER, Shop, form, open_shop


@pytest.fixture
def shop(database_url: str) -> Iterator[Shop]:
    with open_shop(database_url) as opened:
        opened.stock(A=10)
        yield opened


def adjust(shop: Shop, order: str | None = None, quantity: int = -2, **more: Any) -> Any:
    return shop.service.sync_stock_adjustment(
        SELLER, order, "A", quantity, reason="broken", actor="Anna", **more
    )


def test_without_an_order_it_is_complete_at_once(shop: Shop) -> None:
    result = adjust(shop)

    row = shop.operation(result.operation_id)
    assert (result.success, result.status, row["status"], row["quantity"]) == (
        True,
        "completed",
        "completed",
        -2,
    )
    assert (row["completed_at"], row["actor"], row["reason"]) == (shop.clock.now, "Anna", "broken")
    assert shop.actions(result.operation_id) == ["created", "completed"]
    assert (shop.on_hand("A"), shop.wakeups.woken) == (10, [])
    assert shop.broken_promises() == []


def test_with_an_order_it_is_delivered_as_the_orders_state(shop: Shop) -> None:
    shop.orders.process_order_stock_update(form())
    shop.drain()
    result = adjust(shop, "order-1")
    assert (result.status, shop.wakeups.woken) == ("pending", [SELLER, SELLER])
    shop.drain()

    assert [said for _, said, _ in shop.remote.calls] == [True, True]
    assert shop.operation(result.operation_id)["status"] == "completed"
    assert shop.on_hand("A") == 9
    assert shop.broken_promises() == []


@pytest.mark.parametrize("line", [(None, 1), ("A", 1)])
def test_of_an_order_with_nothing_to_say_it_is_complete_at_once(
    shop: Shop, line: tuple[str | None, int]
) -> None:
    shop.orders.process_order_stock_update(form(lines={"line-1": line}))
    if line[0]:
        shop.orders.cancel_order("order-1", SELLER)

    assert adjust(shop, "order-1").status == "completed"
    assert shop.drain().figures["delivered"] == 0
    assert shop.broken_promises() == []


@pytest.mark.parametrize("order", [None, "order-1"])
def test_with_a_key_a_repeat_answers_with_the_first(shop: Shop, order: str | None) -> None:
    shop.orders.process_order_stock_update(form())
    first = adjust(shop, order, idempotency_key="K")

    assert adjust(shop, order, idempotency_key="K").operation_id == first.operation_id
    with pytest.raises(IdempotencyConflict):
        adjust(shop, order, 3, idempotency_key="K")
