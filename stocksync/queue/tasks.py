"""The functions that RQ jobs name. A job carries a lane or nothing; its report is the job's result."""

from collections.abc import Callable
from functools import partial
from typing import Any

from stocksync.runtime import Runtime, current


def deliver_lane(lane: str) -> dict[str, Any]:
    """Deliver one slice of what is due of the lane: the job behind a wake-up."""
    return _done(lambda runtime: runtime.deliver_lane(lane).as_dict())


def _run(name: str) -> dict[str, Any]:
    """One run of a periodic task; see `upkeep.periodic`."""
    return _done(lambda runtime: runtime.periodic.run(name))


sweep, reconcile, monitor, cleanup = (
    partial(_run, name) for name in ("sweep", "reconcile", "monitor", "cleanup")
)


def _done(job: Callable[[Runtime], dict[str, Any]]) -> dict[str, Any]:
    """The job's report. Without the database the job is skipped, not failed: the sweep, or its next time, repeats it."""
    runtime = current()
    return runtime.with_database(lambda: job(runtime)) or {"skipped": "the database does not answer"}
