"""Stock: the only writer of levels and movements.

A level changes by one guarded UPDATE of all SKUs at once, with an append-only movement per cause beside it.
Callers hold a write transaction. Lock order: levels come last, by (warehouse, SKU).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from stocksync.errors import InsufficientStock, Shortage, UnknownWarehouse
from stocksync.store.context import Part
from stocksync.store.database import Statement, rows_of

# Two sides are compared as one sum, here and in the audit: a join of a million rows with a million takes a database
# that guesses wrong for ever.
LEVELS_THAT_DIFFER: Final = """
    SELECT warehouse, sku, SUM(on_hand) AS on_hand, SUM(moved) AS moved FROM (
      SELECT warehouse, sku, on_hand, 0 AS moved FROM stock_sync_levels
      UNION ALL
      SELECT warehouse, sku, 0, delta FROM stock_sync_movements) AS both_sides
    GROUP BY warehouse, sku HAVING SUM(on_hand) <> SUM(moved)"""
_DIFFERING = Statement(f"{LEVELS_THAT_DIFFER} ORDER BY warehouse, sku")
# Where it may not be below nought, a sum that is leaves the row as it is.
_REBUILD = Statement("""
    UPDATE stock_sync_levels SET on_hand = given.moved, updated_at = :now
    FROM (SELECT COALESCE(SUM(delta), 0) AS moved FROM stock_sync_movements
          WHERE warehouse = :warehouse AND sku = :sku) AS given
    WHERE warehouse = :warehouse AND sku = :sku AND (given.moved >= 0 OR allow_negative) RETURNING on_hand""")
_LOCK_LEVELS = Statement("""
    SELECT sku FROM stock_sync_levels WHERE warehouse = :warehouse AND sku IN {skus:text} ORDER BY sku {for_update}""")
_TAKE = Statement("""
    UPDATE stock_sync_levels SET on_hand = on_hand - taken.quantity, updated_at = :now
    FROM {rows:items(sku text, quantity bigint)} AS taken
    WHERE stock_sync_levels.warehouse = :warehouse AND stock_sync_levels.sku = taken.sku
      AND (stock_sync_levels.on_hand >= taken.quantity OR stock_sync_levels.allow_negative)
    RETURNING stock_sync_levels.sku, stock_sync_levels.on_hand""")
_PUT = Statement("""
    INSERT INTO stock_sync_levels (warehouse, sku, on_hand, allow_negative, updated_at)
    SELECT :warehouse, given.sku, given.quantity, FALSE, :now
    FROM {rows:items(sku text, quantity bigint)} AS given WHERE TRUE ORDER BY given.sku
    ON CONFLICT (warehouse, sku) DO UPDATE
    SET on_hand = stock_sync_levels.on_hand + excluded.on_hand, updated_at = excluded.updated_at
    RETURNING sku, on_hand""")
_ON_HAND = Statement("""
    SELECT sku, on_hand FROM stock_sync_levels WHERE warehouse = :warehouse AND sku IN {skus:text}""")
_WAREHOUSE = Statement("SELECT 1 FROM stock_sync_levels WHERE warehouse = :warehouse LIMIT 1")
_WAREHOUSES = Statement("SELECT DISTINCT warehouse FROM stock_sync_levels ORDER BY warehouse")
_MOVE = Statement("""
    INSERT INTO stock_sync_movements
      (id, warehouse, sku, delta, balance_after, cause, cause_key, operation_id, actor, reason, created_at)
    VALUES (:id, :warehouse, :sku, :delta, :balance_after, :cause, :cause_key, :operation_id, :actor, :reason, :now)""")


@dataclass(frozen=True)  # without slots: its fields are the parameters of the statement that writes it
class Change:
    """One cause that moves one SKU. `quantity` counts units, above zero; the direction is the call's."""

    sku: str
    quantity: int
    cause: str
    cause_key: str
    operation_id: UUID | None = None
    actor: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """A level that is not what its movements make it: `moved` is their sum."""

    warehouse: str
    sku: str
    on_hand: int
    moved: int


