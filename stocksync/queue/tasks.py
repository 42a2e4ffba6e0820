"""The functions that RQ jobs name. A job carries a lane or nothing; the function's report is the job's result."""

from collections.abc import Callable
from typing import Any

from stocksync import runtime
from stocksync.runtime import Runtime


def deliver_lane(lane: str) -> dict[str, Any]:
    """Deliver one slice of what is due of the lane: the job behind a wake-up."""
    return _done(lambda at: at.deliver_lane(lane).as_dict())


def sweep() -> dict[str, Any]:
    """Return what dead workers left, wake lanes with due work."""
    return _done(lambda at: at.run_task("sweep"))


def reconcile() -> dict[str, Any]:
    """Compare our orders with the remote's for some seconds; queues itself again while there is more."""
    return _done(lambda at: at.run_task("reconcile"))


def monitor() -> dict[str, Any]:
    """Look at everything that can go wrong, and send the alerts."""
    return _done(lambda at: at.run_task("monitor"))


def cleanup() -> dict[str, Any]:
    """Remove old rows for some seconds; queues itself again while there is more."""
    return _done(lambda at: at.run_task("cleanup"))


def _done(job: Callable[[Runtime], dict[str, Any]]) -> dict[str, Any]:
    """The job's report. Where the database is away it is no failed job: the sweep, or its next time, brings it back."""
    at = runtime.current()
    return at.with_database(lambda: job(at)) or {"skipped": "the database does not answer"}
