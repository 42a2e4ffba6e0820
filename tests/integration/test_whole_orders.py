"""A checkout form comes in: all of its lines are deducted and recorded in one transaction, each once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from stocksync import InsufficientStock, InvalidOrder, UnknownWarehouse
from stocksync.orders.checkout_form import CheckoutForm, parse_form
from stocksync.store.models import Movement
from tests.shop import SELLER, Shop, form, open_shop


@pytest.fixture
def shop(database_url: str) -> Iterator[Shop]:
    with open_shop(database_url) as opened:
        opened.stock(A=10, B=5)
        yield opened


def test_every_stock_line_is_deducted_and_recorded(shop: Shop) -> None:
    result = shop.orders.process_order_stock_update(form(lines={"1": ("A", 3), "2": ("B", 2)}))

    assert result.status == "queued"
    assert len(result.operations) == 2
    assert (shop.on_hand("A"), shop.on_hand("B")) == (7, 3)
    assert shop.statuses() == ["pending", "pending"]
    assert shop.broken_promises() == []


def test_the_order_is_due_at_once_and_its_lane_woken_once(shop: Shop) -> None:
    shop.orders.process_order_stock_update(form(lines={"1": ("A", 3), "2": ("B", 2)}))

    assert shop.order().due_at == shop.clock.now
    assert shop.wakeups.woken == [SELLER]


def test_the_same_form_again_deducts_nothing(shop: Shop) -> None:
    shop.orders.process_order_stock_update(form())
    again = shop.orders.process_order_stock_update(form())

    assert again.status == "already_updated"
    assert again.operations == ()
    assert shop.on_hand("A") == 9


def test_lines_of_one_sku_are_added_up_for_the_check(shop: Shop) -> None:
    with pytest.raises(InsufficientStock) as refused:
        shop.orders.process_order_stock_update(form(lines={"1": ("B", 3), "2": ("B", 3)}))

    assert [(s.sku, s.needed, s.available) for s in refused.value.shortages] == [("B", 6, 5)]


def test_lines_of_one_sku_each_have_their_movement_with_its_balance(shop: Shop) -> None:
    shop.orders.process_order_stock_update(form(lines={"1": ("B", 3), "2": ("B", 1)}))

    with shop.runtime.database.scope():
        rows = Movement.select().where(Movement.cause == "deduction").order_by(Movement.id)
        assert [(row.delta, row.balance_after) for row in rows] == [(-3, 2), (-1, 1)]


def test_all_shortages_are_reported_together_and_nothing_is_half_done(shop: Shop) -> None:
    with pytest.raises(InsufficientStock) as refused:
        shop.orders.process_order_stock_update(form(lines={"1": ("A", 3), "2": ("B", 9), "3": ("C", 1)}))

    assert [(s.sku, s.available) for s in refused.value.shortages] == [("B", 5), ("C", 0)]
    assert refused.value.order_id == "order-1"
    assert (shop.on_hand("A"), shop.statuses(), shop.wakeups.woken) == (10, [], [])
    assert shop.broken_promises() == []


def test_an_order_refused_for_stock_goes_through_when_stock_has_come(shop: Shop) -> None:
    with pytest.raises(InsufficientStock):
        shop.orders.process_order_stock_update(form(lines={"1": ("B", 9)}))
    shop.runtime.inventory.add("B", "Ирина", 4)

    assert shop.orders.process_order_stock_update(form(lines={"1": ("B", 9)})).status == "queued"
    assert shop.on_hand("B") == 0


def test_postage_is_recorded_as_not_stock(shop: Shop) -> None:
    result = shop.orders.process_order_stock_update(form(lines={"1": ("A", 1), "post": (None, 1)}))

    lines = shop.runtime.queries.order(SELLER, "order-1")["lines"]
    assert len(result.operations) == 1
    assert [(line["line_id"], line["sku"]) for line in lines] == [("1", "A"), ("post", None)]


def test_an_order_of_postage_alone_has_nothing_to_say(shop: Shop) -> None:
    result = shop.orders.process_order_stock_update(form(lines={"post": (None, 1)}))

    assert result.status == "no_stock_lines"
    assert (shop.order().due_at, shop.wakeups.woken) == (None, [])
    assert shop.drain().figures["delivered"] == 0


def test_an_order_that_is_not_ready_is_noted_and_deducted_when_it_is(shop: Shop) -> None:
    noted = shop.orders.process_order_stock_update(form(status="BOUGHT"))
    assert (noted.status, shop.on_hand("A"), shop.order().status) == ("noted", 10, "BOUGHT")

    assert shop.orders.process_order_stock_update(form()).status == "queued"
    assert shop.on_hand("A") == 9


def test_an_unknown_warehouse_is_refused_with_the_known_ones(shop: Shop) -> None:
    with pytest.raises(UnknownWarehouse, match="known: Ирина"):
        shop.orders.process_order_stock_update(form(), "Irina")


def test_two_sellers_may_have_orders_of_one_id(shop: Shop) -> None:
    shop.orders.process_order_stock_update(form(token_id="seller-1"))
    shop.orders.process_order_stock_update(form(token_id="seller-2"))

    assert shop.on_hand("A") == 8


def test_stock_that_may_go_below_zero_does(shop: Shop) -> None:
    with shop.runtime.database.transaction_scope():
        shop.runtime.database.execute_sql(
            "UPDATE stock_sync_levels SET allow_negative = TRUE WHERE sku = 'B'"
        )

    shop.orders.process_order_stock_update(form(lines={"1": ("B", 9)}))
    assert shop.on_hand("B") == -4


@pytest.mark.parametrize("count", [1, 60, 259])
def test_an_order_costs_the_same_few_statements_whatever_its_length(
    shop: Shop, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.runtime.inventory.set_on_hand({f"S{i}": 10 for i in range(count)}, "Ирина")
    database, statements = shop.runtime.database, 0

    inner = database.run

    def counted(*args: Any, **more: Any) -> Any:
        nonlocal statements
        statements += 1
        return inner(*args, **more)

    monkeypatch.setattr(database, "run", counted)
    shop.orders.process_order_stock_update(form(lines={f"l{i}": (f"S{i}", 1) for i in range(count)}))

    assert statements <= 15


def test_a_form_built_by_hand_that_repeats_a_line_is_refused_like_a_parsed_one(shop: Shop) -> None:
    taken = parse_form(form(lines={"1": ("A", 3)}))
    by_hand = CheckoutForm.model_validate({**dict(taken), "line_items": taken.line_items * 2})

    with pytest.raises(InvalidOrder, match="id 1 appears more than once"):
        shop.orders.process_order_stock_update(by_hand)
    assert (shop.on_hand("A"), shop.statuses()) == (10, [])
