"""Stock: the only writer of levels and movements.

A level changes by one guarded UPDATE of all SKUs at once, with an append-only movement per cause beside it.
Callers hold a write transaction. Lock order: levels come last, by (warehouse, SKU).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from stocksync.errors import InsufficientStock, Shortage, UnknownWarehouse
from stocksync.store.context import Part
from stocksync.store.database import Statement
from stocksync.store.operations import Operation
from stocksync.store.states import ORDER_MOVEMENTS

# Two sides are compared as one sum, here and in the audit: a join of a million rows with a million takes a database
# that guesses wrong for ever.
LEVELS_THAT_DIFFER = Statement("""
    SELECT warehouse, sku, SUM(on_hand) AS on_hand, SUM(moved) AS moved FROM (
      SELECT warehouse, sku, on_hand, 0 AS moved FROM stock_sync_levels
      UNION ALL
      SELECT warehouse, sku, 0, delta FROM stock_sync_movements) AS both_sides
    GROUP BY warehouse, sku HAVING SUM(on_hand) <> SUM(moved) ORDER BY warehouse, sku""")
# Where it may not be below nought, a sum that is leaves the row as it is.
REBUILD = Statement("""
    UPDATE stock_sync_levels SET on_hand = given.moved, updated_at = :now
    FROM (SELECT COALESCE(SUM(delta), 0) AS moved FROM stock_sync_movements
          WHERE warehouse = :warehouse AND sku = :sku) AS given
    WHERE warehouse = :warehouse AND sku = :sku AND (given.moved >= 0 OR allow_negative) RETURNING on_hand""")
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


class StockLedger(Part):
    """Levels with their movements."""

    def require_warehouse(self, warehouse: str) -> None:
        """Raises UnknownWarehouse when no stock was ever recorded for it."""
        known = Statement("SELECT 1 FROM stock_sync_levels WHERE warehouse = :warehouse LIMIT 1")
        if not self._rows(known, warehouse=warehouse):
            every = Statement("SELECT DISTINCT warehouse FROM stock_sync_levels ORDER BY warehouse")
            raise UnknownWarehouse(warehouse, [row[0] for row in self._rows(every)])

    def move(self, operations: Sequence[Operation], now: datetime) -> None:
        """Deductions and issues go out, everything else comes in, each with its movement: all of them, or none.

        What comes in of a SKU covers what goes out of it.

        Raises:
            InsufficientStock: naming every SKU that is short; the caller's transaction must be rolled back.
        """
        short: list[Shortage] = []
        for warehouse in sorted({operation.warehouse for operation in operations}):
            short += self._move(warehouse, [one for one in operations if one.warehouse == warehouse], now)
        if short:
            raise InsufficientStock(short, operations[0].order_id)

    def _move(self, warehouse: str, operations: Sequence[Operation], now: datetime) -> list[Shortage]:
        deltas, needed = Counter[str](), Counter[str]()
        for operation in operations:
            deltas[operation.sku] += _delta(operation)
            needed[operation.sku] += max(-_delta(operation), 0)
        levels = {"warehouse": warehouse, "now": now}
        less = [{"sku": sku, "quantity": -delta} for sku, delta in sorted(deltas.items()) if delta < 0]
        more = [{"sku": sku, "quantity": delta} for sku, delta in sorted(deltas.items()) if delta >= 0]
        # UPDATE ... FROM locks in any order it likes; held in one order first, no two transactions can deadlock.
        if less and more:
            self.hold(warehouse, deltas, now)
        elif less and self._database.dialect.name == "postgresql":
            self._database.run(
                Statement("""
                    SELECT sku FROM stock_sync_levels WHERE warehouse = :warehouse AND sku IN {skus:text}
                    ORDER BY sku {for_update}"""),
                warehouse=warehouse,
                skus=sorted(deltas),
            )
        after = dict(self._rows(_PUT, items=more, **levels)) if more else {}
        after |= dict(self._rows(_TAKE, items=less, **levels)) if less else {}
        if missing := sorted(deltas.keys() - after.keys()):
            left = self.on_hand(warehouse, missing)
            return [
                Shortage(sku, warehouse, needed[sku], left.get(sku, 0) + needed[sku] + deltas[sku])
                for sku in missing
            ]
        self._record(operations, {sku: after[sku] - delta for sku, delta in deltas.items()}, now)
        return []

    def on_hand(self, warehouse: str, skus: Iterable[str]) -> dict[str, int]:
        """Units on hand of each of `skus` that the warehouse knows."""
        return dict(
            self._rows(
                Statement("""
                    SELECT sku, on_hand FROM stock_sync_levels
                    WHERE warehouse = :warehouse AND sku IN {skus:text}"""),
                warehouse=warehouse,
                skus=list(skus),
            )
        )

    def hold(self, warehouse: str, skus: Iterable[str], now: datetime) -> None:
        """Lock the levels of `skus` until the transaction ends; unknown ones begin at zero."""
        self._database.run(
            _PUT, warehouse=warehouse, items=[{"sku": sku, "quantity": 0} for sku in sorted(skus)], now=now
        )

    def _record(self, operations: Sequence[Operation], balances: dict[str, int], now: datetime) -> None:
        """Append a movement for each operation. `balances`: what was on hand before, by SKU."""
        rows: list[dict[str, Any]] = []
        for one in sorted(operations, key=lambda one: _delta(one) < 0):
            balances[one.sku] += _delta(one)
            rows.append(
                {
                    **vars(one),
                    "id": self._new_id(),
                    "delta": _delta(one),
                    "balance_after": balances[one.sku],
                    "cause": one.operation_type,
                    "cause_key": next(iter(one.keys), f"{one.operation_type}:{one.id}"),
                    "operation_id": one.id if one.operation_type in ORDER_MOVEMENTS else None,
                }
            )
        self._database.run(
            Statement("""
                INSERT INTO stock_sync_movements
                  (id, warehouse, sku, delta, balance_after, cause, cause_key, operation_id, actor, reason, created_at)
                SELECT given.*, :now
                FROM {rows:items(id uuid, warehouse text, sku text, delta bigint, balance_after bigint, cause text,
                  cause_key text, operation_id uuid, actor text, reason text)} AS given"""),
            items=rows,
            now=now,
        )


def _delta(operation: Operation) -> int:
    return -operation.quantity if operation.operation_type in ("deduction", "issue") else operation.quantity
