"""Stock and order lines: the only writer of levels, movements and lines.

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

from stocksync.domain.errors import InsufficientStock, InvalidInput, Shortage, UnknownWarehouse
from stocksync.domain.identifiers import NewId
from stocksync.store.database import Database, Statement, rows_of

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
_LINES = Statement("""
    SELECT line_id, sku, warehouse, quantity, deducted, refunded, waived, moves_stock
    FROM stock_sync_order_lines WHERE order_ref = :order_ref ORDER BY id""")
_ADD_LINE = Statement("""
    INSERT INTO stock_sync_order_lines
      (id, order_ref, line_id, sku, warehouse, quantity, deducted, refunded, waived, moves_stock, created_at)
    VALUES (:id, :order_ref, :line_id, :sku, :warehouse, :quantity, :deducted, 0, FALSE, :moves_stock, :now)""")
_DEDUCT = Statement("""
    UPDATE stock_sync_order_lines
    SET deducted = deducted + :quantity,
        quantity = CASE WHEN :grows AND quantity < deducted - refunded + :quantity
                        THEN deducted - refunded + :quantity ELSE quantity END
    WHERE order_ref = :order_ref AND line_id = :line_id""")
_REFUND = Statement("""
    UPDATE stock_sync_order_lines SET refunded = refunded + given.quantity
    FROM {rows:items(line_id text, quantity bigint)} AS given
    WHERE order_ref = :order_ref AND stock_sync_order_lines.line_id = given.line_id
      AND refunded + given.quantity <= deducted
    RETURNING stock_sync_order_lines.line_id""")
_UNDO = Statement("""
    UPDATE stock_sync_order_lines SET deducted = deducted - :quantity
    WHERE order_ref = :order_ref AND line_id = :line_id AND deducted - :quantity >= refunded + :reserved
    RETURNING line_id""")
_REVISE = Statement("""
    UPDATE stock_sync_order_lines
    SET sku = :sku, warehouse = :warehouse, quantity = :quantity, deducted = deducted + :out
    WHERE order_ref = :order_ref AND line_id = :line_id""")
_WAIVE_LINE = Statement("""
    UPDATE stock_sync_order_lines SET waived = TRUE WHERE order_ref = :order_ref AND line_id = :line_id""")
_KEEP_OUT = Statement("UPDATE stock_sync_order_lines SET moves_stock = FALSE WHERE order_ref = :order_ref")
_LOWER_LINE = Statement("""
    UPDATE stock_sync_order_lines SET quantity = :quantity WHERE order_ref = :order_ref AND line_id = :line_id""")
_FORGET_LINE = Statement("""
    DELETE FROM stock_sync_order_lines
    WHERE order_ref = :order_ref AND line_id = :line_id AND quantity = 0 AND deducted = 0""")
_LONGEST_LINE_ID = 255


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


@dataclass(frozen=True)  # without slots, as above
class Line:
    """One stored order line. `reserved`: units whose refund is in doubt, which nobody else may give back."""

    line_id: str
    sku: str | None
    warehouse: str | None
    quantity: int
    deducted: int = 0
    refunded: int = 0
    waived: bool = False
    moves_stock: bool = True
    reserved: int = 0

    @property
    def left(self) -> int:
        """Units deducted that can still come back."""
        return self.deducted - self.refunded - self.reserved

    @property
    def is_open(self) -> bool:
        """Whether units of it are still to be deducted."""
        return self.deducted < self.quantity and not self.waived

    @property
    def is_unnamed(self) -> bool:
        """Whether it stands for calls that named no line id."""
        return self.sku is not None and self.line_id == f"{self.sku}@{self.warehouse}"

    @property
    def named_id(self) -> str | None:
        """Its id as operations carry it: None, where it stands for calls that named none."""
        return None if self.is_unnamed else self.line_id


def unnamed_line(sku: str, warehouse: str) -> str:
    """The line id of calls without one: the SKU in its warehouse is the line. Raises InvalidInput."""
    line_id = f"{sku}@{warehouse}"
    if len(line_id) > _LONGEST_LINE_ID:
        why = f"is needed here: SKU and warehouse with {len(line_id)} characters are too long to stand for a line"
        raise InvalidInput("line_item_id", why)
    return line_id


class StockLedger:
    """Levels with their movements."""

    def __init__(self, database: Database, new_id: NewId) -> None:
        self._database = database
        self._new_id = new_id

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


class OrderLines:
    """The lines of an order. The caller holds the order's row."""

    def __init__(self, database: Database, new_id: NewId) -> None:
        self._database = database
        self._new_id = new_id

    def of(self, order_ref: UUID) -> dict[str, Line]:
        """Every line of the order by its line id, the oldest first."""
        rows = rows_of(self._database.run(_LINES, order_ref=order_ref))
        return {row[0]: Line(*row[:6], *map(bool, row[6:])) for row in rows}

    def add(self, order_ref: UUID, lines: Sequence[Line], now: datetime) -> None:
        """Write lines that are new to the order."""
        rows = [{**vars(line), "id": self._new_id(), "order_ref": order_ref, "now": now} for line in lines]
        self._database.run_many(_ADD_LINE, rows)

    def deduct(self, order_ref: UUID, line_id: str, quantity: int, *, grows: bool) -> None:
        """Count units as deducted. `grows`: no form says how many were ordered, so these were ordered too."""
        self._database.run(_DEDUCT, order_ref=order_ref, line_id=line_id, quantity=quantity, grows=grows)

    def refund(self, order_ref: UUID, units: Mapping[str, int]) -> bool:
        """Count `units` by line id as given back. False: a line has fewer left; roll the transaction back."""
        items = [{"line_id": line_id, "quantity": quantity} for line_id, quantity in units.items()]
        return len(rows_of(self._database.run(_REFUND, order_ref=order_ref, items=items))) == len(items)

    def undo_deduction(self, order_ref: UUID, line_id: str, quantity: int, reserved: int) -> bool:
        """Count units as never deducted. False: refunds, or those in doubt (`reserved`), need them."""
        which = {"order_ref": order_ref, "line_id": line_id}
        return self._database.run(_UNDO, **which, quantity=quantity, reserved=reserved).fetchone() is not None

    def revise(self, order_ref: UUID, lines: Sequence[tuple[Line, int]]) -> None:
        """Write what a form made of lines, each with the units deducted in addition."""
        rows = [{**vars(line), "order_ref": order_ref, "out": out} for line, out in lines]
        if rows:
            self._database.run_many(_REVISE, rows)

    def lower(self, order_ref: UUID, line_id: str, quantity: int) -> None:
        """Less was ordered than was said; a line of which nothing ever was is forgotten."""
        self._database.run(_LOWER_LINE, order_ref=order_ref, line_id=line_id, quantity=quantity)
        self._database.run(_FORGET_LINE, order_ref=order_ref, line_id=line_id)

    def keep_out(self, order_ref: UUID) -> None:
        """What comes back of the order from now on does not come into our stock."""
        self._database.run(_KEEP_OUT, order_ref=order_ref)

    def waive(self, order_ref: UUID, line_id: str) -> None:
        """A person decided that this line no longer holds its order up."""
        self._database.run(_WAIVE_LINE, order_ref=order_ref, line_id=line_id)


def _summed(changes: Sequence[Change]) -> Counter[str]:
    totals: Counter[str] = Counter()
    for change in changes:
        totals[change.sku] += change.quantity
    return totals
