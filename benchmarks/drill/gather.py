"""Gets the facts that the checks look at: from the database, the journals, the remote and the product's own commands."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.drill.checks import Delivery, Facts, Operation
from benchmarks.drill.journal import keep, read
from stocksync import StockSyncConfig
from stocksync.runtime import Runtime
from stocksync.store.database import uuid_of

_OPERATIONS = """
    SELECT id, order_id, COALESCE(line_item_id, sku), operation_type, sku, quantity, status FROM pending_stock_operations"""
_LEVELS = "SELECT sku, on_hand FROM stock_sync_levels"
# A deduction that was put back has two: out, and in again.
_MOVEMENTS = """
    SELECT m.operation_id, COUNT(*) FROM stock_sync_movements AS m
    JOIN pending_stock_operations AS o ON o.id = m.operation_id
    GROUP BY m.operation_id, o.status HAVING COUNT(*) > CASE WHEN o.status = 'cancelled' THEN 2 ELSE 1 END"""
_DELIVERIES = (
    "SELECT token_id, order_id, state_version, delivered_version, remote_flag FROM stock_sync_orders"
)
_ACTIONS = "SELECT action, COUNT(*) FROM stock_synchronization_logs GROUP BY action"
_REPAIRED = """
    SELECT DISTINCT o.token_id, o.order_id FROM stock_synchronization_logs AS l
    JOIN pending_stock_operations AS o ON o.id = l.operation_id WHERE l.action = 'reconciled'"""
_WAITING = """
    SELECT (SELECT COUNT(*) FROM pending_stock_operations WHERE status IN ('pending', 'processing'))
         + (SELECT COUNT(*) FROM stock_sync_orders WHERE due_at IS NOT NULL OR claim_id IS NOT NULL)"""


class Books:
    """The database, as an accountant reads it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        ours = {
            name: value
            for name, value in environment.items()
            if name.startswith(("STOCK_SYNC_", "DATABASE_", "REDIS_", "ALLEGRO_"))
        }
        self.runtime = Runtime(StockSyncConfig.load(ours))

    def rows(self, statement: str) -> list[Any]:
        """Of one statement."""
        with self.runtime.database.scope():
            return list(self.runtime.database.execute_sql(statement).fetchall())

    def waiting(self) -> int:
        """Operations and orders that are not at rest."""
        return int(self.rows(_WAITING)[0][0])

    def facts(
        self,
        journals: Iterable[Path],
        told: Path,
        remote: Iterable[Mapping[str, Any]],
        initial: int,
        **more: Any,
    ) -> Facts:
        """As they are now; `remote`: its orders."""
        return Facts(
            journals={path.stem: keep(read(path)) for path in journals},
            initial=initial,
            operations=[
                Operation(str(uuid_of(id)), order, line, kind, sku, int(units), status)
                for id, order, line, kind, sku, units, status in self.rows(_OPERATIONS)
            ],
            levels={sku: int(on_hand) for sku, on_hand in self.rows(_LEVELS)},
            movements={str(uuid_of(id)): int(count) for id, count in self.rows(_MOVEMENTS)},
            deliveries=[
                Delivery(token, order, state, delivered, None if flag is None else bool(flag))
                for token, order, state, delivered, flag in self.rows(_DELIVERIES)
            ],
            remote={(row["token_id"], row["order_id"]): row["is_stock_updated"] for row in remote},
            told=list(read(told)),
            repaired=[(token, order) for token, order in self.rows(_REPAIRED)],
            actions={action: int(count) for action, count in self.rows(_ACTIONS)},
            **more,
        )

    def close(self) -> None:
        """Close its connections."""
        self.runtime.close()


def document(out: str) -> dict[str, Any]:
    """The JSON object that a command printed; one that says that it did not, else."""
    try:
        found: dict[str, Any] = json.loads(out)
    except ValueError:
        return {"complete": False, "findings": [{"check": "no answer", "meaning": out[:200], "rows": []}]}
    return found
