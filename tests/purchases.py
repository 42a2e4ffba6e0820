"""Purchases that are paid together, as forms: two orders, and the one that takes over their lines."""

from __future__ import annotations

from typing import Any

from tests.shop import SELLER, Shop, form

L1, L2, L3, L4 = (f"d026dd20-7694-11ef-99fc-d3c5743b610{number}" for number in range(1, 5))


def purchase(
    order: str, minute: int, lines: dict[str, tuple[str | None, int]], **more: Any
) -> dict[str, Any]:
    """The form of `order`, changed at 10:`minute`."""
    time = f"2026-03-01T10:{minute:02}:00.000Z"
    return form(order, lines, **{"revision": f"{order}-{minute}", "updated_at": time} | more)


FIRST = purchase("first", 0, {L1: ("A", 2)})
SECOND = purchase("second", 1, {L2: ("B", 1)})
MERGED = purchase("merged", 5, {L1: ("A", 2), L2: ("B", 1)})


def take(shop: Shop, *forms: dict[str, Any]) -> list[str]:
    """Process forms; answers with their statuses."""
    return [shop.orders.process_order_stock_update(one).status for one in forms]


def on_hand(shop: Shop) -> tuple[int, int]:
    return shop.on_hand("A"), shop.on_hand("B")


def net(shop: Shop, order: str) -> int:
    """Units that the order has deducted, as its lines say."""
    lines = shop.runtime.queries.order(SELLER, order)["lines"]
    return sum(line["deducted"] - line["refunded"] for line in lines)
