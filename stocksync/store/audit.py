"""The audit: proves that nothing was lost and nothing happened twice, or names the rows that say otherwise. Reads only."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from stocksync.store.database import Database, Statement
from stocksync.store.inventory import LEVELS_THAT_DIFFER
from stocksync.store.states import STATUSES

# check -> what is wrong, and the rows that show it.
QUESTIONS: dict[str, tuple[str, Statement]] = {
    "movement_without_operation": (
        "a movement of an order has neither its operation nor the record that it was pruned",
        Statement("""
            SELECT m.id, m.sku, m.warehouse, m.delta, m.operation_id FROM stock_sync_movements AS m
            WHERE m.operation_id IS NOT NULL
              AND NOT EXISTS (SELECT 1 FROM pending_stock_operations AS o WHERE o.id = m.operation_id)
              AND NOT EXISTS (SELECT 1 FROM stock_sync_pruned AS p WHERE p.operation_id = m.operation_id)
            LIMIT :limit"""),
    ),
    "movement_differs_from_operation": (
        "an operation that moves our stock has no movement, or another one than it says",
        Statement("""
            SELECT id, MIN(what), SUM(moves), SUM(moved) FROM (
              SELECT id, operation_type AS what, CASE WHEN NOT moves_stock OR applied <> 'yes' THEN 0
                     WHEN operation_type = 'refund' THEN quantity ELSE -quantity END AS moves, 0 AS moved
              FROM pending_stock_operations
              UNION ALL
              SELECT operation_id, 'pruned ' || operation_type, CASE WHEN NOT moves_stock THEN 0
                     WHEN operation_type = 'refund' THEN quantity ELSE -quantity END, 0
              FROM stock_sync_pruned
              UNION ALL
              SELECT operation_id, NULL, 0, delta FROM stock_sync_movements WHERE operation_id IS NOT NULL) AS every_one
            GROUP BY id HAVING SUM(moves) <> SUM(moved) LIMIT :limit"""),
    ),
    "pruned_and_still_there": (
        "an operation is said to be pruned, and is there",
        Statement("""
            SELECT o.id, o.order_id, o.status FROM stock_sync_pruned AS p
            JOIN pending_stock_operations AS o ON o.id = p.operation_id LIMIT :limit"""),
    ),
    "key_of_another_operation": (
        "an idempotency key does not stand for the operation that was made under it: its repeat would not be stopped",
        Statement("""
            SELECT o.id, o.order_id, o.idempotency_key, k.operation_id FROM pending_stock_operations AS o
            LEFT JOIN stock_sync_keys AS k ON k.key = o.idempotency_key
            WHERE o.idempotency_key IS NOT NULL AND (k.key IS NULL OR k.operation_id <> o.id) LIMIT :limit"""),
    ),
    "level_differs_from_movements": (
        "on hand is not the sum of the movements",
        Statement(f"{LEVELS_THAT_DIFFER} LIMIT :limit"),
    ),
    "line_differs_from_operations": (
        "a line's deducted or refunded units are not those of its operations",
        Statement("""
            SELECT order_ref, line_id, SUM(deducted), SUM(refunded), SUM(done), SUM(undone) FROM (
              SELECT order_ref, line_id, deducted, refunded, 0 AS done, 0 AS undone FROM stock_sync_order_lines
              UNION ALL
              SELECT order_ref, line_id, 0, 0, CASE WHEN operation_type = 'deduction' THEN quantity ELSE 0 END,
                     CASE WHEN operation_type = 'refund' THEN quantity ELSE 0 END
              FROM (
                SELECT order_ref, COALESCE(line_item_id, sku || '@' || warehouse) AS line_id, operation_type, quantity
                FROM pending_stock_operations WHERE applied = 'yes' AND order_ref IS NOT NULL
                UNION ALL
                SELECT order_ref, line_item_id, operation_type, quantity FROM stock_sync_pruned
                WHERE order_ref IS NOT NULL) AS every_operation) AS both_sides
            GROUP BY order_ref, line_id
            HAVING SUM(deducted) <> SUM(done) OR SUM(refunded) <> SUM(undone) LIMIT :limit"""),
    ),
    "line_of_two_orders": (
        "a line, whose id is a UUID, is deducted in two orders of one seller",
        Statement("""
            SELECT o.token_id, lower(n.line_id), COUNT(*), MIN(o.order_id), MAX(o.order_id)
            FROM stock_sync_order_lines AS n JOIN stock_sync_orders AS o ON o.id = n.order_ref
            WHERE n.line_id LIKE '________-____-____-____-____________' AND n.deducted > n.refunded
            GROUP BY o.token_id, lower(n.line_id) HAVING COUNT(*) > 1 LIMIT :limit"""),
    ),
    "line_out_of_bounds": (
        "of a line more units are deducted, and not given back, than were ordered, or more came back than went out",
        Statement("""
            SELECT order_ref, line_id, sku, quantity, deducted, refunded FROM stock_sync_order_lines
            WHERE deducted - refunded > quantity OR refunded > deducted OR refunded < 0 LIMIT :limit"""),
    ),
    "level_below_zero": (
        "less than nothing is on hand of a SKU that may not be sold so",
        Statement("""
            SELECT warehouse, sku, on_hand FROM stock_sync_levels
            WHERE on_hand < 0 AND NOT allow_negative LIMIT :limit"""),
    ),
    "order_never_delivered": (
        "an order has something to tell and no way to be delivered",
        Statement("""
            SELECT id, token_id, order_id, state_version, delivered_version, waiting FROM stock_sync_orders
            WHERE is_stock_updated IS NOT NULL AND due_at IS NULL AND claim_id IS NULL
              AND delivered_version < state_version AND COALESCE(waiting, '') NOT IN ('failed', 'cancelled')
            LIMIT :limit"""),
    ),
    "operation_never_delivered": (
        "a waiting operation belongs to an order that nobody will deliver",
        Statement("""
            SELECT o.id, o.order_id, o.status, r.waiting FROM pending_stock_operations AS o
            JOIN stock_sync_orders AS r ON r.id = o.order_ref
            WHERE o.status IN ('pending', 'processing') AND o.applied = 'yes'
              AND r.due_at IS NULL AND r.claim_id IS NULL
              AND (r.is_stock_updated IS NOT NULL OR NOT EXISTS (
                SELECT 1 FROM pending_stock_operations AS d WHERE d.order_ref = r.id AND d.applied = 'unknown'
              ) AND NOT EXISTS (
                SELECT 1 FROM stock_sync_order_lines AS n WHERE n.order_ref = r.id AND n.sku IS NOT NULL
                  AND NOT n.waived AND n.deducted < n.quantity))
            LIMIT :limit"""),
    ),
    "tally_differs": (
        "the figures count another number of completed operations than there are",
        Statement("""
            SELECT kept.completed, there.completed
            FROM (SELECT COALESCE(SUM(completed), 0) AS completed FROM stock_sync_tallies) AS kept,
                 (SELECT COUNT(*) AS completed FROM pending_stock_operations WHERE status = 'completed') AS there
            WHERE kept.completed <> there.completed LIMIT :limit"""),
    ),
    "processing_without_claim": (
        "an operation is said to be processing though nobody has claimed its order",
        Statement("""
            SELECT o.id, o.order_id FROM pending_stock_operations AS o
            JOIN stock_sync_orders AS r ON r.id = o.order_ref
            WHERE o.status = 'processing' AND r.claim_id IS NULL LIMIT :limit"""),
    ),
}
# lane, name, number
_FIGURES = Statement("""
    WITH units AS (
      SELECT r.token_id, COUNT(DISTINCT r.id) AS orders, SUM(n.deducted) AS deducted, SUM(n.refunded) AS refunded
      FROM stock_sync_order_lines AS n JOIN stock_sync_orders AS r ON r.id = n.order_ref GROUP BY r.token_id)
    SELECT token_id, status, COUNT(*) FROM pending_stock_operations GROUP BY token_id, status
    UNION ALL SELECT r.token_id, 'pruned', COUNT(*) FROM stock_sync_pruned AS p
              JOIN stock_sync_orders AS r ON r.id = p.order_ref GROUP BY r.token_id
    UNION ALL SELECT token_id, 'orders', orders FROM units
    UNION ALL SELECT token_id, 'deducted', deducted FROM units
    UNION ALL SELECT token_id, 'refunded', refunded FROM units
    UNION ALL SELECT token_id, 'orders_waiting', COUNT(*) FROM stock_sync_orders WHERE due_at IS NOT NULL
              GROUP BY token_id""")


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken promise. `rows` are the first offenders."""

    check: str
    meaning: str
    rows: list[list[Any]]


def audit(database: Database, limit: int = 20) -> list[Finding]:
    """Every promise that does not hold, with up to `limit` offending rows each; empty when all do.

    All questions are asked in one transaction, so that work under way is not mistaken for damage.
    """
    with database.snapshot():
        return [
            Finding(check, meaning, [list(row) for row in rows])
            for check, (meaning, question) in QUESTIONS.items()
            if (rows := database.run(question, limit=limit).fetchall())
        ]


def per_lane(database: Database) -> dict[str, dict[str, int]]:
    """Of every lane: operations by status and pruned, orders, those that wait, units deducted and refunded."""
    zero = dict.fromkeys((*STATUSES, "pruned", "orders", "orders_waiting", "deducted", "refunded"), 0)
    lanes: dict[str, dict[str, int]] = defaultdict(zero.copy)
    with database.snapshot():
        for lane, name, number in database.run(_FIGURES).fetchall():
            lanes[lane][name] = int(number)
    return dict(sorted(lanes.items()))
