"""Runs of the periodic tasks: at most one of each at a time, held by a lease that a crash can't outlive."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from stocksync.store.context import Part
from stocksync.store.database import Statement, uuid_of
from stocksync.store.models import TaskRun

_END_STRANDED = Statement("""
    UPDATE stock_sync_task_runs
    SET status = 'interrupted', finished_at = :now, lease_until = NULL, error = 'its worker died, or ran out of time'
    WHERE task = :task AND status = 'running' AND lease_until < :now""")
_BEGIN = Statement("""
    INSERT INTO stock_sync_task_runs (id, task, status, started_at, lease_until, result)
    VALUES (:id, :task, 'running', :now, :lease_until, :result)
    ON CONFLICT (task) WHERE status = 'running' DO NOTHING RETURNING id""")
_FINISH = Statement("""
    UPDATE stock_sync_task_runs
    SET status = :status, finished_at = :now, lease_until = NULL, result = :result, error = :error
    WHERE id = :id AND status = 'running'""")


class TaskRuns(Part):
    """Begins, ends and shows runs."""

    def begin(self, task: str, now: datetime, lease_until: datetime) -> UUID | None:
        """Note that a run begins; None: another one is under way, and its lease holds."""
        with self._database.transaction_scope():
            self._database.run(_END_STRANDED, task=task, now=now)
            run = self._database.run(
                _BEGIN, id=self._new_id(), task=task, now=now, lease_until=lease_until, result={}
            )
            row = run.fetchone()
            return None if row is None else uuid_of(row[0])

    def finish(self, run: UUID, result: Mapping[str, Any], error: str | None, now: datetime) -> None:
        """Note how a run ended, unless its lease was over and it counts as interrupted. `error` None: well."""
        with self._database.transaction_scope():
            self._database.run(
                _FINISH,
                id=run,
                status="failed" if error else "done",
                result=dict(result),
                error=error,
                now=now,
            )

    def latest(self, task: str, limit: int = 1) -> list[dict[str, Any]]:
        """The newest runs of a task, the newest first."""
        newest = TaskRun.select().where(TaskRun.task == task).order_by(TaskRun.started_at.desc())
        with self._database.scope():
            return list(newest.limit(limit).dicts())
