"""The seller marks an order as cancelled at Allegro, and may take that back: stock and the remote follow, each time once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from stocksync import InsufficientStock, InvalidOrder, RefundExceedsSale
from tests.shop import SELLER, Shop, form, goods, open_shop

LINES: dict[str, tuple[str | None, int]] = {"1": ("A", 3), "2": ("B", 1)}


@pytest.fixture
def shop(database_url: str) -> Iterator[Shop]:
    with open_shop(database_url) as opened:
        opened.stock(A=10, B=10)
        yield opened
        assert opened.broken_promises() == []


def take(shop: Shop, fulfillment: str = "NEW", **more: Any) -> str:
    """Process the order's form as the seller has marked it, twice; then deliver. Answers with the first status."""
    document = form(**{"lines": LINES, "fulfillment": fulfillment} | more)
    status = shop.orders.process_order_stock_update(document).status
    count = len(shop.statuses())
    assert shop.orders.process_order_stock_update(document).operations == ()
    assert len(shop.statuses()) == count
    shop.drain()
    return status


def state(shop: Shop) -> tuple[int, int, bool | None]:
    return shop.on_hand("A"), shop.on_hand("B"), shop.flag()


@pytest.mark.parametrize("back", ["NEW", "PROCESSING", "READY_FOR_SHIPMENT", "SENT"])
def test_it_gives_back_and_taken_back_it_deducts_again(shop: Shop, back: str) -> None:
    assert (take(shop), state(shop)) == ("queued", (7, 9, True))
    assert (take(shop, "CANCELLED"), state(shop)) == ("cancelled", (10, 10, False))
    assert shop.order().status == "SELLER_CANCELLED"
    assert (take(shop, back), state(shop)) == ("queued", (7, 9, True))
    assert (take(shop, "CANCELLED"), state(shop)) == ("cancelled", (10, 10, False))

    reasons = {row["reason"] for row in shop.runtime.queries.order(SELLER, "order-1")["operations"]}
    assert reasons == {None, "the seller cancelled the order"}
    assert set(shop.statuses()) == {"completed"}


def test_ignored_by_setting_it_changes_nothing(database_url: str) -> None:
    with open_shop(database_url, STOCK_SYNC_SELLER_CANCELLATION="ignore") as shop:
        shop.stock(A=10, B=10)
        take(shop)
        assert (take(shop, "CANCELLED"), state(shop)) == ("already_updated", (7, 9, True))
        assert shop.orders.process_order_stock_update(form(status="CANCELLED")).status == "cancelled"


def test_an_order_that_comes_cancelled_first_deducts_nothing_until_it_is_taken_back(shop: Shop) -> None:
    assert (take(shop, "CANCELLED"), state(shop)) == ("cancelled", (10, 10, None))
    assert (take(shop, "NEW"), state(shop)) == ("queued", (7, 9, True))


@pytest.mark.parametrize("revision", ["r1", "r2"])
def test_what_the_seller_said_earlier_and_comes_later_is_over(shop: Shop, revision: str) -> None:
    def at(minute: int, fulfillment: str) -> str:
        return take(shop, fulfillment, updated_at=f"2026-03-01T11:{minute:02}:00Z", revision=revision)

    at(10, "NEW")
    at(20, "CANCELLED")
    assert (at(15, "PROCESSING"), state(shop)) == ("already_updated", (10, 10, False))
    assert (at(30, "PROCESSING"), state(shop)) == ("queued", (7, 9, True))
    assert at(40, "SENT") == "already_updated"  # nothing new in it but its time
    assert (at(35, "CANCELLED"), state(shop)) == ("already_updated", (7, 9, True))


def test_without_time_and_revision_the_last_one_counts(shop: Shop) -> None:
    bare: dict[str, Any] = {"revision": None, "updated_at": None}
    take(shop, **bare)
    take(shop, "CANCELLED", **bare)
    assert state(shop) == (10, 10, False)
    take(shop, **bare)
    assert state(shop) == (7, 9, True)


