"""Lines know whether their deductions move our stock; operations in doubt are found at once."""

from __future__ import annotations

from typing import Any

from stocksync.store.migrate import types_of

STATEMENTS = (
    "ALTER TABLE stock_sync_order_lines ADD COLUMN moves_stock {bool} NOT NULL DEFAULT FALSE",
    """UPDATE stock_sync_order_lines SET moves_stock = TRUE WHERE EXISTS (
        SELECT 1 FROM pending_stock_operations AS o JOIN stock_sync_movements AS m ON m.operation_id = o.id
        WHERE o.order_ref = stock_sync_order_lines.order_ref
          AND COALESCE(o.line_item_id, o.sku || '@' || o.warehouse) = stock_sync_order_lines.line_id)""",
    "CREATE INDEX pending_stock_operations_in_doubt ON pending_stock_operations (order_ref, created_at)"
    " WHERE applied = 'unknown'",
)


def up(_migrator: Any, db: Any) -> None:
    types = types_of(db)
    for statement in STATEMENTS:
        db.execute_sql(statement.format(**types))
