"""An inventory of somebody else to test with, and calls that sell from it and give back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stocksync import InventoryManagerWithSync
from tests.shop import SELLER, WAREHOUSE


class Elsewhere:
    """The monolith's own inventory: keeps stock, and fails when told to."""

    def __init__(self) -> None:
        self.stock = {"A": 10}
        self.calls: list[tuple[str, str, int]] = []
        self.before: Callable[[], Any] = lambda: None
        self.after: Callable[[], Any] = lambda: None

    def remove_as_sale(self, sku: str, warehouse: str, quantity: int) -> None:
        self._move(sku, warehouse, -quantity)

    def add(self, sku: str, warehouse: str, quantity: int) -> None:
        self._move(sku, warehouse, quantity)

    def _move(self, sku: str, warehouse: str, quantity: int) -> None:
        self.calls.append((sku, warehouse, quantity))
        self.before()
        if self.stock[sku] + quantity < 0:
            raise ValueError(f"only {self.stock[sku]} of {sku}")
        self.stock[sku] += quantity
        self.after()


def raising(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def sell(synced: InventoryManagerWithSync, quantity: int = 2, **more: Any) -> Any:
    return synced.remove_as_sale_with_sync("A", WAREHOUSE, quantity, "order-1", SELLER, **more)


def give_back(synced: InventoryManagerWithSync, quantity: int = 2, **more: Any) -> Any:
    return synced.return_with_sync("A", WAREHOUSE, quantity, "order-1", SELLER, **more)
