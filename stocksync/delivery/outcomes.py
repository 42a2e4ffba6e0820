"""What answers mean beyond their own order: for the breaker, for the lane, for the credentials."""

from __future__ import annotations

import logging
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from stocksync.delivery.answers import Answer, Verdict
from stocksync.delivery.breaker import CREDENTIALS, Breaker
from stocksync.delivery.consequences import consequence_of, snooze_seconds
from stocksync.delivery.retry import RetryPolicy
from stocksync.delivery.sender_pool import Sender, Sent
from stocksync.store.context import Context, Part
from stocksync.store.deliveries import ClaimedOrder, Delivered, NotDelivered
from stocksync.store.lanes import Lanes

log = logging.getLogger(__name__)

REFUSALS_IN_A_ROW = 20
"""Orders refused for good, with no success between, before the lane is paused: not the orders are wrong then."""
_CREDENTIALS_SNOOZE = timedelta(seconds=60)
_SAID_NO = frozenset({Verdict.REJECTED, Verdict.INVALID})
_SERVED = frozenset({Verdict.DELIVERED, Verdict.REJECTED, Verdict.INVALID})


@dataclass(slots=True)
class Judged:
    """Answers, sorted by what is to be written. `halt`: nothing more of this lane should go out now."""

    delivered: list[Delivered] = field(default_factory=list)
    failures: list[NotDelivered] = field(default_factory=list)
    unsent: list[ClaimedOrder] = field(default_factory=list)
    halt: bool = False
    recovered: bool = False

    def keep(self, orders: Container[UUID]) -> None:
        """Forget all but `orders`: the others are written."""
        self.delivered = [result for result in self.delivered if result.order.id in orders]
        self.failures = [result for result in self.failures if result.order.id in orders]
        self.unsent = [order for order in self.unsent if order.id in orders]


class Outcomes(Part):
    """Judges answers in the order they came, and tells the breaker and the lane what follows."""

    def __init__(self, context: Context, sender: Sender, breaker: Breaker) -> None:
        super().__init__(context)
        self._sender, self._breaker = sender, breaker
        self._lanes, self._policy = Lanes(context), RetryPolicy.of(context.config)
        self._refused: dict[str, set[UUID]] = {}

    def judge(self, lane: str, results: Sequence[Sent], now: datetime, *, probing: bool = False) -> Judged:
        """Sort `results` of one lane; `probing`: they answer the one order that was let through."""
        judged = Judged()
        in_question = any(sent.answer and sent.answer.verdict is Verdict.UNCLEAR for sent in results)
        served_at = self._breaker.served_at() if in_question else None
        served = unclear = failing = 0
        for sent in results:
            answer = sent.answer
            if answer is None:
                judged.unsent.append(sent.order)
                continue
            if answer.verdict in _SERVED:
                served, failing = served + 1, 0
            if answer.success:
                self._refused.pop(lane, None)
                judged.delivered.append(Delivered(sent.order, sent.duration_ms))
            elif answer.verdict is Verdict.INVALID and self._refuses_all(lane, sent.order, answer):
                judged.unsent.append(sent.order)
                judged.halt = True
            else:
                if answer.verdict is Verdict.UNCLEAR:
                    unclear, failing = unclear + 1, failing + 1
                judged.halt |= self._hold_back(lane, answer, now)
                judged.failures.append(self._failure(sent, answer, served_at, now))
        if served:
            judged.recovered = self._breaker.served()
        mostly = self._breaker.tally(served, unclear)
        if failing or (unclear and mostly):
            judged.halt |= self._breaker.failed(times=failing, probing=probing and not served, mostly=mostly)
        return judged

    def _failure(self, sent: Sent, answer: Answer, served_at: datetime | None, now: datetime) -> NotDelivered:
        order = sent.order
        follows = consequence_of(
            answer, attempts=order.attempts, last_attempt_at=order.last_attempt_at, served_at=served_at,
            policy=self._policy, now=now, rng=self.context.rng,
        )  # fmt: skip
        return NotDelivered(
            order, sent.duration_ms, "sync_failed" if answer.verdict in _SAID_NO else "sync_error",
            answer.error_class or "Unknown", answer.error or "no reason given", follows.next_at, follows.waiting,
            follows.counted, for_good=answer.verdict is Verdict.INVALID,
        )  # fmt: skip

    def _hold_back(self, lane: str, answer: Answer, now: datetime) -> bool:
        """Snooze the lane, or pause the remote, where the answer asks for it. True: it does."""
        if answer.verdict is Verdict.THROTTLED:
            until = now + timedelta(seconds=snooze_seconds(answer.retry_after, now))
            self._lanes.snooze(lane, until, "throttled")
            return True
        if answer.verdict is Verdict.CREDENTIALS:
            self._sender.forget_token()
            refused = "the remote refuses our credentials (%s: %s); tried again once a minute"
            log.error(refused, answer.status, answer.error, extra={"lane": lane})
            if answer.status == 403:
                self._lanes.snooze(lane, now + _CREDENTIALS_SNOOZE, CREDENTIALS)
            else:
                self._breaker.failed(CREDENTIALS)
            return True
        return False

    def _refuses_all(self, lane: str, order: ClaimedOrder, answer: Answer) -> bool:
        refused = self._refused.setdefault(lane, set())
        refused.add(order.id)
        if len(refused) < REFUSALS_IN_A_ROW:
            return False
        reason = f"{REFUSALS_IN_A_ROW} orders in a row were refused for good: {answer.error}"
        if self._lanes.pause(lane, reason):
            log.error("paused until a person resumes it: %s", reason, extra={"lane": lane})
        return True
