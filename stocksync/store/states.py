"""The states of an operation and who moves it on; the closed sets of words the database accepts.

pending     recorded, or waiting for its next try    -> processing (claim), completed (an earlier request told it)
processing  its order is claimed, a request is out   -> completed, pending (retry, rescue), failed
completed   the remote knows this state or a later one; final
failed      given up after max_retries               -> pending (manual retry), completed (a later delivery)
cancelled   a person stopped its delivery; final
"""

from typing import Final

PENDING: Final = "pending"
PROCESSING: Final = "processing"
COMPLETED: Final = "completed"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"

STATUSES: Final = (PENDING, PROCESSING, COMPLETED, FAILED, CANCELLED)
LIVE: Final = (PENDING, PROCESSING)
OPERATION_TYPES: Final = ("deduction", "refund", "adjustment")
APPLIED: Final = ("yes", "unknown", "no")

# Why an order waits (or is at rest without being delivered).
WAITING: Final = (
    "new",
    "retry",
    "rescued",
    "snoozed",
    "outage",
    "not_ready",
    "failed",
    "cancelled",
    "manual",
    "reconciled",
)

# Movements of an order carry their operation; stock-keeping ones carry actor and reason.
ORDER_MOVEMENTS: Final = ("deduction", "refund", "rollback")
STOCK_MOVEMENTS: Final = ("receipt", "issue", "count")
MOVEMENT_CAUSES: Final = ORDER_MOVEMENTS + STOCK_MOVEMENTS

# A reconciliation run: `incomplete` could not look at everything, `suspicious` found so much that it fixed nothing.
RUN_STATUSES: Final = ("running", "complete", "incomplete", "suspicious")
# Differences that are kept: `open` waits for a person, `fixed` was made due again, `left` a person decided so,
# `gone` a later run found both sides equal.
DIFFERENCES: Final = ("missing_remote", "cancel_mismatch", "extra_remote", "partial_local", "missing_order")
DIFFERENCE_STATUSES: Final = ("open", "fixed", "left", "gone")
TASK_STATUSES: Final = ("running", "done", "failed", "interrupted")

_ALLOWED: Final[dict[str, frozenset[str]]] = {
    PENDING: frozenset({PENDING, PROCESSING, COMPLETED, CANCELLED}),
    PROCESSING: frozenset({PENDING, COMPLETED, FAILED, CANCELLED}),
    FAILED: frozenset({PENDING, COMPLETED, CANCELLED}),
    COMPLETED: frozenset(),
    CANCELLED: frozenset(),
}


def may_become(status: str, target: str) -> bool:
    """Whether an operation may go from `status` to `target`."""
    return target in _ALLOWED[status]


def origins(target: str) -> tuple[str, ...]:
    """The statuses from which `target` may be reached: the guard of its UPDATE."""
    return tuple(status for status in STATUSES if target in _ALLOWED[status])


def can_be_retried(status: str) -> bool:
    """Whether a person may ask for another delivery now."""
    return status in (PENDING, FAILED)


def can_be_cancelled(status: str) -> bool:
    """Whether a person may still stop the delivery."""
    return CANCELLED in _ALLOWED[status]
