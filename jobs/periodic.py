"""The periodic tasks, as rq-scheduler names them."""

from __future__ import annotations

from stocksync import runtime


def sweep() -> dict[str, int]:
    """Return what dead workers left, wake lanes with due work."""
    return runtime.current().sweep().as_dict()
