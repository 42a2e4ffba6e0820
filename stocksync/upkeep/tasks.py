"""Periodic tasks: each run is recorded, and none begins while another of the same task is under way."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from stocksync.store.identifiers import Clock
from stocksync.store.task_runs import TaskRuns

log = logging.getLogger(__name__)

LONGEST_RUN = 240
"""Seconds; above the time after which RQ ends a job."""


def run_recorded(
    runs: TaskRuns, task: str, act: Callable[[], Mapping[str, Any]], clock: Clock, lease_seconds: float
) -> dict[str, Any]:
    """Call `act` as one run of `task`; answers with its report, or with `skipped` where another is under way.

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
