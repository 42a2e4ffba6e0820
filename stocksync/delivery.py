"""The engine: claim, send, settle, for one lane and a bounded slice of time.

Claiming and settling overlap with sending; no transaction is open during a request. Redis plays no part here:
whoever runs the engine is told by `wakeups` when to come back.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from stocksync.domain.answers import Answer
from stocksync.domain.identifiers import Clock, NewId
from stocksync.outcomes import Judged, Outcomes
from stocksync.remote.breaker import CREDENTIALS, Breaker, Gate
from stocksync.sending import Sender, SendPool, Sent, tell
from stocksync.store.deliveries import ClaimedOrder, Deliveries, Settled
from stocksync.store.lanes import Lanes, LaneState

log = logging.getLogger(__name__)

_SETTLE_AFTER = 0.25
"""Seconds a result waits at most before it is written."""
_HELD_BY_OTHERS = timedelta(seconds=1)
_WAIT_FOR_BUSY = 10.0
"""Seconds a result waits for a caller's open transaction that holds its order."""


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
    next_due: datetime | None = None
    held_back: str | None = None
    """Why nothing (more) was sent though work is due: `outage`, `snoozed`, `paused`; None: nothing held it back."""

    @property
    def progressed(self) -> bool:
        """Whether anything was claimed, whatever became of it."""
        return self.delivered + self.retrying + self.failed + self.lost + self.released > 0

    def add(self, settled: Settled) -> None:
        """Count what one settlement came to."""
        self.delivered += settled.delivered
        self.retrying += settled.retrying
        self.failed += settled.failed
        self.lost += len(settled.lost)
        self.operations_completed += settled.operations_completed
        self.operations_retrying += settled.operations_retrying
        self.operations_failed += settled.operations_failed

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
        breaker: Breaker,
        lanes: Lanes,
        outcomes: Outcomes,
        settings: DeliverySettings,
        wakeups: Wakeups,
        *,
        clock: Clock,
        new_id: NewId,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._deliveries = deliveries
        self._sender = sender
        self._breaker = breaker
        self._lanes = lanes
        self._outcomes = outcomes
        self._settings = settings
        self._wakeups = wakeups
        self._clock = clock
        self._new_id = new_id
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
            state = self._lanes.state(lane)
            admission = self._breaker.admit() if self._is_open(state) else None
            try:
                if admission is None:
                    report.held_back = "paused" if state.paused else "snoozed"
                elif admission.gate is Gate.OPEN:
                    report.held_back = "outage"
                elif admission.gate is Gate.PROBE:
                    self._probe(report)
                else:
                    # A lane whose credentials were refused is tried with one order, not with a batch.
                    limit = 1 if state.reason == CREDENTIALS else limit
                    self._run(report, started + self._settings.slice_seconds, should_stop, limit)
            except BaseException:
                # A job's timeout, a lost database: what is in flight is nobody's now, its lease will tell.
                self._pool.abandon()
                raise
        if state.reason == CREDENTIALS and report.delivered:
            self._lanes.resume(lane)
        report.concurrency = self._pool.concurrency
        report.seconds = self._monotonic() - started
        report.next_due = self._come_back(lane, report.progressed)
        log.info(
            "lane %s: %d delivered, %d to retry, %d failed in %.2f s over %d connections%s",
            lane, report.delivered, report.retrying, report.failed, report.seconds, report.concurrency,
            f"; held back: {report.held_back}" if report.held_back else "",
        )  # fmt: skip
        return report

    def _is_open(self, state: LaneState) -> bool:
        return not state.paused and (state.snoozed_until is None or state.snoozed_until <= self._clock())

    def _probe(self, report: DrainReport) -> None:
        """One order, another one each time; when that tells nothing, the remote's own word on its health."""
        claim = self._deliveries.claim_probe(report.lane, self._new_id(), *self._lease())
        for order in claim.orders:
            started = self._monotonic()
            answer = tell(self._sender, order)
            duration_ms = round((self._monotonic() - started) * 1000)
            self._write(report, claim.id, [Sent(claim.id, order, answer, duration_ms)], probing=True)
        if self._breaker.open_until() is not None:
            if self._sender.is_healthy():
                self._recover(self._breaker.served())
            elif not claim.orders:
                self._breaker.failed(probing=True)
        if self._breaker.open_until() is not None:
            report.held_back = "outage"

    def _recover(self, closed: bool) -> None:
        """Once the breaker has closed, what waited for that alone is due, and every lane is woken."""
        if closed:
            self._deliveries.end_outage(self._clock())
            for lane in self._deliveries.due_lanes():
                self._wakeups.wake(lane)

    def _run(
        self, report: DrainReport, ends: float, should_stop: Callable[[], bool], limit: int | None
    ) -> None:
        batch, pool = self._settings.batch_size, self._pool
        remaining = batch if limit is None else limit
        dry = False
        unsettled: list[Sent] = []
        settle_by = 0.0
        while True:
            halted = report.held_back is not None or self._monotonic() >= ends or should_stop()
            stopping = halted or dry or remaining <= 0
            if halted and pool.queued:
                self._give_back(report, pool.withdraw())
            if not stopping and pool.queued < batch // 2 + 1:
                if self._breaker.open_until() is not None:  # another worker found the remote gone
                    report.held_back = "outage"
                    continue
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

    def _lease(self) -> tuple[datetime, datetime]:
        now = self._clock()
        return now, now + timedelta(seconds=self._settings.lease_seconds)

    def _claim(self, lane: str, limit: int) -> int:
        send_until = self._monotonic() + self._settings.lease_seconds - self._sender.timeout
        claim = self._deliveries.claim(lane, limit, self._new_id(), *self._lease())
        if claim.orders:
            self._pool.submit(claim, send_until)
        return len(claim.orders)

    def _settle(self, report: DrainReport, results: list[Sent]) -> None:
        by_claim: dict[UUID, list[Sent]] = {}
        for result in results:
            by_claim.setdefault(result.claim_id, []).append(result)
        for claim_id, sent in by_claim.items():
            if self._write(report, claim_id, sent).halt:
                report.held_back = "outage" if self._breaker.open_until() is not None else "snoozed"

    def _write(
        self, report: DrainReport, claim_id: UUID, sent: list[Sent], *, probing: bool = False
    ) -> Judged:
        now = self._clock()
        judged = self._outcomes.judge(report.lane, sent, now, probing=probing)
        delivered, failures = judged.delivered, judged.failures
        give_up_at = self._monotonic() + _WAIT_FOR_BUSY
        while True:
            settled = self._deliveries.settle(claim_id, delivered, failures, now)
            report.add(settled)
            if not settled.busy or self._monotonic() >= give_up_at:
                break  # what is still held by a caller then, the sweep returns when the lease is over
            time.sleep(0.05)
            delivered = [d for d in delivered if d.order.id in settled.busy]
            failures = [f for f in failures if f.order.id in settled.busy]
        self._give_back(report, [(claim_id, order) for order in judged.unsent])
        self._recover(judged.recovered)
        return judged

    def _give_back(self, report: DrainReport, unsent: list[tuple[UUID, ClaimedOrder]]) -> None:
        by_claim: dict[UUID, list[UUID]] = {}
        for claim_id, order in unsent:
            by_claim.setdefault(claim_id, []).append(order.id)
        for claim_id, orders in by_claim.items():
            self._deliveries.release(claim_id, orders, self._clock())
            report.released += len(orders)

    def _come_back(self, lane: str, progressed: bool = True) -> datetime | None:
        """Wake the lane, or plan its next wake-up: not before what holds it back has passed.

        Due work that could not be claimed is held by somebody's open transaction: asked for again in a second,
        or a worker would spin on it.
        """
        moment = self._deliveries.next_due(lane)
        state = self._lanes.state(lane)
        if moment is None or state.paused:
            self._wakeups.wake_at(lane, None)
            return None
        soon = None if progressed else self._clock() + _HELD_BY_OTHERS
        moment = max(filter(None, (moment, state.snoozed_until, self._breaker.open_until(), soon)))
        if moment <= self._clock():
            self._wakeups.wake(lane)
        else:
            self._wakeups.wake_at(lane, moment)
        return moment

    def deliver_now(self, order_ref: UUID, lane: str) -> Answer | None:
        """Claim and send one order in this thread, with the short timeout of immediate mode.

        None: it was not due, somebody else has it, or something holds its lane back.
        """
        if not self._is_open(self._lanes.state(lane)) or self._breaker.open_until() is not None:
            return None
        claim = self._deliveries.claim_order(order_ref, self._new_id(), *self._lease())
        if not claim.orders:
            return None
        order = claim.orders[0]
        started = self._monotonic()
        answer = tell(self._sender, order, self._settings.immediate_timeout)
        duration_ms = round((self._monotonic() - started) * 1000)
        self._write(DrainReport(lane), claim.id, [Sent(claim.id, order, answer, duration_ms)])
        self._come_back(lane)
        return answer
