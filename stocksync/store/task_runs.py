"""Runs of the periodic tasks: recorded, at most one of each at a time, held by a lease that a crash can't outlive."""

import logging
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from peewee import SQL

from stocksync.store.context import Part, atomic, connected
from stocksync.store.models import TaskRun

log = logging.getLogger(__name__)

LONGEST_RUN = 240
"""Seconds; above the time after which RQ ends a job."""


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
        overdue = (TaskRun.task == task) & (TaskRun.lease_until < now)
        self._end(overdue, "interrupted", error="its worker died, or ran out of time")
        begun = TaskRun.insert(
            id=run, task=task, started_at=now, lease_until=now + timedelta(seconds=lease_seconds), result={}
        ).on_conflict("nothing", conflict_target=[TaskRun.task], conflict_where=SQL("status = 'running'"))
        return run if begun.as_rowcount().execute() else None

    @atomic
    def finish(self, run: UUID, result: Mapping[str, Any], error: str | None = None) -> None:
        """Note how a run ended, unless its lease was over and it counts as interrupted. `error` None: well."""
        self._end(TaskRun.id == run, "failed" if error else "done", result=dict(result), error=error)

    def _end(self, which: Any, status: str, **how: Any) -> None:
        ended = TaskRun.update(lease_until=None, status=status, finished_at=self._clock(), **how)
        ended.where(which, TaskRun.status == "running").execute()

    @connected
    def latest(self, task: str, limit: int = 1) -> list[dict[str, Any]]:
        """The newest runs of a task, the newest first."""
        newest = TaskRun.select().where(TaskRun.task == task).order_by(TaskRun.started_at.desc())
        return list(newest.limit(limit).dicts())
