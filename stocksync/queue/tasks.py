"""The functions that RQ jobs name. A job carries a lane or nothing; its report is the job's result."""

from collections.abc import Callable
from typing import Any

from stocksync.runtime import Runtime, current


def deliver_lane(lane: str) -> dict[str, Any]:
    """Deliver one slice of what is due of the lane: the job behind a wake-up."""
    return _done(lambda runtime: runtime.deliver_lane(lane).as_dict())


def sweep() -> dict[str, Any]:
    """Release what dead workers hold, wake lanes with due work."""
    return _done(lambda runtime: runtime.periodic.run("sweep"))


def reconcile() -> dict[str, Any]:
    """Compare our orders with the remote's for some seconds; queues itself again while there is more."""
    return _done(lambda runtime: runtime.periodic.run("reconcile"))


def monitor() -> dict[str, Any]:
    """Check everything that can go wrong, and send the alerts."""
    return _done(lambda runtime: runtime.periodic.run("monitor"))


def cleanup() -> dict[str, Any]:
    """Remove old rows for some seconds; queues itself again while there is more."""
    return _done(lambda runtime: runtime.periodic.run("cleanup"))


def _done(job: Callable[[Runtime], dict[str, Any]]) -> dict[str, Any]:
    """The job's report. Without the database the job is skipped, not failed: the sweep, or its next time, repeats it."""
    runtime = current()
    return runtime.with_database(lambda: job(runtime)) or {"skipped": "the database does not answer"}
