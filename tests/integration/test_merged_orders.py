"""A buyer pays several purchases together: a new order carries their lines, and each line is deducted once."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from typing import Any

import pytest

from tests.purchases import FIRST, L1, L2, L3, L4, MERGED, SECOND, net, on_hand, purchase, take
from tests.shop import SELLER, Shop, goods, open_shop
from web import create_app


@pytest.fixture
def shop(database_url: str) -> Iterator[Shop]:
    with open_shop(database_url) as opened:
        opened.stock(A=10, B=10)
        yield opened
        assert opened.broken_promises() == []


def test_the_new_order_takes_the_line_over_and_nothing_moves_for_it(shop: Shop) -> None:
    take(shop, FIRST)
    shop.drain()
    assert take(shop, MERGED) == ["queued"]
    shop.drain()

    assert (on_hand(shop), shop.flag("first"), shop.flag("merged")) == ((8, 9), False, True)
    assert (net(shop, "first"), net(shop, "merged")) == (0, 3)
    assert set(shop.statuses()) == {"completed"}
    moved = shop.runtime.queries.stock("A")[0]["movements"]
    assert [movement["delta"] for movement in moved] == [-2, 10]


def test_the_old_order_says_who_took_its_line_and_the_new_one_where_it_came_from(shop: Shop) -> None:
    take(shop, FIRST, MERGED)

    assert shop.line(L1, "first")["moved_to"] == "merged"
    assert shop.line(L1, "merged")["moved_to"] is None
    reasons = {
        order: [row["reason"] for row in shop.runtime.queries.order(SELLER, order)["operations"]]
        for order in ("first", "merged")
    }
    assert reasons == {
        "first": [None, "taken over by order merged"],
        "merged": ["taken over from order first", None],
    }
    refund = shop.runtime.queries.order(SELLER, "first")["operations"][1]
    assert shop.operation(refund["id"])["log"][0]["details"]["reason"] == "taken over by order merged"


def test_the_pages_of_both_orders_say_it_too(shop: Shop) -> None:
    take(shop, FIRST, MERGED)
    page = create_app(shop.runtime).test_client()
    old = page.get("/orders/seller-1/first", headers={"Accept-Language": "en"}).text

    assert '<a href="/orders/seller-1/merged">now in order merged</a>' in old
    operation = shop.runtime.queries.order(SELLER, "merged")["operations"][0]
    assert "taken over from order first" in page.get(f"/operations/{operation['id']}").text


def test_an_old_order_that_was_never_told_of_is_told_nothing(shop: Shop) -> None:
    take(shop, FIRST, MERGED)
    shop.drain()

    assert [(order, said) for order, said, _ in shop.remote.calls] == [("merged", True)]
    assert set(shop.statuses()) == {"completed"}


def test_an_old_event_that_comes_late_deducts_nothing_and_says_who_has_its_lines(shop: Shop) -> None:
    assert take(shop, MERGED, FIRST, SECOND) == ["queued", "taken_over", "taken_over"]
    shop.drain()

    assert (on_hand(shop), shop.flag("first"), shop.flag("merged")) == ((8, 9), None, True)
    line = shop.line(L1, "first")
    assert (line["moved_to"], line["deducted"], line["quantity"]) == ("merged", 0, 2)


@pytest.mark.parametrize("order", list(permutations([FIRST, SECOND, MERGED])))
def test_whatever_order_the_forms_come_in_and_however_often(
    shop: Shop, order: tuple[dict[str, Any], ...]
) -> None:
    for one in (*order, *order, *reversed(order)):
        take(shop, one, one)
        shop.drain()

    assert on_hand(shop) == (8, 9)
    assert {order: bool(shop.flag(order)) for order in ("first", "second", "merged")} == {
        "first": False,
        "second": False,
        "merged": True,
    }
    assert [net(shop, order) for order in ("first", "second", "merged")] == [0, 0, 3]


@pytest.mark.parametrize("turned", [False, True])
def test_two_orders_with_the_same_lines_and_time_come_to_the_same_end(shop: Shop, turned: bool) -> None:
    twins = [purchase(order, 5, {L1: ("A", 2)}) for order in ("first", "second")]
    take(shop, *(twins[::-1] if turned else twins), *twins)
    shop.drain()

    assert (on_hand(shop), net(shop, "first"), net(shop, "second")) == ((8, 10), 0, 2)
    assert (bool(shop.flag("first")), shop.flag("second")) == (False, True)


def test_the_sellers_cancellation_of_an_old_order_does_not_concern_the_new_one(shop: Shop) -> None:
    take(shop, FIRST, MERGED)
    for fulfillment in ("CANCELLED", "PROCESSING"):
        take(shop, {**FIRST, "fulfillment": {"status": fulfillment}})
    shop.orders.cancel_order("first", SELLER)
    shop.drain()

    assert (on_hand(shop), shop.flag("merged"), net(shop, "first")) == ((8, 9), True, 0)


def test_forms_without_time_and_revision_are_merged_too_and_repeats_change_nothing(shop: Shop) -> None:
    bare = [{**one, "updatedAt": None, "revision": None} for one in (FIRST, MERGED)]
    take(shop, *bare)
    count = len(shop.statuses())

    assert take(shop, *bare, *bare) == ["taken_over", "already_updated"] * 2
    assert (on_hand(shop), len(shop.statuses())) == ((8, 9), count)


def test_three_purchases_in_one(shop: Shop) -> None:
    third = purchase("third", 2, {L3: ("A", 1)})
    every = purchase("merged", 5, {L1: ("A", 2), L2: ("B", 1), L3: ("A", 1), L4: ("B", 3)})
    take(shop, FIRST, SECOND, third)
    shop.drain()
    take(shop, every)
    shop.drain()

    assert (on_hand(shop), net(shop, "merged")) == ((7, 6), 7)
    assert {order: shop.flag(order) for order in ("first", "second", "third", "merged")} == {
        "first": False,
        "second": False,
        "third": False,
        "merged": True,
    }


def test_a_merged_order_is_merged_again(shop: Shop) -> None:
    third = purchase("third", 6, {L3: ("A", 1)})
    last = purchase("last", 9, {L1: ("A", 2), L2: ("B", 1), L3: ("A", 1)})
    take(shop, FIRST, SECOND, MERGED, third, last)
    shop.drain()
    take(shop, MERGED, SECOND, FIRST, last)
    shop.drain()

    assert (on_hand(shop), net(shop, "last"), net(shop, "merged")) == ((7, 9), 4, 0)
    assert (shop.flag("merged"), shop.flag("last")) == (None, True)
    assert (shop.line(L1, "first")["moved_to"], shop.line(L1, "merged")["moved_to"]) == ("merged", "last")
    shop.orders.process_return(goods(line=L1, order="first", quantity=2))
    assert (on_hand(shop), net(shop, "last")) == ((9, 9), 2)
