"""Order lines: their only writer. A line whose id is a UUID is carried by one order of its seller at a time.

Callers hold a write transaction and the order's row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from stocksync.errors import InvalidInput, LineTaken
from stocksync.store.context import Part
from stocksync.store.database import Statement, rows_of
from stocksync.store.identifiers import carried_key
from stocksync.store.operations import OrderRow

_LINES = Statement("""
    SELECT line_id, sku, warehouse, quantity, deducted, refunded, moved_to, waived, moves_stock
    FROM stock_sync_order_lines WHERE order_ref = :order_ref ORDER BY id""")
# In the order of the keys: two that add the same lines wait for each other, and neither for ever.
_ADD_LINES = Statement("""
    INSERT INTO stock_sync_order_lines
      (id, order_ref, line_id, sku, warehouse, quantity, deducted, refunded, waived, moves_stock, carried, moved_to,
       created_at)
    SELECT given.id, :order_ref, given.line_id, given.sku, given.warehouse, given.quantity, given.deducted, 0,
           given.waived, given.moves_stock, given.carried, given.moved_to, :now
    FROM {rows:items(id uuid, line_id text, sku text, warehouse text, quantity bigint, deducted bigint, waived boolean,
                     moves_stock boolean, carried text, moved_to text)} AS given
    WHERE TRUE ORDER BY given.carried, given.id
    ON CONFLICT (carried) DO NOTHING RETURNING line_id""")
_CARRIERS = Statement("""
    SELECT n.carried, o.order_id FROM stock_sync_order_lines AS n JOIN stock_sync_orders AS o ON o.id = n.order_ref
    WHERE n.carried IN {keys:text}""")
# By its id, whatever order is named; else the lines of this SKU that the order once had.
_CARRIER = Statement("""
    SELECT o.order_id FROM stock_sync_order_lines AS n JOIN stock_sync_orders AS o ON o.id = n.order_ref
    WHERE n.carried IN (
      SELECT CAST(:key AS TEXT)
      UNION ALL
      SELECT :token_id || ':' || lower(m.line_id) FROM stock_sync_order_lines AS m
      JOIN stock_sync_orders AS w ON w.id = m.order_ref
      WHERE w.token_id = :token_id AND w.order_id = :order_id AND m.sku = :sku AND m.moved_to IS NOT NULL)
    ORDER BY n.id LIMIT 1""")
_HAND_OVER = Statement("""
    UPDATE stock_sync_order_lines SET moved_to = :order_id, carried = NULL
    WHERE order_ref = :order_ref AND line_id = :line_id""")
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
class Line:
    """One stored order line. `reserved`: units whose refund is in doubt, which nobody else may give back."""

    line_id: str
    sku: str | None
    warehouse: str | None
    quantity: int
    deducted: int = 0
    refunded: int = 0
    moved_to: str | None = None
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
        return self.sku is not None and self.deducted < self.quantity and not self.waived

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


class OrderLines(Part):
    """The lines of an order. The caller holds the order's row."""

    def of(self, order_ref: UUID) -> dict[str, Line]:
        """Every line of the order by its line id, the oldest first."""
        rows = rows_of(self._database.run(_LINES, order_ref=order_ref))
        return {row[0]: Line(*row[:7], *map(bool, row[7:])) for row in rows}

    def add(self, order: OrderRow, lines: Sequence[Line], now: datetime) -> None:
        """Write lines that are new to the order. Raises LineTaken: another one has just taken one of them."""
        if not lines:
            return
        keys = [None if line.moved_to else carried_key(order.token_id, line.line_id) for line in lines]
        items = [
            {**vars(line), "id": self._new_id(), "carried": key}
            for line, key in zip(lines, keys, strict=True)
        ]
        added = {
            row[0]
            for row in rows_of(self._database.run(_ADD_LINES, order_ref=order.id, items=items, now=now))
        }
        for line in lines:
            if line.line_id not in added:
                carriers = self.carriers(order.token_id, [line.line_id])
                raise LineTaken(line.line_id, carriers.get(line.line_id, "?"))

    def carriers(self, token_id: str, line_ids: Iterable[str]) -> dict[str, str]:
        """Line id -> id of the order that carries it, of lines whose id is a UUID."""
        ids = {key: line_id for line_id in line_ids if (key := carried_key(token_id, line_id))}
        found = rows_of(self._database.run(_CARRIERS, keys=list(ids))) if ids else ()
        return {ids[row[0]]: row[1] for row in found}

    def carrier(self, token_id: str, order_id: str, line_id: str | None, sku: str) -> str:
        """Where a line of the order is by now: in the order that took it over, else there."""
        key = None if line_id is None else carried_key(token_id, line_id)
        what = {"token_id": token_id, "order_id": order_id, "sku": sku if line_id is None else None}
        row = self._database.run(_CARRIER, key=key, **what).fetchone()
        return order_id if row is None else str(row[0])

    def hand_over(self, order_ref: UUID, line_ids: Iterable[str], order_id: str) -> None:
        """Another order carries these lines from now on; nothing of them is deducted here any more."""
        rows = [{"order_ref": order_ref, "line_id": line_id, "order_id": order_id} for line_id in line_ids]
        self._database.run_many(_HAND_OVER, rows)

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
