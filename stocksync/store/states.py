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

ORDER_MOVEMENTS: Final = ("deduction", "refund", "rollback")
"""What causes a movement of an order; it carries the operation. Those of stock-keeping carry actor and reason."""
DIFFERENCE_STATUSES: Final = ("open", "fixed", "left", "gone")

ORIGINS: Final = {
    PENDING: (PENDING, PROCESSING, FAILED),
    PROCESSING: (PENDING,),
    COMPLETED: (PENDING, PROCESSING, FAILED),
    FAILED: (PROCESSING,),
    CANCELLED: (PENDING, PROCESSING, FAILED),
}
"""By status, those from which an operation may become it: the guard of its UPDATE."""
ACTIONS: Final = {"retry": (PENDING, FAILED), "cancel": ORIGINS[CANCELLED]}
"""By what a person may ask for, the statuses in which it is possible."""
