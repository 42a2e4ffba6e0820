"""The engine: claim, send, settle, for one lane and a bounded slice of time.

Claiming and settling overlap with sending; no transaction is open during a request. Redis plays no part here:
whoever runs the engine is told by `wakeups` when to come back.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from stocksync.domain.answers import Answer, Verdict
from stocksync.domain.identifiers import Clock, NewId
from stocksync.domain.retry import RetryPolicy
from stocksync.sending import Sender, SendPool, Sent, tell
from stocksync.store.deliveries import ClaimedOrder, Delivered, Deliveries, NotDelivered

log = logging.getLogger(__name__)

_SETTLE_AFTER = 0.25
"""Seconds a result waits at most before it is written."""
_SAID = {Verdict.REJECTED: "sync_failed", Verdict.INVALID: "sync_failed"}


class Wakeups(Protocol):
    """How a lane's next delivery is brought about. Never raises: the row is the truth, the sweep its guard."""

    def wake(self, lane: str, *, force: bool = False) -> bool:
        """Have the lane drained soon. `force`: though a wake-up seems to wait. False: it could not be said."""

    def wake_at(self, lane: str, moment: datetime | None) -> None:
        """Have the lane drained at `moment` (aware UTC), and at no other planned time; None: at no time."""


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """Bounds of the engine. Times in seconds."""

    batch_size: int = 200
    concurrency: int = 16
    slice_seconds: float = 5.0
    lease_seconds: float = 60.0
    immediate_timeout: float = 3.0


@dataclass(slots=True)
class DrainReport:
    """What one slice did to a lane, in orders; `operations_*` count the operations that mirror them."""

    lane: str
    delivered: int = 0
    retrying: int = 0
    failed: int = 0
    lost: int = 0
    released: int = 0
    operations_completed: int = 0
    operations_retrying: int = 0
    operations_failed: int = 0
    concurrency: int = 1
    seconds: float = 0.0
    next_due: datetime | None = field(default=None)

    def as_dict(self) -> dict[str, object]:
        """For JSON: results of jobs and commands."""
        document: dict[str, object] = asdict(self)
        document["next_due"] = self.next_due.isoformat() if self.next_due else None
        document["seconds"] = round(self.seconds, 3)
        return document


