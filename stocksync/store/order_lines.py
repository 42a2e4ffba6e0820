"""Order lines: the only SQL that writes them. A line whose id is a UUID is carried by one order of a seller at a time.

Whoever runs a statement holds a write transaction and the order's row.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stocksync.errors import LineTaken
from stocksync.store.context import Part
from stocksync.store.database import Statement
from stocksync.store.identifiers import carried_key
from stocksync.store.operations import OrderRow

_LINES = Statement("""
    SELECT n.line_id, n.sku, n.warehouse, n.quantity, n.deducted, n.refunded, n.moved_to,
           CAST(COALESCE(doubt.refunds, 0) AS BIGINT), CAST(COALESCE(doubt.deductions, 0) AS BIGINT),
           n.waived, n.moves_stock
    FROM stock_sync_order_lines AS n LEFT JOIN (
      SELECT COALESCE(line_item_id, sku || '@' || warehouse) AS line_id,
             SUM(CASE WHEN operation_type = 'refund' THEN quantity ELSE 0 END) AS refunds,
             SUM(CASE WHEN operation_type = 'deduction' THEN quantity ELSE 0 END) AS deductions
      FROM pending_stock_operations WHERE order_ref = :order_ref AND applied = 'unknown' GROUP BY 1
    ) AS doubt ON doubt.line_id = n.line_id
    WHERE n.order_ref = :order_ref ORDER BY n.id""")
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
HAND_OVER = Statement("""
    UPDATE stock_sync_order_lines SET moved_to = :order_id, carried = NULL
    WHERE order_ref = :order_ref AND line_id IN {line_ids:text}""")
DEDUCT_LINE = Statement("""
    UPDATE stock_sync_order_lines
    SET deducted = deducted + :quantity,
        quantity = CASE WHEN :grows AND quantity < deducted - refunded + :quantity
                        THEN deducted - refunded + :quantity ELSE quantity END
    WHERE order_ref = :order_ref AND line_id = :line_id""")
REFUND_LINES = Statement("""
    UPDATE stock_sync_order_lines SET refunded = refunded + given.quantity
    FROM {rows:items(line_id text, quantity bigint)} AS given
    WHERE order_ref = :order_ref AND stock_sync_order_lines.line_id = given.line_id
      AND refunded + given.quantity <= deducted
    RETURNING stock_sync_order_lines.line_id""")
UNDO_DEDUCTION = Statement("""
    UPDATE stock_sync_order_lines SET deducted = deducted - :quantity
    WHERE order_ref = :order_ref AND line_id = :line_id AND deducted - :quantity >= refunded + :reserved
    RETURNING line_id""")
REVISE_LINES = Statement("""
    UPDATE stock_sync_order_lines
    SET sku = given.sku, warehouse = given.warehouse, quantity = given.quantity, deducted = given.deducted
    FROM {rows:items(line_id text, sku text, warehouse text, quantity bigint, deducted bigint)} AS given
    WHERE order_ref = :order_ref AND stock_sync_order_lines.line_id = given.line_id""")
WAIVE_LINE = Statement("""
    UPDATE stock_sync_order_lines SET waived = TRUE WHERE order_ref = :order_ref AND line_id = :line_id""")
KEEP_OUT = Statement("UPDATE stock_sync_order_lines SET moves_stock = FALSE WHERE order_ref = :order_ref")
FORGET_LINE = Statement("""
    DELETE FROM stock_sync_order_lines
    WHERE order_ref = :order_ref AND line_id = :line_id AND quantity = 0 AND deducted = 0""")


@dataclass(frozen=True)  # without slots: its fields are the parameters of the statements that write it
class Line:
    """One stored order line; `sku` None: not stock.

    `reserved`: units whose refund is in doubt, which nobody else may give back. `doubted`: units whose deduction is.
    """

    line_id: str
    sku: str | None
    warehouse: str | None
    quantity: int
    deducted: int = 0
    refunded: int = 0
    moved_to: str | None = None
    reserved: int = 0
    doubted: int = 0
    waived: bool = False
    moves_stock: bool = True

    @property
    def left(self) -> int:
        """Units deducted that can still come back."""
        return self.deducted - self.refunded - self.reserved

    @property
    def is_open(self) -> bool:
        """Whether units of it are still to be deducted: it holds its order up."""
        return self.sku is not None and self.deducted < self.quantity and not self.waived

    @property
    def named_id(self) -> str | None:
        """Its id as operations carry it: None where it stands for calls that named none."""
        return None if self.sku and self.line_id == f"{self.sku}@{self.warehouse}" else self.line_id


class OrderLines(Part):
    """The lines of an order. The caller holds the order's row."""

    def of(self, order: OrderRow) -> dict[str, Line]:
        """Every line of the order by its line id, the oldest first."""
        return {row[0]: Line(*row[:9], *map(bool, row[9:])) for row in self._rows(_LINES, order_ref=order.id)}

    def add(self, order: OrderRow, lines: Sequence[Line]) -> None:
        """Write lines that are new to the order. Raises LineTaken: another one has just taken one of them."""
        if not lines:
            return
        items = [
            {
                **vars(line),
                "id": self._new_id(),
                "carried": None if line.moved_to else carried_key(order.token_id, line.line_id),
            }
            for line in lines
        ]
        added = [row[0] for row in self._rows(_ADD_LINES, order_ref=order.id, items=items, now=self._clock())]
        for id in [line.line_id for line in lines if line.line_id not in added]:
            raise LineTaken(id, self.carriers(order.token_id, [id]).get(id, "?"))

    def carriers(self, token_id: str, line_ids: Iterable[str]) -> dict[str, str]:
        """Line id -> id of the order that carries it, of lines whose id is a UUID."""
        ids = {key: line_id for line_id in line_ids if (key := carried_key(token_id, line_id))}
        if not ids:
            return {}
        return {
            ids[key]: order_id
            for key, order_id in self._rows(
                Statement("""
                    SELECT n.carried, o.order_id FROM stock_sync_order_lines AS n
                    JOIN stock_sync_orders AS o ON o.id = n.order_ref WHERE n.carried IN {keys:text}"""),
                keys=list(ids),
            )
        }

    def carrier(self, token_id: str, order_id: str, line_id: str | None, sku: str) -> str:
        """Where a line of the order is by now: in the order that took it over, else there."""
        # By its id, whatever order is named; else the lines of this SKU that the order once had.
        row = self._database.run(
            Statement("""
                SELECT o.order_id FROM stock_sync_order_lines AS n JOIN stock_sync_orders AS o ON o.id = n.order_ref
                WHERE n.carried IN (
                  SELECT CAST(:key AS TEXT)
                  UNION ALL
                  SELECT :token_id || ':' || lower(m.line_id) FROM stock_sync_order_lines AS m
                  JOIN stock_sync_orders AS w ON w.id = m.order_ref
                  WHERE w.token_id = :token_id AND w.order_id = :order_id AND m.sku = :sku AND m.moved_to IS NOT NULL)
                ORDER BY n.id LIMIT 1"""),
            key=None if line_id is None else carried_key(token_id, line_id),
            token_id=token_id,
            order_id=order_id,
            sku=sku if line_id is None else None,
        ).fetchone()
        return order_id if row is None else str(row[0])
