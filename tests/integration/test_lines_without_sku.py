"""A product that nobody linked to a SKU is sold all the same: nothing is deducted, and everybody can see it."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

import pytest

from tests.shop import SELLER, Shop, form, later, open_shop
from web import create_app


@pytest.fixture
def shop(database_url: str) -> Iterator[Shop]:
    with open_shop(database_url) as opened:
        opened.stock(A=10)
        yield opened
        assert opened.broken_promises() == []


def status(shop: Shop) -> int:
    return int(shop.runtime.queries.status(shop.clock(), 6)["lines_without_sku"])


def test_such_lines_are_counted_listed_and_named_once(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    document = form(lines={"1": ("A", 1), "2": (None, 3), "3": (None, 1)})
    document["lineItems"][2]["offer"]["external"] = {"id": "  "}
    with caplog.at_level(logging.WARNING):
        shop.orders.process_order_stock_update(document)
        shop.orders.process_order_stock_update(document)
    shop.drain()

    rows = shop.runtime.queries.lines_without_sku(10)
    assert [(row["token_id"], row["order_id"], row["line_id"], row["quantity"]) for row in rows] == [
        (SELLER, "order-1", "3", 1),
        (SELLER, "order-1", "2", 3),
    ]
    assert (status(shop), shop.on_hand("A"), shop.flag()) == (2, 9, True)
    (said,) = [record for record in caplog.records if "without an external id" in record.message]
    assert "2 (3 units), 3 (1 units)" in said.message
    assert said.__dict__["order"] == "order-1"


def test_one_that_is_linked_later_is_deducted_and_leaves_the_list(shop: Shop) -> None:
    shop.orders.process_order_stock_update(form(lines={"1": (None, 3)}))
    assert (status(shop), shop.on_hand("A")) == (1, 10)
    shop.orders.process_order_stock_update(later({"1": ("A", 3)}))

    assert (status(shop), shop.on_hand("A")) == (0, 7)


@pytest.mark.parametrize("gone", ["dropped", "cancelled"])
def test_one_that_is_not_sold_any_more_leaves_the_list(shop: Shop, gone: str) -> None:
    shop.orders.process_order_stock_update(form(lines={"1": (None, 3), "2": ("A", 1)}))
    if gone == "dropped":
        shop.orders.process_order_stock_update(later({"2": ("A", 1)}))
    else:
        shop.orders.cancel_order("order-1", SELLER)

    assert (status(shop), shop.runtime.queries.lines_without_sku(10)) == (0, [])


def test_only_what_was_sold_lately_is_counted(shop: Shop) -> None:
    shop.orders.process_order_stock_update(form(lines={"1": (None, 3)}))
    shop.clock.advance(31 * 86400)

    assert (status(shop), len(shop.runtime.queries.lines_without_sku(10))) == (0, 1)


def test_the_page_counts_them_and_lists_them(shop: Shop) -> None:
    shop.orders.process_order_stock_update(form(lines={"1": ("A", 1), "Postage": (None, 3)}))
    page = create_app(shop.runtime).test_client()
    overview = page.get("/", headers={"Accept-Language": "en"}).text

    assert re.search(r"lines sold without an external id, 30 days</a></th><td[^>]*>1</td>", overview)
    stock = page.get("/stock", headers={"Accept-Language": "en"}).text
    assert "Sold without an external id" in stock
    assert "Postage" in stock
    assert "/orders/seller-1/order-1" in stock
    assert "Postage" not in page.get("/stock?q=A").text
