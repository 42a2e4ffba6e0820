"""The operations' log: append-only rows that say what happened, when and how long it took."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from stocksync.store.context import Part
from stocksync.store.database import Statement

_ADD = Statement("""
    INSERT INTO stock_synchronization_logs
      (id, operation_id, action, status, details, timestamp, execution_time_ms)
    VALUES (:id, :operation_id, :action, :status, :details, :now, :execution_time_ms)""")


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One event of one operation. `status` is the operation's after it; the time is in milliseconds."""

    operation_id: UUID | str
    action: str
    status: str
    details: Mapping[str, Any]
    execution_time_ms: int | None = None


class OperationLog(Part):
    """Writes log rows in the transaction of the change that they tell of."""

    def add(self, entries: Sequence[LogEntry], now: datetime) -> None:
        """Append `entries`, all at `now`, in their order (ids are made in it too)."""
        self._database.run_many(
            _ADD,
            [
                {
                    "id": self._new_id(),
                    "operation_id": entry.operation_id,
                    "action": entry.action,
                    "status": entry.status,
                    "details": dict(entry.details),
                    "now": now,
                    "execution_time_ms": entry.execution_time_ms,
                }
                for entry in entries
            ],
        )
