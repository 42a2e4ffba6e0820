"""What happens to purchases paid together afterwards: returns, cancellations, single calls, deliveries under way."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from stocksync import (
    IdempotencyConflict,
    InDoubt,
    InsufficientStock,
    InvalidOrder,
    InventoryManagerWithSync,
    RefundExceedsSale,
)
from tests.purchases import FIRST, L1, L2, MERGED, SECOND, net, on_hand, purchase, take
from tests.shop import REFUSED, SELLER, WAREHOUSE, Shop, form, goods, open_shop


@pytest.fixture
def shop(database_url: str) -> Iterator[Shop]:
    with open_shop(database_url) as opened:
        opened.stock(A=10, B=10)
        yield opened
        assert opened.broken_promises() == []


@pytest.mark.parametrize("line", [L1, None], ids=["by its line", "by SKU"])
def test_a_return_that_names_the_old_order_finds_the_line_where_it_is(shop: Shop, line: str | None) -> None:
    take(shop, FIRST, MERGED)
    result = shop.orders.process_return(goods(line=line, order="first"))
    again = shop.orders.process_return(goods(line=line, order="first"))

    assert (result.status, result.order_id, again.status) == ("queued", "merged", "already_returned")
    assert (on_hand(shop), shop.line(L1, "merged")["refunded"]) == ((9, 9), 1)
    with pytest.raises(RefundExceedsSale):
        shop.orders.process_return(goods("return-2", line, order="first", quantity=2))


def test_a_return_finds_the_line_also_where_the_old_order_never_came(shop: Shop) -> None:
    take(shop, MERGED)

    assert shop.orders.process_return(goods(line=L1, order="first")).order_id == "merged"
    shop.refund("first", line_item_id=L1)
    assert net(shop, "merged") == 1


def test_what_was_returned_before_the_merge_stays_returned(shop: Shop) -> None:
    take(shop, FIRST)
    shop.orders.process_return(goods(line=L1, order="first"))
    take(shop, MERGED)
    shop.drain()

    assert (on_hand(shop), net(shop, "merged"), shop.flag("merged")) == ((9, 9), 2, True)
    assert shop.orders.process_return(goods(line=L1, order="first")).status == "already_returned"
    with pytest.raises(RefundExceedsSale):
        shop.orders.process_return(goods("return-2", L1, order="first", quantity=2))
    shop.orders.cancel_order("merged", SELLER)
    assert on_hand(shop) == (10, 10)


def test_a_line_that_came_back_in_full_before_the_merge_is_not_deducted_again(shop: Shop) -> None:
    take(shop, FIRST)
    shop.orders.process_return(goods(line=L1, order="first", quantity=2))
    take(shop, MERGED, MERGED)
    shop.drain()

    assert (on_hand(shop), shop.flag("merged")) == ((10, 9), True)


@pytest.mark.parametrize(("quantity", "left"), [(5, 5), (1, 9)])
def test_a_quantity_that_changed_with_the_merge_is_a_revision(shop: Shop, quantity: int, left: int) -> None:
    take(shop, FIRST, purchase("merged", 5, {L1: ("A", quantity), L2: ("B", 1)}))
    shop.drain()

    assert (on_hand(shop), net(shop, "merged"), net(shop, "first")) == ((left, 9), quantity + 1, 0)


def test_too_little_stock_for_the_rest_leaves_the_line_where_it_was(shop: Shop) -> None:
    take(shop, FIRST)
    with pytest.raises(InsufficientStock):
        take(shop, purchase("merged", 5, {L1: ("A", 2), L2: ("B", 11)}))

    assert (on_hand(shop), net(shop, "first"), shop.line(L1, "first")["moved_to"]) == ((8, 10), 2, None)


@pytest.mark.parametrize("by", ["form", "call", "seller"])
def test_cancelling_the_merged_order_gives_everything_back(shop: Shop, by: str) -> None:
    take(shop, FIRST, MERGED)
    shop.drain()
    if by == "call":
        shop.orders.cancel_order("merged", SELLER)
    elif by == "form":
        take(shop, {**MERGED, "status": "CANCELLED", "revision": "c"})
    else:
        take(shop, {**MERGED, "fulfillment": {"status": "CANCELLED"}})
    take(shop, FIRST, SECOND)
    shop.drain()

    assert (on_hand(shop), shop.flag("merged"), bool(shop.flag("first"))) == ((10, 10), False, False)


def test_a_cancellation_that_comes_before_its_merged_order_holds_the_lines(shop: Shop) -> None:
    cancelled = {**MERGED, "status": "CANCELLED"}
    take(shop, FIRST)
    shop.drain()
    assert take(shop, cancelled, MERGED, cancelled) == ["cancelled", "cancelled", "already_cancelled"]
    assert take(shop, FIRST, SECOND) == ["already_updated", "taken_over"]
    shop.drain()

    assert (on_hand(shop), shop.flag("first"), shop.flag("merged")) == ((10, 10), False, None)


def test_the_form_of_an_order_cancelled_by_call_gives_back_the_lines_it_took_over(shop: Shop) -> None:
    shop.orders.cancel_order("merged", SELLER)
    take(shop, FIRST)
    shop.drain()
    assert take(shop, MERGED, MERGED) == ["cancelled", "cancelled"]
    assert take(shop, SECOND) == ["taken_over"]
    shop.drain()

    assert (on_hand(shop), shop.flag("first"), shop.flag("second")) == ((10, 10), False, None)


@pytest.mark.parametrize("by", ["buyer", "seller"])
def test_lines_of_an_order_that_was_cancelled_are_deducted_anew(shop: Shop, by: str) -> None:
    take(shop, FIRST)
    if by == "buyer":
        shop.orders.cancel_order("first", SELLER)
    else:
        take(shop, {**FIRST, "fulfillment": {"status": "CANCELLED"}})
    assert on_hand(shop) == (10, 10)
    take(shop, MERGED)
    shop.drain()

    assert (on_hand(shop), shop.flag("merged"), net(shop, "merged")) == ((8, 9), True, 3)
    take(shop, FIRST)
    assert on_hand(shop) == (8, 9)


def test_merged_while_true_is_on_its_way_the_old_order_ends_at_false(shop: Shop) -> None:
    take(shop, FIRST)
    shop.meanwhile(lambda: take(shop, MERGED))
    shop.drain()
    shop.drain()

    assert [(order, said) for order, said, _ in shop.remote.calls if order == "first"] == [
        ("first", True),
        ("first", False),
    ]
    assert (shop.flag("first"), shop.flag("merged")) == (False, True)
    assert set(shop.statuses()) == {"completed"}


def test_what_the_remote_may_have_heard_of_a_failing_order_is_taken_back(shop: Shop) -> None:
    shop.remote.applies_before_failing, shop.remote.answer = True, lambda _: REFUSED
    take(shop, FIRST)
    shop.drain()
    take(shop, MERGED)
    shop.remote.answer = type(shop.remote)().answer
    shop.drain()

    assert (shop.flag("first"), shop.flag("merged")) == (False, True)


def test_lines_that_are_not_stock_change_orders_with_the_others(shop: Shop) -> None:
    take(shop, purchase("first", 0, {L1: (None, 2)}))
    take(shop, purchase("merged", 5, {L1: (None, 2), L2: ("B", 1)}))
    take(shop, purchase("first", 1, {L1: ("A", 2)}))

    assert (on_hand(shop), shop.line(L1, "first")["moved_to"]) == ((10, 9), "merged")
    take(shop, purchase("merged", 6, {L1: ("A", 2), L2: ("B", 1)}))
    assert on_hand(shop) == (8, 9)


def test_lines_of_other_ids_and_of_other_sellers_are_their_orders_own(shop: Shop) -> None:
    take(shop, form("one", {"1": ("A", 1)}), form("other", {"1": ("A", 1)}))
    take(shop, FIRST, {**MERGED, "token_id": "seller-2"})

    assert (on_hand(shop), net(shop, "first")) == ((4, 9), 2)


# Single calls, and stock kept elsewhere


def test_a_single_call_for_a_line_that_another_order_has_is_refused(shop: Shop) -> None:
    take(shop, FIRST)

    with pytest.raises(IdempotencyConflict, match="in order first"):
        shop.deduct("merged", quantity=2, line_item_id=L1)
    take(shop, MERGED)
    with pytest.raises(IdempotencyConflict, match="in order merged"):
        shop.deduct("first", "B", quantity=1, line_item_id=L2)
    assert (net(shop, "first"), net(shop, "merged")) == (0, 3)


def test_a_single_call_may_sell_a_line_that_came_back_in_full(shop: Shop) -> None:
    shop.deduct("first", quantity=2, line_item_id=L1)
    shop.refund("first", quantity=2, line_item_id=L1)
    shop.deduct("merged", quantity=2, line_item_id=L1)
    shop.drain()

    assert (bool(shop.flag("first")), shop.flag("merged")) == (False, True)
    with pytest.raises(IdempotencyConflict):
        shop.deduct("first", quantity=1, line_item_id=L1)


def test_a_form_takes_over_what_single_calls_deducted_elsewhere(shop: Shop) -> None:
    shop.deduct("first", quantity=2, line_item_id=L1)
    shop.drain()
    take(shop, MERGED)
    shop.drain()

    assert (on_hand(shop), shop.flag("first"), shop.flag("merged")) == ((10, 9), False, True)
    with pytest.raises(InvalidOrder, match="kept elsewhere"):
        take(shop, purchase("merged", 6, {L1: ("A", 3), L2: ("B", 1)}))
    shop.orders.cancel_order("merged", SELLER)
    assert on_hand(shop) == (10, 10)


def test_a_line_in_doubt_is_refused_until_a_person_has_said(shop: Shop) -> None:
    class Silent:
        def remove_as_sale(self, *_: object) -> None:
            raise TimeoutError

    synced = InventoryManagerWithSync(Silent(), shop.service)
    with pytest.raises(InDoubt) as doubt:
        synced.remove_as_sale_with_sync("A", WAREHOUSE, 2, "first", SELLER, line_item_id=L1)
    with pytest.raises(InvalidOrder, match=f"{L1}: whether order first has it deducted is in doubt"):
        take(shop, MERGED)
    with pytest.raises(IdempotencyConflict):
        shop.deduct("merged", quantity=2, line_item_id=L1)

    shop.service.confirm(str(doubt.value.operation_id), True, actor="Anna")
    take(shop, MERGED)
    assert (on_hand(shop), net(shop, "first"), net(shop, "merged")) == ((10, 9), 0, 3)


# Beside each other


@pytest.mark.parametrize("seed", range(3))
def test_forms_that_share_lines_are_processed_at_once_from_both_ends(shop: Shop, seed: int) -> None:
    lines = [f"d026dd20-7694-11ef-99fc-d3c5743b6{number:03}" for number in range(200, 209)]
    olds = [purchase(f"old-{n}", n, {lines[n]: ("A", 1)}) for n in range(9)]
    news = [
        purchase(f"new-{n}", 20 + n, dict.fromkeys(reversed(lines[3 * n : 3 * n + 3]), ("A", 1)))
        for n in range(3)
    ]
    last = purchase("all", 40, dict.fromkeys([*lines[::-1], L1], ("A", 1)))
    forms = [*olds, *news, last]
    turned = forms[seed * 4 :] + forms[: seed * 4]
    work = [turned, turned[::-1], [last, *news, *olds], forms]
    with ThreadPoolExecutor(len(work)) as pool:
        said = list(pool.map(lambda forms: take(shop, *forms), work))
    shop.drain()

    assert all(len(statuses) == len(forms) for statuses in said)
    assert (shop.on_hand("A"), net(shop, "all")) == (0, 10)
    assert {order for (_, order), flag in shop.remote.flags.items() if flag} == {"all"}


# The remote


def test_an_old_order_that_the_remote_no_longer_knows_is_no_difference(shop: Shop) -> None:
    take(shop, FIRST)
    shop.drain()
    take(shop, MERGED)
    shop.drain()
    shop.clock.advance(48 * 3600)
    reader = type("Reader", (), {"find_order": lambda _, **__: None})()
    shop.runtime.reconciliation._reader = lambda: reader

    assert shop.runtime.reconciliation.look(SELLER, "first")[0] == "agrees"
    assert shop.runtime.reconciliation.look(SELLER, "merged")[0] == "missing_order"
