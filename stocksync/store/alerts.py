"""Alerts as rows: raised once, repeated after a while, resolved when over; what is owed stays until it was sent."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from peewee import fn

from stocksync.store.context import Part, atomic, connected
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