def test_what_was_returned_before_is_not_deducted_again(shop: Shop) -> None:
    take(shop)
    shop.orders.process_return(goods(line="1", quantity=2))
    assert (take(shop, "CANCELLED"), state(shop)) == ("cancelled", (10, 10, False))
    with pytest.raises(RefundExceedsSale):
        shop.orders.process_return(goods("return-2", line="1"))
    assert (take(shop, "NEW"), state(shop)) == ("queued", (9, 9, True))


def test_a_revision_that_comes_meanwhile_counts_when_it_is_taken_back(shop: Shop) -> None:
    take(shop)
    take(shop, "CANCELLED")
    changed: dict[str, Any] = {"lines": {"1": ("A", 5), "3": ("B", 4)}, "revision": "r2"}
    later = "2026-03-01T11:30:00Z"
    assert (take(shop, "CANCELLED", **changed, updated_at=later), state(shop)) == (
        "cancelled",
        (10, 10, False),
    )
    assert (take(shop, "NEW", **changed, updated_at=later), state(shop)) == ("queued", (5, 6, True))


def test_a_revision_that_cancels_too_gives_back_everything(shop: Shop) -> None:
    take(shop)
    changed: dict[str, Any] = {
        "lines": {"1": ("A", 5)},
        "revision": "r2",
        "updated_at": "2026-03-01T11:30:00Z",
    }
    assert (take(shop, "CANCELLED", **changed), state(shop)) == ("cancelled", (10, 10, False))
    assert (take(shop, "NEW", **changed), state(shop)) == ("queued", (5, 10, True))


def test_too_little_stock_when_it_is_taken_back_leaves_all_as_it_was(shop: Shop) -> None:
    take(shop)
    take(shop, "CANCELLED")
    shop.stock(A=2, B=0)
    with pytest.raises(InsufficientStock) as short:
        take(shop, "NEW")

    assert [shortage.sku for shortage in short.value.shortages] == ["A", "B"]
    assert (state(shop), shop.order().status) == ((2, 0, False), "SELLER_CANCELLED")
    shop.stock(A=3, B=1)
    assert (take(shop, "NEW"), state(shop)) == ("queued", (0, 0, True))


@pytest.mark.parametrize("by", ["form", "call"])
def test_cancelled_by_the_buyer_after_that_it_is_final(shop: Shop, by: str) -> None:
    take(shop)
    take(shop, "CANCELLED")
    if by == "call":
        assert shop.orders.cancel_order("order-1", SELLER).status == "cancelled"
    else:
        assert take(shop, "CANCELLED", status="CANCELLED", revision="r2") == "cancelled"
    assert (take(shop, "NEW"), state(shop)) == ("cancelled", (10, 10, False))
    assert take(shop, "CANCELLED") == "cancelled"


def test_cancelled_while_true_is_on_its_way_ends_at_false(shop: Shop) -> None:
    shop.orders.process_order_stock_update(form(lines=LINES))
    shop.meanwhile(lambda: shop.orders.process_order_stock_update(form(lines=LINES, fulfillment="CANCELLED")))
    shop.drain()
    shop.drain()

    assert [said for _, said, _ in shop.remote.calls] == [True, False]


def test_a_status_that_asks_for_nothing_is_noted_whatever_the_seller_marked(shop: Shop) -> None:
    assert take(shop, "CANCELLED", status="BOUGHT") == "noted"
    assert (take(shop, "NEW"), state(shop)) == ("queued", (7, 9, True))


def test_what_is_kept_elsewhere_is_not_taken_out_of_our_stock_when_it_is_taken_back(shop: Shop) -> None:
    shop.deduct(quantity=3, line_item_id="1")
    lines = {"1": ("A", 3)}
    take(shop, lines=lines)
    assert (take(shop, "CANCELLED", lines=lines), state(shop)) == ("cancelled", (10, 10, False))
    with pytest.raises(InvalidOrder, match="kept elsewhere"):
        take(shop, "NEW", lines=lines)
    assert state(shop) == (10, 10, False)
