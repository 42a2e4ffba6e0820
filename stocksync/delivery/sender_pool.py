"""A bounded pool of sender threads whose number follows the latency that is seen.

Without latency one connection is fastest (more only fight for the interpreter); at 50 ms sixteen are needed.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

from stocksync.delivery.answers import Answer, Verdict
from stocksync.store.context import Span, no_span
from stocksync.store.identifiers import joined
from stocksync.store.lanes import ClaimedOrder

log = logging.getLogger(__name__)

_CPU_PER_SEND = 0.0002
"""Seconds one send keeps the interpreter busy; a remote slower than that leaves room for another connection."""


class Sender(Protocol):
    """The client as the engine uses it: never raises, answers within `timeout` seconds."""

    timeout: float

    def update_stock_status(
        self,
        *,
        token_id: str,
        order_id: str,
        is_stock_updated: bool,
        idempotency_key: str | None = None,
        traceparent: str | None = None,
        timeout: float | None = None,
    ) -> Answer:
        """Tell the remote. `timeout` None: the sender's own."""

    def forget_token(self) -> None:
        """The token in use was refused."""

    def is_healthy(self, timeout: float = 3.0) -> bool:
        """Whether the remote says that it is well."""


def send(sender: Sender, order: ClaimedOrder, span: Span, timeout: float | None = None) -> float:
    """Send one order's state, under the idempotency key of its state version. Answers with how many seconds it took.

    Never raises: what goes wrong with a trace changes no answer.
    """
    started = time.monotonic()
    about: dict[str, Any] = {"stock_sync.lane": order.token_id, "stock_sync.order": order.order_id}
    put: dict[str, Any] = {"http.request.method": "PUT"}
    try:
        with (
            span("stock_sync.deliver", about, order.traceparent),
            span("PUT", put, kind="CLIENT") as traceparent,
        ):
            order.answer = _answer(sender, order, traceparent, timeout)
            put |= {"http.response.status_code": order.answer.status, "error.type": order.answer.error_class}
            about |= {
                "stock_sync.verdict": order.answer.verdict.value,
                "error.type": order.answer.error_class,
            }
    except Exception:
        log.exception("a trace failed", extra={"lane": order.token_id, "order": order.order_id})
        order.answer = order.answer or _answer(sender, order, None, timeout)
    elapsed = time.monotonic() - started
    order.duration_ms = round(elapsed * 1000)
    return elapsed


def _answer(sender: Sender, order: ClaimedOrder, traceparent: str | None, timeout: float | None) -> Answer:
    """What the sender answers. It must not raise; if it does, the order fails, not the thread.

    What such an error says is kept nowhere, a trace included: it may quote a header, and so a secret.
    """
    try:
        return sender.update_stock_status(
            token_id=order.token_id, order_id=order.order_id, is_stock_updated=order.is_stock_updated,
            idempotency_key=joined(order.token_id, order.order_id, str(order.state_version)),
            traceparent=traceparent, timeout=timeout,
        )  # fmt: skip
    except Exception as error:
        return Answer(Verdict.UNCLEAR, type(error).__name__, "the client itself failed; see the worker's log")


class SendPool:
    """Claimed orders go in and come out with their answers, in any order. One thread submits and collects.

    With a `limit` of 0 there are no sender threads: whoever collects sends.
    """

    def __init__(self, sender: Sender, limit: int, span: Span = no_span) -> None:
        self._sender, self._limit, self._span = sender, limit, span
        self._lock = threading.RLock()
        self._queued, self._collectable = threading.Condition(self._lock), threading.Condition(self._lock)
        """For sender threads, and for whoever collects: a send must not wake the threads that rest."""
        self.queue: deque[tuple[ClaimedOrder, float]] = deque()
        """Orders not yet begun, each with the moment (monotonic) past which it is not sent."""
        self._done: list[ClaimedOrder] = []
        self._latencies: deque[float] = deque(maxlen=32)
        self._threads: list[threading.Thread] = []
        self._in_flight = 0
        self.concurrency = min(1, limit)
        """Connections wanted at the latency seen last."""
        self._wake_at = (1, 0)
        """Orders done, or fewer queued: when it is worth waking up whoever collects."""
        self._closed = False

    def submit(self, orders: Sequence[ClaimedOrder], send_until: float) -> None:
        """Queue `orders`. Past `send_until` (monotonic seconds) they come back unsent."""
        with self._lock:
            self.queue.extend((order, send_until) for order in orders)
            self._start_threads()
            self._queued.notify_all()

    def collect(self, at_least: int, queued_below: int, timeout: float) -> tuple[list[ClaimedOrder], bool]:
        """Orders done so far, and whether there are no others.

        Waits for `at_least`, for the queue to run low, or for all to be done.

        Args:
            at_least: orders worth waking up for.
            queued_below: come back when fewer orders than this are queued.
            timeout: seconds to wait at most.
        """
        with self._lock:
            self._wake_at = (at_least, queued_below)
            while not self._limit and not self._worth_waking():
                self._in_flight += 1
                self._send(*self.queue.popleft())
            self._collectable.wait_for(self._worth_waking, timeout)
            done, self._done = self._done, []
            return done, not (self.queue or self._in_flight)

    def _worth_waking(self) -> bool:
        at_least, queued_below = self._wake_at
        return (
            len(self._done) >= at_least
            or len(self.queue) < queued_below
            or not (self.queue or self._in_flight)
        )

    def withdraw(self) -> list[ClaimedOrder]:
        """Take back what was not begun, as unsent."""
        with self._lock:
            taken = [order for order, _ in self.queue]
            self.queue.clear()
        return taken

    def close(self) -> None:
        """End the threads, waiting for those in a request, for the sender's time in all: a request ends within it."""
        with self._lock:
            self._closed = True
            self.queue.clear()
            self._queued.notify_all()
        deadline = time.monotonic() + self._sender.timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _start_threads(self) -> None:
        while len(self._threads) < min(self.concurrency, self._in_flight + len(self.queue)):
            index = len(self._threads)
            self._threads.append(threading.Thread(None, self._work, "sender", (index,), daemon=True))
            self._threads[index].start()

    def _work(self, index: int) -> None:
        while True:
            with self._lock:
                # A thread beyond the wanted number rests; it is there again when the remote slows down.
                self._queued.wait_for(lambda: self._closed or (bool(self.queue) and index < self.concurrency))
                if self._closed:
                    return
                queued = self.queue.popleft()
                self._in_flight += 1
            self._send(*queued)

    def _send(self, order: ClaimedOrder, send_until: float) -> None:
        elapsed = send(self._sender, order, self._span) if time.monotonic() <= send_until else None
        with self._lock:
            self._in_flight -= 1
            self._done.append(order)
            if elapsed is not None:
                self._follow(elapsed)
            if self._worth_waking():
                self._collectable.notify()

    def _follow(self, elapsed: float) -> None:
        # The fastest of the last sends: unlike their mean it does not grow by the threads' own rivalry.
        self._latencies.append(elapsed)
        wanted = min(self._limit, 1 + int(min(self._latencies) / _CPU_PER_SEND))
        if wanted != self.concurrency:
            self.concurrency = wanted
            self._start_threads()
            self._queued.notify_all()
