"""Alerts as rows: raised once, repeated after a while, resolved when over; what is owed stays until it was sent."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from stocksync.store.context import Part
from stocksync.store.database import Statement
from stocksync.store.models import Alert

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
_TOLD = Statement("""
    UPDATE stock_sync_alerts SET owed = NULL, told_at = :now, tries = 0 WHERE id = :id AND owed = :owed""")
_NOT_TOLD = Statement("UPDATE stock_sync_alerts SET tries = tries + 1 WHERE id IN {ids:uuid}")
_ACKNOWLEDGE = Statement("""
    UPDATE stock_sync_alerts SET acknowledged_at = :now, acknowledged_by = :actor,
           owed = CASE WHEN owed = 'repeated' THEN NULL ELSE owed END
    WHERE id = :id AND acknowledged_at IS NULL RETURNING id""")

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
        with self._database.transaction_scope():
            for kind, subject, details in present:
                self._database.run(
                    _SEEN,
                    id=self._new_id(),
                    kind=kind,
                    subject=subject,
                    details=dict(details),
                    now=now,
                    repeat_before=repeat_before,
                )
            if judged:
                self._database.run(_OVER, now=now, kinds=list(judged))

    def owed(self, limit: int = 20) -> list[dict[str, Any]]:
        """Alerts with a message to be sent, the oldest first."""
        query = Alert.select().where(Alert.owed.is_null(False)).order_by(Alert.raised_at).limit(limit)
        with self._database.scope():
            return list(query.dicts())

    def told(self, alerts: Collection[Mapping[str, Any]], now: datetime) -> None:
        """These messages were sent; one that was owed anew meanwhile stays."""
        with self._database.transaction_scope():
            for alert in alerts:
                self._database.run(_TOLD, id=alert["id"], owed=alert["owed"], now=now)

    def not_told(self, alerts: Collection[Mapping[str, Any]]) -> None:
        """No messenger took these; they are tried again."""
        with self._database.transaction_scope():
            self._database.run(_NOT_TOLD, ids=[alert["id"] for alert in alerts])

    def acknowledge(self, alert: UUID, actor: str, now: datetime) -> bool:
        """A person has seen it: it is not repeated. False: unknown, or seen before."""
        with self._database.transaction_scope():
            return self._database.run(_ACKNOWLEDGE, id=alert, actor=actor, now=now).fetchone() is not None

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
        counts: dict[str, int] = {}
        with self._database.scope():
            for (kind,) in query.tuples():
                counts[kind] = counts.get(kind, 0) + 1
        return counts
