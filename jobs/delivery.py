"""Deliver what is due of one lane: the job behind a wake-up."""

from __future__ import annotations

from typing import Any

from stocksync import runtime


def deliver_lane(lane: str) -> dict[str, Any]:
    """One slice of the lane; the report is the job's result."""
    return runtime.current().deliver_lane(lane).as_dict()