class StockLedger(Part):
    """Levels with their movements."""

    def require_warehouse(self, warehouse: str) -> None:
        """Raises UnknownWarehouse when no stock was ever recorded for it."""
        if self._database.run(_WAREHOUSE, warehouse=warehouse).fetchone() is None:
            raise UnknownWarehouse(warehouse, [row[0] for row in rows_of(self._database.run(_WAREHOUSES))])

    def take(self, warehouse: str, changes: Sequence[Change], now: datetime) -> None:
        """Take all `changes` out of the warehouse, or none of them.

        Raises:
            InsufficientStock: naming every SKU that is short; the caller's transaction must be rolled back.
        """
        needed = _summed(changes)
        items = [{"sku": sku, "quantity": quantity} for sku, quantity in sorted(needed.items())]
        if self._database.dialect.name == "postgresql":
            # UPDATE ... FROM locks in any order it likes; taken in one order first, no two orders can deadlock.
            self._database.run(_LOCK_LEVELS, warehouse=warehouse, skus=sorted(needed))
        taken = dict(rows_of(self._database.run(_TAKE, warehouse=warehouse, items=items, now=now)))
        if len(taken) < len(needed):
            short = sorted(needed.keys() - taken.keys())
            left = self.on_hand(warehouse, short)
            raise InsufficientStock([Shortage(s, warehouse, needed[s], left.get(s, 0)) for s in short])
        self._record(warehouse, changes, -1, {sku: taken[sku] + needed[sku] for sku in needed}, now)

    def put(self, warehouse: str, changes: Sequence[Change], now: datetime) -> None:
        """Put all `changes` into the warehouse; a SKU seen for the first time begins at zero."""
        given = _summed(changes)
        items = [{"sku": sku, "quantity": quantity} for sku, quantity in sorted(given.items())]
        after = dict(rows_of(self._database.run(_PUT, warehouse=warehouse, items=items, now=now)))
        self._record(warehouse, changes, 1, {sku: after[sku] - given[sku] for sku in given}, now)

    def on_hand(self, warehouse: str, skus: Sequence[str]) -> dict[str, int]:
        """Units on hand of each of `skus` that the warehouse knows."""
        return dict(rows_of(self._database.run(_ON_HAND, warehouse=warehouse, skus=list(skus))))

    def hold(self, warehouse: str, skus: Sequence[str], now: datetime) -> None:
        """Lock the levels of `skus` until the transaction ends; unknown ones begin at zero."""
        items = [{"sku": sku, "quantity": 0} for sku in sorted(skus)]
        self._database.run(_PUT, warehouse=warehouse, items=items, now=now)

    def differing(self) -> list[Difference]:
        """Levels whose on hand is not the sum of their movements."""
        return [
            Difference(row[0], row[1], int(row[2]), int(row[3]))
            for row in rows_of(self._database.run(_DIFFERING))
        ]

    def rebuild(self, warehouse: str, sku: str, now: datetime) -> int | None:
        """Set on hand to the sum of the movements, as it is now; answers with it. None: it may not be below nought."""
        self.hold(warehouse, [sku], now)
        row = self._database.run(_REBUILD, warehouse=warehouse, sku=sku, now=now).fetchone()
        return None if row is None else int(row[0])

    def _record(
        self, warehouse: str, changes: Sequence[Change], sign: int, before: Mapping[str, int], now: datetime
    ) -> None:
        balance = dict(before)
        rows: list[dict[str, Any]] = []
        for change in changes:
            delta = sign * change.quantity
            balance[change.sku] += delta
            level = {"warehouse": warehouse, "delta": delta, "balance_after": balance[change.sku]}
            rows.append({**vars(change), **level, "id": self._new_id(), "now": now})
        self._database.run_many(_MOVE, rows)


def _summed(changes: Sequence[Change]) -> Counter[str]:
    totals: Counter[str] = Counter()
    for change in changes:
        totals[change.sku] += change.quantity
    return totals
