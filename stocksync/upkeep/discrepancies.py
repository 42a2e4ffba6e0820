"""What a comparison of an order here and at the remote means: exactly one class, and what may be done about it. Pure."""

from datetime import datetime, timedelta
from typing import Final

from stocksync.store.reconciliation import OurSide

AGREES: Final = "agrees"
MISSING_REMOTE: Final = "missing_remote"
CANCEL_MISMATCH: Final = "cancel_mismatch"
EXTRA_REMOTE: Final = "extra_remote"
PARTIAL_LOCAL: Final = "partial_local"
IN_FLIGHT: Final = "in_flight"
GIVEN_UP: Final = "given_up"
MISSING_ORDER: Final = "missing_order"

CLASSES: Final = (
    AGREES, MISSING_REMOTE, CANCEL_MISMATCH, EXTRA_REMOTE, PARTIAL_LOCAL, IN_FLIGHT, GIVEN_UP, MISSING_ORDER
)  # fmt: skip
MENDABLE: Final = frozenset({MISSING_REMOTE, CANCEL_MISMATCH})
"""What telling the remote again puts right."""
DIFFERING: Final = MENDABLE | {EXTRA_REMOTE, PARTIAL_LOCAL, MISSING_ORDER}


def classify(ours: OurSide | None, remote: bool | None) -> str:
    """The one class of an order.

    Args:
        ours: None: it is unknown here.
        remote: what the remote says; None: it does not know the order.
    """
    if ours is None:
        return EXTRA_REMOTE if remote else AGREES
    if not ours.resting:
        return IN_FLIGHT
    if ours.stopped:
        return GIVEN_UP
    if remote is None:
        # An order that gave all its lines to another one is gone at Allegro, and soon at the remote.
        return MISSING_ORDER if ours.deducted else AGREES
    if remote and (ours.state is None or not ours.settled):
        return PARTIAL_LOCAL if ours.deducted > 0 and not ours.settled else EXTRA_REMOTE
    if bool(ours.state) is remote:
        return AGREES
    return MISSING_REMOTE if ours.state else CANCEL_MISMATCH


def may_mend(kind: str, ours: OurSide | None, now: datetime, threshold: timedelta) -> bool:
    """Whether the difference is mended without a person: it is of the kind, and our last completion is young enough."""
    return kind in MENDABLE and is_young(ours, now, threshold)


def is_young(ours: OurSide | None, now: datetime, threshold: timedelta) -> bool:
    """Whether our last completion is young enough: a difference may end by itself, or be mended without a person."""
    return ours is not None and ours.completed_at is not None and now - ours.completed_at < threshold


def is_suspicious(differing: int, scanned: int, share: float, orders: int) -> bool:
    """Whether so much differs that one of the two sides is more likely broken than out of step."""
    return differing > orders and differing > share * scanned
