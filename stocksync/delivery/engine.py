"""The engine: claim, send, settle, for one lane and a bounded slice of time.

Claiming and settling overlap with sending; no transaction is open during a request. Redis plays no part here:
whoever runs the engine is told by `wakeups` when to come back.
"""

import logging
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

from stocksync.delivery.answers import Answer
from stocksync.delivery.breaker import CREDENTIALS, OUTAGE, Breaker
from stocksync.delivery.sender_pool import Sender, SendPool, send
from stocksync.delivery.settlement import DrainReport, Settlement
from stocksync.errors import DatabaseUnavailable
from stocksync.store.context import Context
from stocksync.store.lanes import Kind
from stocksync.store.outages import Outage

log = logging.getLogger(__name__)

_SETTLE_AFTER = 0.25
"""Seconds a result waits at most before it is written."""
_HELD_BY_OTHERS = timedelta(seconds=1)
_FAIR_SLICE = 0.25
"""Seconds after which a lane makes way for others that wait: long beside what changing lanes costs."""


class DeliveryEngine(Settlement):
    """Delivers what is due. Threads that drain take turns; `close` ends the sender threads."""

    def __init__(self, context: Context, sender: Sender, breaker: Breaker, database_outage: Outage) -> None:
        super().__init__(context, sender, breaker)
        self._database_outage, self._wakeups = database_outage, context.wakeups
        self._pool = SendPool(sender, context.config.delivery_concurrency, context.span)
        self._draining = threading.Lock()

    def close(self) -> None:
        """End the sender threads, waiting for a request under way."""
        self._pool.close()

    def drain(
        self, lane: str, should_stop: Callable[[], bool] = lambda: False, limit: int = sys.maxsize
    ) -> DrainReport:
        """Deliver the lane's due orders until none is left, the slice is over, or `should_stop` says so.

        What is claimed and not sent by then is given back. Afterwards the lane is woken again when it has
        due work, else its next wake-up is planned.

        Args:
            limit: orders to claim at most.

        Raises:
            DatabaseUnavailable: for longer than a lease; answers that are known are written by the next drain.
        """
        report = DrainReport(lane)
        with self._draining:
            started = time.monotonic()
            try:
                self._arrived += self._pool.collect(0, 0, 0)[0]
                self._write(report, should_stop)  # what an earlier slice had to leave
                state = self._deliveries.state(lane)
                snoozed = state["snoozed_until"] is not None and state["snoozed_until"] > self._clock()
                gate = None if state["paused"] or snoozed else self._breaker.admit()
                # A lane whose credentials were refused is tried with one order, not with a batch.
                refused = state["paused_reason"] == CREDENTIALS
                if gate == "probe":
                    self._probe(report, should_stop)
                elif gate == "closed":
                    self._run(report, started, should_stop, 1 if refused else limit)
                else:
                    report.held_back = "outage" if gate else "paused" if state["paused"] else "snoozed"
                if refused and report.figures["delivered"]:
                    self._deliveries.resume(lane)
                report.concurrency = self._pool.concurrency
                report.seconds = time.monotonic() - started
                report.next_due = self._come_back(lane, progressed=report.figures.total() > 0)
            except BaseException:
                # A job's timeout, a database that stays away: what was not sent is given back by the next drain.
                self._arrived += self._pool.withdraw()
                self._wakeups.wake_at(lane, self._clock() + _HELD_BY_OTHERS)
                raise
        log.info(
            "%d delivered, %d to retry, %d failed in %.2f s over %d connections%s",
            *map(report.figures.__getitem__, ("delivered", "retrying", "failed")), report.seconds, report.concurrency,
            f"; held back: {report.held_back}" if report.held_back else "", extra={"lane": lane},
        )  # fmt: skip
        return report

    def _probe(self, report: DrainReport, should_stop: Callable[[], bool]) -> None:
        """One order, another one each time; when that tells nothing, the remote's own word on its health."""
        orders = self._deliveries.claim(report.lane, 1, "probe")
        for order in orders:
            send(self._sender, order, self.context.span)
            self._arrived.append(order)
            self._write(report, should_stop, probing=True)
        why = self._breaker.opened()[1]
        # That it is well says nothing of whether it takes our credentials: only an order can tell.
        if why == OUTAGE and self._sender.is_healthy():
            self._recovered |= self._breaker.served()
            self._recover()
        elif why and not orders:
            self._breaker.failed(why, probing=True)
        if self._breaker.open_until() is not None:
            report.held_back = "outage"

    def _recover(self) -> None:
        """If the breaker has closed, what waited for that alone is due, and every lane is woken."""
        if self._recovered:
            self._recovered = False
            self._deliveries.end_outage(self._clock())
            for lane in self._deliveries.due_lanes():
                self._wakeups.wake(lane)

    def _run(self, report: DrainReport, began: float, should_stop: Callable[[], bool], limit: int) -> None:
        """Claim, have sent and write, all at the same time. At most `limit` orders, for a slice from `began` (monotonic)."""
        batch, ends = self._config.delivery_batch_size, began + self._config.delivery_slice_seconds
        half = batch // 2 + 1
        dry = shared = False
        claimed, settle_by = 0, 0.0
        while True:
            halted = report.held_back is not None or time.monotonic() >= ends or should_stop()
            stopping = halted or dry or limit <= 0
            if halted:
                self._arrived += self._pool.withdraw()
            if not stopping and len(self._pool.queue) < half:
                # Another worker found the remote gone; before the first claim that was asked already.
                if claimed and self._breaker.open_until() is not None:
                    report.held_back = "outage"
                    continue
                wanted = min(batch, limit)
                claimed = self._claim_and_queue(report.lane, wanted)
                dry = claimed < wanted
                limit -= claimed
                if claimed == batch and not shared:
                    # A backlog: an idle worker may share it. If there is none, this wake-up waits for the slice's end.
                    shared = self._wakeups.wake(report.lane)
                if time.monotonic() >= began + _FAIR_SLICE and self._wakeups.others_wait(report.lane):
                    limit = 0
            arrived, idle = self._pool.collect(half, 0 if stopping else half, _SETTLE_AFTER)
            if arrived and not self._arrived:
                settle_by = time.monotonic() + _SETTLE_AFTER
            self._arrived += arrived
            unjudged = len(self._arrived)
            if unjudged and (idle or unjudged >= half or time.monotonic() >= settle_by):
                self._write(report, should_stop)
            if idle and stopping:
                if halted or limit <= 0 or not self._claim_and_queue(report.lane, 1, "suspect"):
                    return
                limit -= 1

    def _claim_and_queue(self, lane: str, limit: int, kind: Kind = "lane") -> int:
        """Have the sender threads send up to `limit` orders. Answers with how many there are."""
        send_until = time.monotonic() + self._config.delivery_lease_seconds - self._sender.timeout
        claimed = self._deliveries.claim(lane, limit, kind)
        self._pool.submit(claimed, send_until)
        return len(claimed)

    def _write(self, report: DrainReport, should_stop: Callable[[], bool], *, probing: bool = False) -> None:
        """Write what is known. A database that is away is waited for as long as a lease may last."""
        give_up_at = time.monotonic() + self._config.delivery_lease_seconds
        while True:
            try:
                self._write_once(report, probing=probing)
                break
            except DatabaseUnavailable as error:
                self._database_outage.begins(error)
                if should_stop() or time.monotonic() >= give_up_at:
                    raise
                time.sleep(_SETTLE_AFTER)
        self._recover()
        for lane in self._touched - {report.lane}:
            self._come_back(lane)
        self._touched.clear()

    def _come_back(self, lane: str, progressed: bool = True) -> datetime | None:
        """Wake the lane, or plan its next wake-up: not before what holds it back has passed.

        Due work that could not be claimed is held by somebody's open transaction: asked for again in a second,
        or a worker would spin on it.
        """
        state, soon = self._deliveries.state(lane), self._clock() + _HELD_BY_OTHERS
        if any(order.token_id == lane for order in (*self._arrived, *self._judged)):
            moment: datetime | None = soon
        elif state["next_due"] is None or state["paused"]:
            moment = None
        else:
            moment = max(
                filter(
                    None,
                    (
                        state["next_due"],
                        state["snoozed_until"],
                        self._breaker.open_until(),
                        None if progressed else soon,
                    ),
                )
            )
        if moment is not None and moment <= self._clock():
            self._wakeups.wake(lane)
        else:
            self._wakeups.wake_at(lane, moment)
        return moment

    def deliver_now(self, order_ref: UUID, lane: str) -> Answer | None:
        """Claim and send one order in this thread, with the short timeout of immediate mode.

        None: it was not due, somebody else has it, or something holds its lane back.

        Raises:
            DatabaseUnavailable: the answer could not be written; the lease will tell.
        """
        orders = [] if self._breaker.open_until() else self._deliveries.claim(order_ref, 1, "order")
        if not orders:
            return None
        timeout = self._config.microservice_immediate_timeout
        send(self._sender, orders[0], self.context.span, timeout)
        self._judge(orders, lane)
        give_up_at = time.monotonic() + timeout
        while self._settle(orders).busy and time.monotonic() < give_up_at:
            time.sleep(0.05)  # a caller holds the order; one that does so for longer leaves it to the lease
        self._recover()
        self._come_back(lane)
        answer: Answer = orders[0].answer
        return answer
