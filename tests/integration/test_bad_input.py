"""What can't be taken is refused by every call with a class and a message that says what to do; nothing is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stocksync import (
    InvalidInput,
    InvalidReturn,
    OrphanRefund,
    StockSyncError,
    UnknownOrder,
    UnknownWarehouse,
)
from stocksync.store.models import MODELS
from tests.shop import SELLER, WAREHOUSE, Shop, form, goods, open_shop

GOOD: dict[str, Any] = {
    "token_id": SELLER,
    "order_id": "order-1",
    "sku": "A",
    "quantity": 1,
    "warehouse": WAREHOUSE,
    "line_item_id": "line-1",
}
WHY = {"reason": "broken", "actor": "Anna"}


def returned(shop: Shop, warehouse: str, **given: Any) -> Any:
    return shop.orders.process_return(goods() | given)


CALLS: dict[str, Callable[..., Any]] = {
    "deduction": lambda shop, **given: shop.service.sync_stock_deduction(**given),
    "refund": lambda shop, **given: shop.service.sync_stock_refund(**given),
    "adjustment": lambda shop, **given: shop.service.sync_stock_adjustment(
        **{name: value for name, value in given.items() if name != "line_item_id"}, **WHY
    ),
    "sale": lambda shop, **given: shop.runtime.inventory_with_sync.remove_as_sale_with_sync(**given),
    "return": lambda shop, **given: shop.runtime.inventory_with_sync.return_with_sync(**given),
    "document": returned,
}
WRONG: dict[str, tuple[str, Any]] = {
    "no units": ("quantity", 0),
    "less than none": ("quantity", -1),
    "too many": ("quantity", 10**12),
    "a number of thousands of digits": ("quantity", 10**5000),
    "text": ("quantity", "2"),
    "half a unit": ("quantity", 1.5),
    "a boolean": ("quantity", True),
    "a long SKU": ("sku", "x" * 300),
    "a NUL in the SKU": ("sku", "A\x00"),
    "half a character": ("sku", "\ud800"),
    "no SKU": ("sku", None),
    "an empty order": ("order_id", " "),
    "no seller": ("token_id", None),
    "a long line": ("line_item_id", "x" * 300),
}


@pytest.fixture
def shop(database_url: str) -> Iterator[Shop]:
    with open_shop(database_url) as opened:
        opened.stock(A=10)
        opened.orders.process_order_stock_update(form())
        yield opened


def everything(shop: Shop) -> list[int]:
    with shop.runtime.database.scope():
        return [model.select().count() for model in MODELS]


def refused(shop: Shop, call: Callable[..., Any], **given: Any) -> StockSyncError:
    before = everything(shop)
    with pytest.raises(StockSyncError) as error:
        call(shop, **GOOD | given)
    assert (everything(shop), shop.on_hand("A")) == (before, 9)
    assert len(str(error.value)) > 10
    return error.value


@pytest.mark.parametrize("call", CALLS)
def test_a_value_that_can_not_be_taken_names_its_field(shop: Shop, call: str) -> None:
    for wrong, (field, value) in WRONG.items():
        if (call, wrong) in {("adjustment", "less than none"), ("adjustment", "a long line")}:
            continue  # an adjustment is signed, and of no line
        error = refused(shop, CALLS[call], **{field: value})

        assert isinstance(error, InvalidReturn if call == "document" else InvalidInput), wrong
        assert field in str(error), wrong


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("refund", OrphanRefund),
        ("return", OrphanRefund),
        ("document", OrphanRefund),
        ("adjustment", UnknownOrder),
    ],
)
def test_an_unknown_order(shop: Shop, call: str, expected: type[StockSyncError]) -> None:
    error = refused(shop, CALLS[call], order_id="nobody's")

    assert type(error) is expected
    assert "nobody's" in str(error)


def test_an_unknown_warehouse_where_our_stock_is_taken(shop: Shop) -> None:
    assert isinstance(refused(shop, CALLS["sale"], warehouse="Marte", order_id="new"), UnknownWarehouse)


@pytest.mark.parametrize("field", ["order_id", "token_id", "actor", "reason"])
def test_a_cancellation_names_its_wrong_field(shop: Shop, field: str) -> None:
    def cancel(shop: Shop, **_: Any) -> Any:
        given: dict[str, Any] = {"order_id": "order-1", "token_id": SELLER} | {field: "\x00"}
        return shop.orders.cancel_order(**given)

    assert field in str(refused(shop, cancel))


@pytest.mark.parametrize(("field", "value"), [("actor", ""), ("reason", None), ("reason", "\x00")])
def test_an_adjustment_needs_who_and_why(shop: Shop, field: str, value: Any) -> None:
    def adjust(shop: Shop, **_: Any) -> Any:
        return shop.service.sync_stock_adjustment(SELLER, None, "A", 1, **WHY | {field: value})

    assert field in str(refused(shop, adjust))


def test_sku_and_warehouse_too_long_to_stand_for_a_line_are_refused_with_the_way_out(shop: Shop) -> None:
    given: dict[str, Any] = {"sku": "s" * 200, "warehouse": "w" * 100, "order_id": "order-2"}
    error = refused(shop, CALLS["deduction"], **given, line_item_id=None)

    assert "line_item_id: is needed" in str(error)
    assert CALLS["deduction"](shop, **GOOD | given).success


def test_ids_of_the_longest_kind_full_of_colons_are_taken(shop: Shop) -> None:
    long = {"token_id": ":" * 200, "order_id": ":" * 200, "line_item_id": ":" * 200}

    first, again = (CALLS["deduction"](shop, **GOOD | long) for _ in range(2))
    assert first.operation_id == again.operation_id
    assert shop.broken_promises() == []
