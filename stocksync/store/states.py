"""The states of an operation and who moves it on.

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

ORDER_MOVEMENTS: Final = ("deduction", "refund", "rollback")
"""What causes a movement of an order; it carries the operation. Those of stock-keeping carry actor and reason."""
DIFFERENCE_STATUSES: Final = ("open", "fixed", "left", "gone")

_ORIGINS: Final = {
    PENDING: (PENDING, PROCESSING, FAILED),
    PROCESSING: (PENDING,),
    COMPLETED: (PENDING, PROCESSING, FAILED),
    FAILED: (PROCESSING,),
    CANCELLED: (PENDING, PROCESSING, FAILED),
}


def origins(target: str) -> tuple[str, ...]:
    """The statuses from which an operation may become `target`: the guard of its UPDATE."""
    return _ORIGINS[target]


def can_be_retried(status: str) -> bool:
    """Whether a person may ask for another delivery now."""
    return status in (PENDING, FAILED)


def can_be_cancelled(status: str) -> bool:
    """Whether a person may still stop the delivery."""
    return status in _ORIGINS[CANCELLED]
