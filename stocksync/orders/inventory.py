"""InventoryManager: stock with its ledger, for shops that keep their stock here."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from stocksync.errors import InvalidInput, NegativeStock
from stocksync.store.context import Context, Part
from stocksync.store.inventory import Change, Difference, StockLedger
from stocksync.store.values import MAX_QUANTITY, check_quantity, check_word

log = logging.getLogger(__name__)


class InventoryManager(Part):
    """Stock by SKU and warehouse. Every change is one guarded UPDATE with a movement beside it."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._ledger = StockLedger(context)

    def add(
        self, sku: str, warehouse: str, quantity: int, *, actor: str | None = None, reason: str | None = None
    ) -> None:
        """Goods came in. Raises InvalidInput."""
        change = self._change(sku, quantity, "receipt", actor, reason)
        with self._database.transaction_scope():
            self._ledger.put(check_word("warehouse", warehouse), [change], self._clock())

    def remove_as_sale(
        self, sku: str, warehouse: str, quantity: int, *, actor: str | None = None, reason: str | None = None
    ) -> None:
        """Goods went out, with no order to tell of. Raises InvalidInput, InsufficientStock."""
        change = self._change(sku, quantity, "issue", actor, reason)
        with self._database.transaction_scope():
            self._ledger.take(check_word("warehouse", warehouse), [change], self._clock())

    def set_on_hand(
        self,
        levels: Mapping[str, int],
        warehouse: str,
        *,
        actor: str | None = None,
        reason: str | None = None,
    ) -> int:
        """Somebody counted: on hand becomes what `levels` says of each SKU. Answers with how many differed.

        Raises:
            InvalidInput: a SKU or a count can't be taken; nothing was written.
        """
        warehouse = check_word("warehouse", warehouse)
        counted = {check_word("sku", sku): self._counted(sku, count) for sku, count in levels.items()}
        with self._database.transaction_scope():
            now = self._clock()
            self._ledger.hold(warehouse, list(counted), now)
            before = self._ledger.on_hand(warehouse, list(counted))
            more = {sku: count - before[sku] for sku, count in counted.items() if count > before[sku]}
            less = {sku: before[sku] - count for sku, count in counted.items() if count < before[sku]}
            for units, move in ((more, self._ledger.put), (less, self._ledger.take)):
                changes = [self._change(sku, n, "count", actor, reason) for sku, n in units.items()]
                if changes:
                    move(warehouse, changes, now)
        return len(more) + len(less)

    def differing(self) -> list[Difference]:
        """Levels whose on hand is not the sum of their movements, by warehouse and SKU: something wrote past us."""
        with self._database.snapshot():
            return self._ledger.differing()

    def rebuild(self, warehouse: str, sku: str, *, actor: str | None = None) -> int:
        """Set on hand of one SKU to the sum of its movements; answers with it. The movements stay as they are.

        Raises:
            NegativeStock: the sum is below nought, where that is not allowed; nothing was written.
        """
        with self._database.transaction_scope():
            on_hand = self._ledger.rebuild(warehouse, sku, self._clock())
            if on_hand is None:
                raise NegativeStock(sku, warehouse)
        log.warning(
            "stock rebuild by %s: %s in %s is %d, as its movements say", actor, sku, warehouse, on_hand
        )
        return on_hand

    def on_hand(self, sku: str, warehouse: str) -> int:
        """Units on hand; 0 for a SKU that was never seen."""
        with self._database.scope():
            return self._ledger.on_hand(warehouse, [sku]).get(sku, 0)

    def _change(self, sku: str, quantity: int, cause: str, actor: str | None, reason: str | None) -> Change:
        sku, quantity = check_word("sku", sku), check_quantity("quantity", quantity)
        return Change(sku, quantity, cause, f"{cause}:{self._new_id()}", actor=actor, reason=reason)

    @staticmethod
    def _counted(sku: str, count: int) -> int:
        if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= MAX_QUANTITY:
            why = f"a count from 0 to {MAX_QUANTITY} is needed, got {count!r:.40}"
            raise InvalidInput(f"quantity of {sku}", why)
        return count
