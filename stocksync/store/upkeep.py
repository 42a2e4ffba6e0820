"""Rows of upkeep: alerts (raised once, repeated after a while, resolved when over) and runs of the periodic tasks.

A pending notification of an alert stays until it was sent. Of each task at most one run is under way, held by a lease that a crash
can't outlive.
"""

import logging
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from peewee import SQL, fn

from stocksync.store.context import Part, atomic, connected
from stocksync.store.database import Statement, in_order
from stocksync.store.models import Alert, TaskRun

log = logging.getLogger(__name__)

LONGEST_RUN = 240
"""Seconds; above the time after which RQ ends a job."""
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
        # The partial unique index decides who raises; an acknowledged one is not repeated.
        if present:
            self._database.run(
                Statement("""
                    INSERT INTO stock_sync_alerts (id, kind, subject, details, raised_at, last_seen_at, pending_notification, tries)
                    SELECT given.*, :now, :now, 'raised', 0
                    FROM {rows:items(id uuid, kind text, subject text, details jsonb)} AS given WHERE TRUE
                    ON CONFLICT (kind, subject) WHERE resolved_at IS NULL DO UPDATE
                    SET last_seen_at = excluded.last_seen_at, details = excluded.details,
                        pending_notification = CASE WHEN stock_sync_alerts.pending_notification IS NULL AND stock_sync_alerts.acknowledged_at IS NULL
                                         AND stock_sync_alerts.notified_at <= :repeat_before
                                    THEN 'repeated' ELSE stock_sync_alerts.pending_notification END"""),
                items=[
                    {"id": self._new_id(), "kind": kind, "subject": subject, "details": dict(details)}
                    for (kind, subject), details in {one[:2]: one[2] for one in present}.items()
                ],
                now=now,
                repeat_before=repeat_before,
            )
        self._database.run(
            Statement("""
                UPDATE stock_sync_alerts SET resolved_at = :now, pending_notification = 'resolved', tries = 0
                WHERE resolved_at IS NULL AND last_seen_at < :now AND kind IN {kinds:text}"""),
            now=now,
            kinds=list(judged),
        )

    @connected
    def pending_notifications(self, limit: int = 20) -> list[dict[str, Any]]:
        """Alerts with a message to be sent, the oldest first."""
        return list(
            Alert.select()
            .where(Alert.pending_notification.is_null(False))
            .order_by(Alert.raised_at)
            .limit(limit)
            .dicts()
        )

    @atomic
    def notified(self, alerts: Collection[Mapping[str, Any]], taken: bool, now: datetime) -> None:
        """These messages were sent, or else are tried again. One that is pending anew meanwhile stays as it is."""
        for alert in alerts:
            Alert.update(
                {"pending_notification": None, "notified_at": now, "tries": 0}
                if taken
                else {"tries": Alert.tries + 1}
            ).where(
                Alert.id == alert["id"], Alert.pending_notification == alert["pending_notification"]
            ).execute()

    @atomic
    def acknowledge(self, alert: UUID, actor: str, now: datetime) -> bool:
        """A person has seen it: it is not repeated. False: unknown, or seen before."""
        return bool(
            Alert.update(
                acknowledged_at=now,
                acknowledged_by=actor,
                pending_notification=fn.NULLIF(Alert.pending_notification, "repeated"),
            )
            .where(Alert.id == alert, Alert.acknowledged_at.is_null())
            .execute()
        )

    @connected
    def find(
        self, *, open_only: bool = False, limit: int = 50, offset: int = 0, order: str = "-raised_at"
    ) -> list[dict[str, Any]]:
        """Those that are open first, the newest first; or with `order` raised_at the other way round."""
        page = (
            Alert.select()
            .where(Alert.resolved_at.is_null() if open_only else SQL("TRUE"))
            .limit(limit)
            .offset(offset)
        )
        return list(
            in_order(
                page, order, {"raised_at": (Alert.resolved_at.is_null(), Alert.raised_at, Alert.id)}
            ).dicts()
        )

    @connected
    def kinds_open(self) -> dict[str, int]:
        """How many alerts of each kind are open, the one that was raised first in front."""
        return dict(
            Alert.select(Alert.kind, fn.COUNT(Alert.id))
            .where(Alert.resolved_at.is_null())
            .group_by(Alert.kind)
            .order_by(fn.MIN(Alert.raised_at))
            .tuples()
        )


class TaskRuns(Part):
    """Begins, ends and shows runs."""

    def run(self, task: str, act: Callable[[], Mapping[str, Any]], lease_seconds: float) -> dict[str, Any]:
        """Call `act` as one run of `task`; returns its report, or `skipped` if another is under way.

        Args:
            lease_seconds: for how long a run keeps others out if its worker dies.

        Raises:
            Exception: whatever `act` raises, after it was recorded.
        """
        run = self.begin(task, lease_seconds)
        if run is None:
            log.info("under way already", extra={"task": task})
            return {"skipped": "another run is under way"}
        try:
            report = dict(act())
        except BaseException as error:
            self.finish(run, {}, f"{type(error).__name__}: {error}"[:500])
            raise
        self.finish(run, report)
        return report

    @atomic
    def begin(self, task: str, lease_seconds: float) -> UUID | None:
        """Note that a run begins; None: another one is under way, and its lease holds."""
        run, now = self._new_id(), self._clock()
        # One that ends in hours is of a clock that is wrong: two runs at once do less harm than none for hours.
        self._end(
            (TaskRun.task == task) & ~TaskRun.lease_until.between(now, now + timedelta(hours=2)),
            "interrupted",
            error="its worker died, or ran out of time",
        )
        begun = TaskRun.insert(
            id=run, task=task, started_at=now, lease_until=now + timedelta(seconds=lease_seconds), result={}
        ).on_conflict("nothing", conflict_target=[TaskRun.task], conflict_where=SQL("status = 'running'"))
        return run if begun.as_rowcount().execute() else None

    @atomic
    def finish(self, run: UUID, result: Mapping[str, Any], error: str | None = None) -> None:
        """Note how a run ended, unless its lease was over and it counts as interrupted. `error` None: well."""
        self._end(TaskRun.id == run, "failed" if error else "done", result=dict(result), error=error)

    def _end(self, which: Any, status: str, **how: Any) -> None:
        TaskRun.update(lease_until=None, status=status, finished_at=self._clock(), **how).where(
            which, TaskRun.status == "running"
        ).execute()

    @connected
    def latest(self, task: str, limit: int = 1) -> list[dict[str, Any]]:
        """The newest runs of a task, the newest first."""
        return list(
            TaskRun.select()
            .where(TaskRun.task == task)
            .order_by(TaskRun.started_at.desc())
            .limit(limit)
            .dicts()
        )
