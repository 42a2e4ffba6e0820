"""The periodic tasks, as rq-scheduler names them."""

from __future__ import annotations

from typing import Any

from stocksync import runtime


def sweep() -> dict[str, Any]:
    """Return what dead workers left, wake lanes with due work."""
    return runtime.current().run_task("sweep")


def reconcile() -> dict[str, Any]:
    """Compare our orders with the remote's for some seconds; queues itself again while there is more."""
    return runtime.current().run_task("reconcile")


def monitor() -> dict[str, Any]:
    """Look at everything that can go wrong, and have people told."""
    return runtime.current().run_task("monitor")


def cleanup() -> dict[str, Any]:
    """Take away what is long at an end for some seconds; queues itself again while there is more."""
    return runtime.current().run_task("cleanup")
