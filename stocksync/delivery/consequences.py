"""What follows from an answer for the order that was told (design, section 5): the answer table, pure."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from stocksync.delivery.answers import Answer, Verdict
from stocksync.delivery.retry import RetryPolicy

SHORTEST_SNOOZE = 1.0
LONGEST_SNOOZE = 3600.0
DEFAULT_SNOOZE = 30.0
"""Seconds, for a 429 that does not say how long."""

SHORT_WAIT = timedelta(seconds=5)
"""Before an order that used up no attempt is looked at again: whatever fails to hold its lane back, it can't spin."""


@dataclass(frozen=True, slots=True)
class Consequence:
    """How the failed delivery of one order is written.

    `counted`: an attempt is used up. `next_at`: when it is tried again; None: given up. `waiting`: why it waits.
    """

    counted: bool
    next_at: datetime | None
    waiting: str


def consequence_of(
    answer: Answer,
    *,
    attempts: int,
    last_attempt_at: datetime | None,
    served_at: datetime | None,
    policy: RetryPolicy,
    now: datetime,
    rng: random.Random,
) -> Consequence:
    """What an answer that is no success means for its order.

    Args:
        attempts: counted before this one.
        last_attempt_at: when this order was last tried before; None: never.
        served_at: when the remote last served another order or answered for its health; None: not known.
    """
    verdict = answer.verdict
    if verdict is Verdict.INVALID:
        return Consequence(True, None, "failed")
    if verdict in (Verdict.THROTTLED, Verdict.CREDENTIALS):
        return Consequence(False, now + SHORT_WAIT, "snoozed")
    if verdict is Verdict.UNCLEAR and not _others_were_served(last_attempt_at, served_at):
        return Consequence(False, now + SHORT_WAIT, "outage")
    if policy.gives_up(attempts + 1):
        return Consequence(True, None, "failed")
    return Consequence(True, now + policy.delay(attempts + 1, rng), "retry")


def _others_were_served(last_attempt_at: datetime | None, served_at: datetime | None) -> bool:
    return last_attempt_at is not None and served_at is not None and served_at > last_attempt_at


def snooze_seconds(retry_after: str | None, now: datetime) -> float:
    """How long to leave the lane alone: Retry-After as seconds or as a date (RFC 9110, 10.2.3), kept in bounds.

    What can't be read counts as not said.
    """
    text = (retry_after or "").strip()
    if text.isascii() and text.isdigit():
        # The length is looked at first: a number of a million digits is not worth converting.
        return _bounded(float(text) if len(text) < 10 else LONGEST_SNOOZE)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return DEFAULT_SNOOZE
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return _bounded((aware - now) / timedelta(seconds=1))


def _bounded(seconds: float) -> float:
    return min(max(seconds, SHORTEST_SNOOZE), LONGEST_SNOOZE)
