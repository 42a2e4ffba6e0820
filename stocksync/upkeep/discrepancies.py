"""What a comparison of an order here and at the remote means: exactly one class, and what may be done about it. Pure."""

from datetime import datetime, timedelta
from typing import Final, Literal

from stocksync.store.reconciliation import OurSide

Kind = Literal[
    "agrees", "missing_remote", "cancel_mismatch", "extra_remote", "partial_local", "in_flight", "given_up", "missing_order"
]  # fmt: skip
MENDABLE: Final = frozenset({"missing_remote", "cancel_mismatch"})
"""What telling the remote again puts right."""
DIFFERING: Final = MENDABLE | {"extra_remote", "partial_local", "missing_order"}


def classify(ours: OurSide | None, remote: bool | None) -> Kind:
    """The one class of an order.

    Args:
        ours: None: it is unknown here.
        remote: what the remote says; None: it does not know the order.
    """
    if ours is None:
        return "extra_remote" if remote else "agrees"
    if not ours.resting:
        return "in_flight"
    if ours.stopped:
        return "given_up"
    if remote is None:
        # An order that gave all its lines to another one is gone at Allegro, and soon at the remote.
        return "missing_order" if ours.deducted else "agrees"
    if remote and (ours.state is None or not ours.settled):
        return "partial_local" if ours.deducted > 0 and not ours.settled else "extra_remote"
    if bool(ours.state) is remote:
        return "agrees"
    return "missing_remote" if ours.state else "cancel_mismatch"


def is_young(ours: OurSide | None, now: datetime, threshold: timedelta) -> bool:
    """Whether our last completion is young enough: a difference may end by itself, or be fixed without a person."""
    return ours is not None and ours.completed_at is not None and now - ours.completed_at < threshold
