"""Reads of the monitor that nobody else has: what is due and not taken, paused lanes, operations in doubt, unfinished runs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from stocksync.store.context import Part
from stocksync.store.database import Statement, rows_of
from stocksync.store.fields import as_utc

_OLDEST_DUE = Statement("""
    SELECT MIN(o.due_at) FROM stock_sync_orders AS o JOIN stock_sync_accounts AS a ON a.token_id = o.token_id
    WHERE o.due_at IS NOT NULL AND o.claim_id IS NULL AND NOT a.paused
      AND (a.snoozed_until IS NULL OR a.snoozed_until <= :now)""")
_PAUSED = Statement("SELECT token_id, paused_reason FROM stock_sync_accounts WHERE paused ORDER BY token_id")
_IN_DOUBT = Statement("""
    SELECT COUNT(*) FROM pending_stock_operations WHERE applied = 'unknown' AND created_at <= :before""")
_UNFINISHED = Statement("""
    SELECT r.token_id, r.details FROM stock_sync_reconciliations AS r
    JOIN (SELECT token_id, MAX(started_at) AS newest FROM stock_sync_reconciliations
          WHERE NOT dry_run AND status <> 'running' AND started_at >= :since GROUP BY token_id) AS last
      ON last.token_id = r.token_id AND last.newest = r.started_at
    WHERE r.status IN ('suspicious', 'incomplete') AND NOT r.dry_run ORDER BY r.token_id""")


class Conditions(Part):
    """Cheap at any size of the tables: all are answered by partial indexes, or by few rows."""

    def oldest_due(self, now: datetime) -> datetime | None:
        """Since when the order that waits longest has been due, free, and in a lane that is worked on."""
        with self._database.scope():
            return as_utc(self._database.run(_OLDEST_DUE, now=now).fetchone()[0])

    def paused(self) -> list[tuple[str, str | None]]:
        """Paused lanes and why."""
        with self._database.scope():
            return [(row[0], row[1]) for row in rows_of(self._database.run(_PAUSED))]

    def in_doubt(self, before: datetime) -> int:
        """Operations in doubt since before that moment."""
        with self._database.scope():
            return int(self._database.run(_IN_DOUBT, before=before).fetchone()[0])

    def unfinished(self, since: datetime) -> list[tuple[str, Any]]:
        """Sellers whose newest reconciliation did not come to its end, with the run's details."""
        with self._database.scope():
            return [(row[0], row[1]) for row in rows_of(self._database.run(_UNFINISHED, since=since))]
