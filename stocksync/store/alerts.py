"""Alerts as rows: raised once, repeated after a while, resolved when over; what is owed stays until it was sent.

And the conditions that only the monitor asks for: all are answered by partial indexes, or by few rows.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from peewee import fn

from stocksync.store.context import Part
from stocksync.store.database import Statement, rows_of
from stocksync.store.models import Alert, Reconciliation
from stocksync.store.values import as_utc

# The partial unique index decides who raises; an acknowledged one is not repeated.
_SEEN = Statement("""
    INSERT INTO stock_sync_alerts (id, kind, subject, details, raised_at, last_seen_at, owed, tries)
    VALUES (:id, :kind, :subject, :details, :now, :now, 'raised', 0)
    ON CONFLICT (kind, subject) WHERE resolved_at IS NULL DO UPDATE
    SET last_seen_at = excluded.last_seen_at, details = excluded.details,
        owed = CASE WHEN stock_sync_alerts.owed IS NULL AND stock_sync_alerts.acknowledged_at IS NULL
                         AND stock_sync_alerts.told_at <= :repeat_before
                    THEN 'repeated' ELSE stock_sync_alerts.owed END""")
_OVER = Statement("""
    UPDATE stock_sync_alerts SET resolved_at = :now, owed = 'resolved', tries = 0
    WHERE resolved_at IS NULL AND last_seen_at < :now AND kind IN {kinds:text}""")
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

Condition = tuple[str, str, Mapping[str, Any]]
"""Kind, subject, details."""


class Alerts(Part):
    """Each change a short transaction of its own."""

    def observe(
        self, present: Collection[Condition], judged: Collection[str], now: datetime, repeat_before: datetime
    ) -> None:
        """Raise what is new, resolve what is over.

        Args:
            present: what is the case at `now`.
            judged: kinds of which that could be told; others stay as they are.
            repeat_before: what was told last until then, and still is the case, is told again.
        """
        rows = [
            {
                "id": self._new_id(),
                "kind": kind,
                "subject": subject,
                "details": dict(details),
                "now": now,
                "repeat_before": repeat_before,
            }
            for kind, subject, details in present
        ]
        with self._database.transaction_scope():
            self._database.run_many(_SEEN, rows)
            self._database.run(_OVER, now=now, kinds=list(judged))

    def owed(self, limit: int = 20) -> list[dict[str, Any]]:
        """Alerts with a message to be sent, the oldest first."""
        owed = Alert.select().where(Alert.owed.is_null(False)).order_by(Alert.raised_at)
        with self._database.scope():
            return list(owed.limit(limit).dicts())

    def told(self, alerts: Collection[Mapping[str, Any]], now: datetime) -> None:
        """These messages were sent; one that was owed anew meanwhile stays."""
        told = Alert.update(owed=None, told_at=now, tries=0)
        with self._database.transaction_scope():
            for alert in alerts:
                told.where(Alert.id == alert["id"], Alert.owed == alert["owed"]).execute()

    def not_told(self, alerts: Collection[Mapping[str, Any]]) -> None:
        """No messenger took these; they are tried again."""
        with self._database.transaction_scope():
            Alert.update(tries=Alert.tries + 1).where(Alert.id.in_([one["id"] for one in alerts])).execute()

    def acknowledge(self, alert: UUID, actor: str, now: datetime) -> bool:
        """A person has seen it: it is not repeated. False: unknown, or seen before."""
        owed = fn.NULLIF(Alert.owed, "repeated")
        seen = Alert.update(acknowledged_at=now, acknowledged_by=actor, owed=owed)
        with self._database.transaction_scope():
            return bool(seen.where(Alert.id == alert, Alert.acknowledged_at.is_null()).execute())

    def find(self, *, open_only: bool = False, limit: int = 50, offset: int = 0) -> list[dict[str, Any]]:
        """The newest first."""
        query = Alert.select().order_by(Alert.raised_at.desc(), Alert.id.desc()).limit(limit).offset(offset)
        if open_only:
            query = query.where(Alert.resolved_at.is_null())
        with self._database.scope():
            return list(query.dicts())

    def kinds_open(self) -> dict[str, int]:
        """How many alerts of each kind are open."""
        query = Alert.select(Alert.kind).where(Alert.resolved_at.is_null()).order_by(Alert.raised_at)
        with self._database.scope():
            return dict(Counter(alert.kind for alert in query))


class Conditions(Part):
    """What is due and not taken, paused lanes, operations in doubt, unfinished runs."""

    def oldest_due(self, now: datetime) -> datetime | None:
        """Since when the order that waits longest has been due, free, and in a lane that is worked on."""
        return as_utc(self._rows(_OLDEST_DUE, now=now)[0][0])

    def paused(self) -> Sequence[tuple[str, str | None]]:
        """Paused lanes and why."""
        return self._rows(_PAUSED)

    def in_doubt(self, before: datetime) -> int:
        """Operations in doubt since before that moment."""
        return int(self._rows(_IN_DOUBT, before=before)[0][0])

    def unfinished(self, since: datetime) -> list[tuple[str, Any]]:
        """Sellers whose newest reconciliation did not come to its end, with the run's details."""
        read = Reconciliation.details.python_value
        return [(lane, read(details)) for lane, details in self._rows(_UNFINISHED, since=since)]

    def _rows(self, statement: Statement, **parameters: Any) -> Sequence[tuple[Any, ...]]:
        with self._database.scope():
            return rows_of(self._database.run(statement, **parameters))
