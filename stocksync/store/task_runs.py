"""Runs of the periodic tasks: recorded, at most one of each at a time, held by a lease that a crash can't outlive."""

import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from peewee import SQL

from stocksync.store.context import Part, atomic, connected
from stocksync.store.identifiers import Clock
from stocksync.store.models import TaskRun

log = logging.getLogger(__name__)

LONGEST_RUN = 240
"""Seconds; above the time after which RQ ends a job."""


class TaskRuns(Part):
    """Begins, ends and shows runs."""

    def begin(self, task: str, now: datetime, lease_until: datetime) -> UUID | None:
        """Note that a run begins; None: another one is under way, and its lease holds."""
        run = self._new_id()
        begun = TaskRun.insert(id=run, task=task, started_at=now, lease_until=lease_until, result={})
        with self._database.transaction_scope():
            self._end(
                (TaskRun.task == task) & (TaskRun.lease_until < now),
                status="interrupted",
                finished_at=now,
                error="its worker died, or ran out of time",
            )
            unless_running = {"conflict_target": [TaskRun.task], "conflict_where": SQL("status = 'running'")}
            return run if begun.on_conflict("nothing", **unless_running).as_rowcount().execute() else None

    @atomic
    def finish(self, run: UUID, result: Mapping[str, Any], error: str | None, now: datetime) -> None:
        """Note how a run ended, unless its lease was over and it counts as interrupted. `error` None: well."""
        status = "failed" if error else "done"
        self._end(TaskRun.id == run, status=status, finished_at=now, result=dict(result), error=error)

    def _end(self, which: Any, **how: Any) -> None:
        TaskRun.update(lease_until=None, **how).where(which, TaskRun.status == "running").execute()

    @connected
    def latest(self, task: str, limit: int = 1) -> list[dict[str, Any]]:
        """The newest runs of a task, the newest first."""
        newest = TaskRun.select().where(TaskRun.task == task).order_by(TaskRun.started_at.desc())
        return list(newest.limit(limit).dicts())


def run_recorded(
    runs: TaskRuns, task: str, act: Callable[[], Mapping[str, Any]], clock: Clock, lease_seconds: float
) -> dict[str, Any]:
    """Call `act` as one run of `task`; returns its report, or `skipped` if another is under way.

    Args:
        lease_seconds: for how long a run keeps others out if its worker dies.

    Raises:
        Exception: whatever `act` raises, after it was recorded.
    """
    now = clock()
    run = runs.begin(task, now, now + timedelta(seconds=lease_seconds))
    if run is None:
        log.info("under way already", extra={"task": task})
        return {"skipped": "another run is under way"}
    try:
        report = dict(act())
    except BaseException as error:
        runs.finish(run, {}, f"{type(error).__name__}: {error}"[:500], clock())
        raise
    runs.finish(run, report, None, clock())
    return report
