"""The functions that RQ jobs name. A job carries a lane or nothing; the function's report is the job's result."""

from __future__ import annotations

from typing import Any

from stocksync import runtime


def deliver_lane(lane: str) -> dict[str, Any]:
    """Deliver one slice of what is due of the lane: the job behind a wake-up."""
    return runtime.current().deliver_lane(lane).as_dict()


def sweep() -> dict[str, Any]:
    """Return what dead workers left, wake lanes with due work."""
    return runtime.current().run_task("sweep")


def reconcile() -> dict[str, Any]:
    """Compare our orders with the remote's for some seconds; queues itself again while there is more."""
    return runtime.current().run_task("reconcile")


def monitor() -> dict[str, Any]:
    """Look at everything that can go wrong, and send the alerts."""
    return runtime.current().run_task("monitor")


def cleanup() -> dict[str, Any]:
    """Remove old rows for some seconds; queues itself again while there is more."""
    return runtime.current().run_task("cleanup")