class DeliveryEngine:
    """Delivers what is due. Threads that drain take turns; `close` ends the sender threads."""

    def __init__(
        self,
        deliveries: Deliveries,
        sender: Sender,
        policy: RetryPolicy,
        settings: DeliverySettings,
        wakeups: Wakeups,
        *,
        clock: Clock,
        new_id: NewId,
        rng: random.Random,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._deliveries = deliveries
        self._sender = sender
        self._policy = policy
        self._settings = settings
        self._wakeups = wakeups
        self._clock = clock
        self._new_id = new_id
        self._rng = rng
        self._monotonic = monotonic
        self._pool = SendPool(sender, settings.concurrency, monotonic)
        self._draining = threading.Lock()

    def close(self) -> None:
        """End the sender threads, waiting for a request under way."""
        self._pool.close(self._sender.timeout)

    def drain(
        self, lane: str, should_stop: Callable[[], bool] = lambda: False, limit: int | None = None
    ) -> DrainReport:
        """Deliver the lane's due orders until none is left, the slice is over, or `should_stop` says so.

        What is claimed and not sent by then is given back. Afterwards the lane is woken again when it has
        due work, else its next wake-up is planned.

        Args:
            limit: orders to claim at most; None: all that are due.
        """
        report = DrainReport(lane)
        with self._draining:
            started = self._monotonic()
            try:
                self._run(report, started + self._settings.slice_seconds, should_stop, limit)
            except BaseException:
                # A job's timeout, a lost database: what is in flight is nobody's now, its lease will tell.
                self._pool.abandon()
                raise
        report.concurrency = self._pool.concurrency
        report.seconds = self._monotonic() - started
        report.next_due = self._come_back(lane)
        log.info(
            "lane %s: %d delivered, %d to retry, %d failed in %.2f s over %d connections",
            lane, report.delivered, report.retrying, report.failed, report.seconds, report.concurrency,
        )  # fmt: skip
        return report

    def _run(
        self, report: DrainReport, ends: float, should_stop: Callable[[], bool], limit: int | None
    ) -> None:
        batch, pool = self._settings.batch_size, self._pool
        remaining = batch if limit is None else limit
        dry = False
        unsettled: list[Sent] = []
        settle_by = 0.0
        while True:
            halted = self._monotonic() >= ends or should_stop()
            stopping = halted or dry or remaining <= 0
            if halted and pool.queued:
                self._give_back(report, pool.withdraw())
            if not stopping and pool.queued < batch // 2 + 1:
                wanted = batch if limit is None else min(batch, remaining)
                claimed = self._claim(report.lane, wanted)
                dry = claimed < wanted
                remaining -= 0 if limit is None else claimed
            low_water = 0 if stopping else batch // 2 + 1
            arrived = pool.collect(batch // 2 + 1, low_water, _SETTLE_AFTER)
            if arrived and not unsettled:
                settle_by = self._monotonic() + _SETTLE_AFTER
            unsettled += arrived
            idle = pool.idle
            if unsettled and (idle or len(unsettled) > batch // 2 or self._monotonic() >= settle_by):
                self._settle(report, unsettled)
                unsettled = []
            if idle and stopping:
                return

    def _claim(self, lane: str, limit: int) -> int:
        now, lease = self._clock(), self._settings.lease_seconds
        send_until = self._monotonic() + lease - self._sender.timeout
        claim = self._deliveries.claim(lane, limit, self._new_id(), now, now + timedelta(seconds=lease))
        if claim.orders:
            self._pool.submit(claim, send_until)
        return len(claim.orders)

    def _settle(self, report: DrainReport, results: list[Sent]) -> None:
        by_claim: dict[UUID, list[Sent]] = {}
        for result in results:
            by_claim.setdefault(result.claim_id, []).append(result)
        now = self._clock()
        for claim_id, sent in by_claim.items():
            delivered = [Delivered(s.order, s.duration_ms) for s in sent if s.answer and s.answer.success]
            failures = [
                self._failure(s.order, s.answer, s.duration_ms, now)
                for s in sent
                if s.answer and not s.answer.success
            ]
            settled = self._deliveries.settle(claim_id, delivered, failures, now)
            report.delivered += settled.delivered
            report.retrying += settled.retrying
            report.failed += settled.failed
            report.lost += len(settled.lost)
            report.operations_completed += settled.operations_completed
            report.operations_retrying += settled.operations_retrying
            report.operations_failed += settled.operations_failed
            self._give_back(report, [(claim_id, s.order) for s in sent if s.answer is None])

    def _give_back(self, report: DrainReport, unsent: list[tuple[UUID, ClaimedOrder]]) -> None:
        by_claim: dict[UUID, list[UUID]] = {}
        for claim_id, order in unsent:
            by_claim.setdefault(claim_id, []).append(order.id)
        for claim_id, orders in by_claim.items():
            self._deliveries.release(claim_id, orders, self._clock())
            report.released += len(orders)

    def _failure(self, order: ClaimedOrder, answer: Answer, duration_ms: int, now: datetime) -> NotDelivered:
        attempts = order.attempts + 1
        given_up = self._policy.gives_up(attempts)
        return NotDelivered(
            order,
            duration_ms,
            action=_SAID.get(answer.verdict, "sync_error"),
            error_class=answer.error_class or "Unknown",
            error_message=answer.error or "no reason given",
            next_at=None if given_up else now + self._policy.delay(attempts, self._rng),
        )

    def _come_back(self, lane: str) -> datetime | None:
        moment = self._deliveries.next_due(lane)
        if moment is not None and moment <= self._clock():
            self._wakeups.wake(lane)
        else:
            self._wakeups.wake_at(lane, moment)
        return moment

    def deliver_now(self, order_ref: UUID, lane: str) -> Answer | None:
        """Claim and send one order in this thread, with the short timeout of immediate mode.

        None: it was not due or somebody else has it. A failure counts as an attempt and is planned again.
        """
        now, lease = self._clock(), self._settings.lease_seconds
        claim = self._deliveries.claim_order(order_ref, self._new_id(), now, now + timedelta(seconds=lease))
        if not claim.orders:
            return None
        order = claim.orders[0]
        started = self._monotonic()
        answer = tell(self._sender, order, self._settings.immediate_timeout)
        duration_ms, now = round((self._monotonic() - started) * 1000), self._clock()
        if answer.success:
            self._deliveries.settle(claim.id, [Delivered(order, duration_ms)], [], now)
        else:
            self._deliveries.settle(claim.id, [], [self._failure(order, answer, duration_ms, now)], now)
        self._come_back(lane)
        return answer
