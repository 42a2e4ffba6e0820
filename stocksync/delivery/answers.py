"""What an answer of the remote means (design, section 5): whose failure it is, and when its order is tried again. Pure."""

import math
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Any

from stocksync.config import StockSyncConfig
from stocksync.errors import RemoteError
from stocksync.store.values import is_storable, printable


class Verdict(Enum):
    """Whose failure an answer is."""

    DELIVERED = "delivered"
    REJECTED = "rejected"
    """This order's, perhaps not for good: `success: false`, 404, 408, 409, 425 in the contract's words."""
    INVALID = "invalid"
    """This order's, for good: 400, 410, 422 in the contract's words."""
    THROTTLED = "throttled"
    """Nobody's: the remote asks to come later."""
    CREDENTIALS = "credentials"
    """Ours: 401, 403."""
    UNCLEAR = "unclear"
    """Can't tell: no connection, no answer in time, a 5xx, or words that are not the contract's."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, or the lack of one. `error_class` is a short word for counting and filters, None on success."""

    verdict: Verdict
    error_class: str | None = None
    error: str | None = None
    status: int | None = None
    retry_after: str | None = None

    @property
    def success(self) -> bool:
        """Whether the remote accepted what it was told."""
        return self.verdict is Verdict.DELIVERED


@dataclass(frozen=True, slots=True)
class RemoteOrder:
    """An order as the remote has it."""

    id: str
    is_stock_updated: bool


@dataclass(frozen=True, slots=True)
class RemotePage:
    """Some orders, and where the next ones are; `next_cursor` None: these were the last."""

    orders: list[RemoteOrder]
    next_cursor: str | None


_WHATEVER_THE_BODY = {
    401: Verdict.CREDENTIALS,
    403: Verdict.CREDENTIALS,
    429: Verdict.THROTTLED,
}
_IN_THE_CONTRACTS_WORDS = {
    **dict.fromkeys((400, 410, 422), Verdict.INVALID),
    **dict.fromkeys((404, 408, 409, 425), Verdict.REJECTED),
}
REMEMBERED = 300
"""Characters kept of what the remote said."""

SHORT_WAIT = timedelta(seconds=5)
"""Before an order that used up no attempt is looked at again. Whatever fails to hold its lane back, it can't spin."""
SHORTEST_SNOOZE, DEFAULT_SNOOZE, LONGEST_SNOOZE = 1.0, 30.0, 3600.0
"""Seconds that a lane is left alone; the default is for a 429 that does not say how long."""


def understand(status: int, document: object, retry_after: str | None = None) -> Answer:
    """The answer in an HTTP status and its decoded JSON body (None: the body was not JSON).

    Args:
        status: the HTTP status code.
        document: the decoded body.
        retry_after: the Retry-After header as sent.
    """
    fields = document if isinstance(document, dict) else {}
    said, success = fields.get("error"), fields.get("success")
    in_contract = isinstance(success, bool)
    words = printable(str(said))[:REMEMBERED] if said else f"HTTP {status}"
    if 200 <= status < 300 and in_contract:
        return (
            Answer(Verdict.DELIVERED, status=status)
            if success
            else Answer(Verdict.REJECTED, "NotSuccessful", words, status)
        )
    known = _WHATEVER_THE_BODY | (_IN_THE_CONTRACTS_WORDS if in_contract else {})
    verdict = Verdict.THROTTLED if status == 503 and retry_after else known.get(status)
    if verdict is None and status < 500:
        return Answer(
            Verdict.UNCLEAR, "NotTheContract", f"HTTP {status} with a body that is not the contract's", status
        )
    return Answer(verdict or Verdict.UNCLEAR, f"Http{status}", words, status, retry_after)


def page_of(rows: Any, following: Any, cursor: str | None, limit: int) -> RemotePage:
    """Raises RemoteError for what is not the contract's."""
    listed = isinstance(rows, list) and len(rows) <= limit and all(isinstance(row, dict) for row in rows)
    if not listed or not (following is None or _is_text(following, 4096)):
        raise RemoteError("NotTheContract", "the list of orders is not the contract's")
    if following is not None and (following == cursor or not rows):
        raise RemoteError("NotTheContract", "the list of orders does not come to an end")
    return RemotePage([order_of(row.get("id"), row.get("is_stock_updated")) for row in rows], following)


def order_of(order_id: Any, flag: Any, asked: str | None = None) -> RemoteOrder:
    """Raises RemoteError for what is not the contract's, what no row can hold, and another order than `asked`."""
    if not _is_text(order_id, 255) or not isinstance(flag, bool) or asked not in (None, order_id):
        raise RemoteError("NotTheContract", "an order is not the contract's")
    return RemoteOrder(order_id, flag)


def _is_text(value: Any, longest: int) -> bool:
    return isinstance(value, str) and 0 < len(value) <= longest and is_storable(value)


def decide_retry(
    answer: Answer,
    *,
    attempts: int,
    last_attempt_at: datetime | None,
    served_at: datetime | None,
    config: StockSyncConfig,
    now: datetime,
    rng: random.Random,
) -> tuple[bool, datetime | None, str]:
    """What an answer that is no success means for its order.

    Args:
        attempts: counted before this one.
        last_attempt_at: when this order was last tried before; None: never.
        served_at: when the remote last served another order or answered for its health; None: not known.

    Returns:
        Whether an attempt is used up, when the order is tried again (None: given up), and why it waits.
    """
    if answer.verdict in (Verdict.THROTTLED, Verdict.CREDENTIALS):
        return False, now + SHORT_WAIT, "snoozed"
    others_were_served = last_attempt_at and served_at and served_at > last_attempt_at
    if answer.verdict is Verdict.UNCLEAR and not others_were_served:
        return False, now + SHORT_WAIT, "outage"
    if answer.verdict is Verdict.INVALID or attempts + 1 >= config.retry_max_attempts:
        return True, None, "failed"
    return True, now + retry_delay(config, attempts + 1, rng), "retry"


def retry_delay(config: StockSyncConfig, failures: int, rng: random.Random) -> timedelta:
    """How long to wait after failure number `failures` (from 1): exponentially longer; with jitter between half and all of that."""
    # The exponent is bounded, so that a thousand failures do not overflow a float.
    exponent = min((failures - 1) * math.log(config.retry_exponential_base), 700)
    longest = min(config.retry_initial_delay * math.exp(exponent), config.retry_max_delay)
    return timedelta(seconds=rng.uniform(longest / 2, longest) if config.retry_jitter else longest)


def snooze_seconds(retry_after: str | None, now: datetime) -> float:
    """How long to leave the lane alone: Retry-After as seconds or as a date (RFC 9110, 10.2.3), kept in bounds.

    What can't be read counts as not said.
    """
    text = (retry_after or "").strip()
    try:
        if text.isascii() and text.isdigit():
            seconds = float(text[:9])  # a number of a million digits is not worth converting
        else:
            moment = parsedate_to_datetime(text)
            seconds = (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds()
    except (ValueError, TypeError, IndexError, OverflowError):
        seconds = DEFAULT_SNOOZE
    return min(max(seconds, SHORTEST_SNOOZE), LONGEST_SNOOZE)
