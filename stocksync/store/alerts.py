"""Alerts as rows: raised once, repeated after a while, resolved when over; what is owed stays until it was sent.

And the conditions that only the monitor asks for: all are answered by partial indexes, or by few rows.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, cast
from uuid import UUID

from peewee import SQL, fn

from stocksync.store.context import Part, atomic, connected
from stocksync.store.database import Statement, rows_of
from stocksync.store.models import Account, Alert, Order, PendingStockOperation, Reconciliation

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

    @atomic
    def observe(
        self, present: Collection[Condition], judged: Collection[str], now: datetime, repeat_before: datetime
    ) -> None:
        """Raise what is new, resolve what is over.

        Args:
            present: what is the case at `now`.
            judged: kinds of which that could be told; others stay as they are.
            repeat_before: what was told last until then, and still is the case, is told again.
        """
        times = {"now": now, "repeat_before": repeat_before}
        rows = [
            {"id": self._new_id(), "kind": kind, "subject": subject, "details": dict(details), **times}
            for kind, subject, details in present
        ]
        self._database.run_many(_SEEN, rows)
        self._database.run(_OVER, now=now, kinds=list(judged))

    @connected
    def owed(self, limit: int = 20) -> list[dict[str, Any]]:
        """Alerts with a message to be sent, the oldest first."""
        owed = Alert.select().where(Alert.owed.is_null(False)).order_by(Alert.raised_at)
        return list(owed.limit(limit).dicts())

    @atomic
    def told(self, alerts: Collection[Mapping[str, Any]], now: datetime) -> None:
        """These messages were sent; one that was owed anew meanwhile stays."""
        told = Alert.update(owed=None, told_at=now, tries=0)
        for alert in alerts:
            told.where(Alert.id == alert["id"], Alert.owed == alert["owed"]).execute()

    @atomic
    def not_told(self, alerts: Collection[Mapping[str, Any]]) -> None:
        """No messenger took these; they are tried again."""
        Alert.update(tries=Alert.tries + 1).where(Alert.id.in_([one["id"] for one in alerts])).execute()

    @atomic
    def acknowledge(self, alert: UUID, actor: str, now: datetime) -> bool:
        """A person has seen it: it is not repeated. False: unknown, or seen before."""
        owed = fn.NULLIF(Alert.owed, "repeated")
        seen = Alert.update(acknowledged_at=now, acknowledged_by=actor, owed=owed)
        return bool(seen.where(Alert.id == alert, Alert.acknowledged_at.is_null()).execute())

    @connected
    def find(self, *, open_only: bool = False, limit: int = 50, offset: int = 0) -> list[dict[str, Any]]:
        """The newest first."""
        query = Alert.select().order_by(Alert.raised_at.desc(), Alert.id.desc()).limit(limit).offset(offset)
        return list((query.where(Alert.resolved_at.is_null()) if open_only else query).dicts())

    @connected
    def kinds_open(self) -> dict[str, int]:
        """How many alerts of each kind are open, the one that was raised first in front."""
        counted = Alert.select(Alert.kind, fn.COUNT(Alert.id)).where(Alert.resolved_at.is_null())
        return dict(counted.group_by(Alert.kind).order_by(fn.MIN(Alert.raised_at)).tuples())


class Conditions(Part):
    """What is due and not taken, paused lanes, operations in doubt, unfinished runs."""

    @connected
    def oldest_due(self, now: datetime) -> datetime | None:
        """Since when the order that waits longest has been due, free, and in a lane that is worked on."""
        waits = Order.due_at.is_null(False) & Order.claim_id.is_null()
        served = ~Account.paused & (Account.snoozed_until.is_null() | (Account.snoozed_until <= now))
        oldest = Order.select(fn.MIN(Order.due_at)).join(Account).where(waits, served)
        return cast("datetime | None", oldest.scalar())

    @connected
    def paused(self) -> Sequence[tuple[str, str | None]]:
        """Paused lanes and why."""
        paused = Account.select(Account.token_id, Account.paused_reason).where(Account.paused)
        return list(paused.order_by(Account.token_id).tuples())

    @connected
    def in_doubt(self, before: datetime) -> int:
        """Operations in doubt since before that moment."""
        doubtful = PendingStockOperation.applied == SQL(
            "'unknown'"
        )  # a constant, as in its index's condition
        older = PendingStockOperation.created_at <= before
        return int(PendingStockOperation.select().where(doubtful, older).count())

    @connected
    def unfinished(self, since: datetime) -> list[tuple[str, Any]]:
        """Sellers whose newest reconciliation did not come to its end, with the run's details."""
        rows = rows_of(self._database.run(_UNFINISHED, since=since))
        return [(lane, Reconciliation.details.python_value(details)) for lane, details in rows]
