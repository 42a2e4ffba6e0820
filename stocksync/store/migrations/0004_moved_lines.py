"""A line whose id is a UUID is carried by one order at a time; lines without SKU are found at once."""

from __future__ import annotations

from typing import Any

from stocksync.store.migrate import types_of

STATEMENTS = (
    "ALTER TABLE stock_sync_order_lines ADD COLUMN carried {word}",
    # Of lines that two orders had deducted before this rule, the newest counts.
    """UPDATE stock_sync_order_lines SET carried = given.carried
        FROM (SELECT n.id, o.token_id || ':' || lower(n.line_id) AS carried, ROW_NUMBER() OVER (
                PARTITION BY o.token_id, lower(n.line_id) ORDER BY n.id DESC) AS place
              FROM stock_sync_order_lines AS n JOIN stock_sync_orders AS o ON o.id = n.order_ref
              WHERE n.line_id LIKE '________-____-____-____-____________') AS given
        WHERE given.id = stock_sync_order_lines.id AND given.place = 1""",
    "CREATE UNIQUE INDEX stock_sync_order_lines_carried ON stock_sync_order_lines (carried)",
    "ALTER TABLE stock_sync_order_lines ADD COLUMN moved_to {word}"
    " CHECK (moved_to IS NULL OR carried IS NULL AND deducted = refunded)",
    "CREATE INDEX stock_sync_order_lines_without_sku ON stock_sync_order_lines (created_at) WHERE sku IS NULL",
)


def up(_migrator: Any, db: Any) -> None:
    types = types_of(db)
    for statement in STATEMENTS:
        db.execute_sql(statement.format(**types))
