"""A later form of an order changes its lines: stock follows line by line, and nothing is ever half done."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace as Thing

import pytest

from stocksync import InsufficientStock, InvalidInput, InvalidOrder
from tests.shop import SELLER, Shop, form, goods, later, open_shop

BEFORE = {"1": ("A", 3), "2": ("B", 2)}


@pytest.fixture
def shop(database_url: str) -> Iterator[Shop]:
    with open_shop(database_url) as opened:
        opened.stock(A=10, B=5, C=5)
        opened.orders.process_order_stock_update(form(lines=BEFORE))
        opened.drain()
        yield opened


def on_hand(shop: Shop) -> tuple[int, ...]:
    return tuple(shop.on_hand(sku) for sku in "ABC")


@pytest.mark.parametrize(
    ("lines", "expected", "net"),
    [
        ({**BEFORE, "3": ("C", 1)}, (7, 3, 4), {"1": 3, "2": 2, "3": 1}),
        ({"1": ("A", 3)}, (7, 5, 5), {"1": 3, "2": 0}),
        ({"1": ("A", 5), "2": ("B", 2)}, (5, 3, 5), {"1": 5, "2": 2}),
        ({"1": ("A", 1), "2": ("B", 2)}, (9, 3, 5), {"1": 1, "2": 2}),
        ({"1": ("C", 4), "2": ("B", 2)}, (10, 3, 1), {"1": 4, "2": 2}),
        ({"1": (None, 3), "2": ("B", 2)}, (10, 3, 5), {"1": 0, "2": 2}),
        ({"1": ("B", 2), "2": ("A", 3)}, (7, 3, 5), {"1": 2, "2": 3}),
        ({}, (10, 5, 5), {"1": 0, "2": 0}),
    ],
    ids=["added", "dropped", "raised", "lowered", "another SKU", "no longer stock", "swapped", "emptied"],
)
def test_a_later_revision_is_taken_over_line_by_line(
    shop: Shop, lines: dict[str, tuple[str | None, int]], expected: tuple[int, ...], net: dict[str, int]
) -> None:
    assert shop.orders.process_order_stock_update(later(lines)).status == "queued"
    shop.drain()

    assert on_hand(shop) == expected
    stored = {line: shop.line(line) for line in net}
    assert {line: row["deducted"] - row["refunded"] for line, row in stored.items()} == net
    assert shop.flag() is any(net.values())
    assert set(shop.statuses()) == {"completed"}
    assert shop.broken_promises() == []


@pytest.mark.parametrize("repeat", [later({"1": ("A", 5)}), form(lines=BEFORE)], ids=["same", "earlier"])
def test_the_same_or_an_earlier_revision_changes_nothing(shop: Shop, repeat: dict[str, object]) -> None:
    shop.orders.process_order_stock_update(later({"1": ("A", 5)}))
    count = len(shop.statuses())

    for _ in range(3):
        assert shop.orders.process_order_stock_update(repeat).status == "already_updated"
    assert (on_hand(shop), len(shop.statuses())) == ((5, 5, 5), count)


def test_what_was_returned_is_not_given_back_again_by_a_lower_quantity(shop: Shop) -> None:
    shop.orders.process_return(goods(line="1", quantity=2))
    shop.orders.process_order_stock_update(later({"1": ("A", 1), "2": ("B", 2)}))

    assert on_hand(shop) == (10, 3, 5)
    assert shop.broken_promises() == []


def test_what_the_revision_gives_back_covers_what_it_takes(shop: Shop) -> None:
    shop.orders.process_order_stock_update(later({"1": ("A", 3), "3": ("B", 5)}))

    assert on_hand(shop) == (7, 0, 5)
    assert shop.broken_promises() == []


def test_stock_that_is_kept_elsewhere_is_not_moved_by_a_revision(shop: Shop) -> None:
    shop.deduct("order-2", quantity=3, line_item_id="1")
    shop.orders.process_order_stock_update(form("order-2", {"1": ("A", 1)}))

    assert (on_hand(shop), shop.line("1", "order-2")["refunded"]) == ((7, 3, 5), 2)
    assert shop.broken_promises() == []


def test_a_form_is_refused_where_calls_without_line_id_have_deducted(shop: Shop) -> None:
    shop.deduct("order-2")

    with pytest.raises(InvalidOrder, match="deduct them twice"):
        shop.orders.process_order_stock_update(form("order-2"))
    assert shop.order("order-2").has_form is False
    assert on_hand(shop) == (7, 3, 5)
    assert shop.orders.process_order_stock_update(form("order-2", status="CANCELLED")).status == "cancelled"


def test_an_order_given_back_for_this_reason_can_then_take_its_form(shop: Shop) -> None:
    shop.deduct("order-2")
    shop.refund("order-2")

    assert shop.orders.process_order_stock_update(form("order-2")).status == "queued"
    assert shop.on_hand("A") == 6


def test_what_a_revision_gave_back_can_not_be_put_back_again(shop: Shop) -> None:
    operation = shop.orders.process_order_stock_update(form("order-2", {"1": ("A", 1)})).operations[0]
    shop.orders.process_order_stock_update(later({"1": ("B", 3)}, order_id="order-2"))

    with pytest.raises(InvalidInput, match="line 1 became B"):
        shop.service.cancel(operation, actor="Anna", reason="never left", put_back=True)
    assert on_hand(shop) == (7, 0, 5)
    assert shop.broken_promises() == []


def test_an_object_shaped_like_the_plans_order_is_taken_and_skipped_when_it_says_so(shop: Shop) -> None:
    order = Thing(
        id="order-2",
        token_id=SELLER,
        is_stock_updated=False,
        order_items=[Thing(line_item=Thing(id="1", external_id="A")) for _ in range(2)],
    )
    assert shop.orders.process_order_stock_update(order, "Ирина").status == "queued"
    assert shop.orders.process_order_stock_update(order, "Ирина").status == "already_updated"
    order.is_stock_updated, order.id = True, "order-3"
    assert shop.orders.process_order_stock_update(order, "Ирина").status == "already_updated"
    assert on_hand(shop) == (5, 3, 5)


def test_an_object_that_is_cancelled_gives_back_though_it_says_that_its_stock_is_updated(shop: Shop) -> None:
    order = Thing(
        id="order-2", token_id=SELLER, order_items=[Thing(line_item=Thing(id="1", external_id="A"))]
    )
    shop.orders.process_order_stock_update(order, "Ирина")
    before = shop.on_hand("A")

    order.is_stock_updated, order.status = True, Thing(value="CANCELLED")
    shop.orders.process_order_stock_update(order, "Ирина")

    assert shop.on_hand("A") == before + 1
    assert shop.broken_promises() == []


def test_a_line_that_becomes_another_sku_goes_out_where_it_is_said(shop: Shop) -> None:
    shop.runtime.inventory.set_on_hand({"C": 1}, "Lublin")
    shop.orders.process_order_stock_update(form("order-2", {"1": ("A", 1)}))
    shop.orders.process_order_stock_update(later({"1": ("C", 1)}, order_id="order-2"), "Lublin")

    assert shop.runtime.inventory.on_hand("C", "Lublin") == 0
    assert shop.broken_promises() == []


def test_a_changed_line_stays_in_its_warehouse_and_a_new_one_goes_out_where_it_is_said(shop: Shop) -> None:
    shop.runtime.inventory.set_on_hand({"A": 4, "C": 1}, "Lublin")
    revised = later({"1": ("A", 5), "2": ("B", 2), "3": ("C", 1)})
    shop.orders.process_order_stock_update(revised, "Lublin")

    lublin = [shop.runtime.inventory.on_hand(sku, "Lublin") for sku in "AC"]
    assert (on_hand(shop), lublin) == ((5, 3, 5), [4, 0])
    assert shop.broken_promises() == []


def test_shortages_of_several_warehouses_are_named_together(shop: Shop) -> None:
    shop.runtime.inventory.set_on_hand({"A": 4}, "Lublin")

    with pytest.raises(InsufficientStock) as refused:
        shop.orders.process_order_stock_update(later({"1": ("A", 90), "3": ("C", 1)}), "Lublin")
    assert [(s.warehouse, s.sku) for s in refused.value.shortages] == [("Lublin", "C"), ("Ирина", "A")]
