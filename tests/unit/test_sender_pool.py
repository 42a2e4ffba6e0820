"""The sender pool: what it may still send, and what comes back unsent."""

from __future__ import annotations

import threading
import time
from typing import Any
from uuid import uuid4

import pytest

from stocksync.delivery.answers import Answer, Verdict
from stocksync.delivery.sender_pool import SendPool
from stocksync.store.lanes import ClaimedOrder


class Accepting:
    """A remote that takes everything, and how often it was asked."""

    timeout = 8.0
    asked = 0

    def update_stock_status(self, **_: Any) -> Answer:
        self.asked += 1
        return Answer(Verdict.DELIVERED)

    def is_healthy(self, timeout: float = 3.0) -> bool:
        return timeout > 0

    def forget_token(self) -> None:
        """It has none."""


def order(order_id: str) -> ClaimedOrder:
    """One that was just claimed."""
    return ClaimedOrder(uuid4(), uuid4(), "seller-1", order_id, True, 1, 0, None)


@pytest.mark.parametrize(("left", "sent"), [(60.0, 1), (-0.1, 0)])
def test_nothing_is_sent_on_a_lease_that_is_about_to_end(left: float, sent: int) -> None:
    remote = Accepting()
    pool = SendPool(remote, 0)  # whoever collects sends
    pool.submit([order("order-1")], time.monotonic() + left)

    (back,), idle = pool.collect(1, 0, 1.0)

    assert idle
    assert remote.asked == sent
    assert (back.answer is not None) is bool(sent)


class Hanging(Accepting):
    """A remote that answers at once, then of some orders not at all: its own time-out does not help."""

    timeout = 0.3

    def __init__(self) -> None:
        self.hanging, self.ends = threading.Semaphore(0), threading.Event()

    def update_stock_status(self, **order: Any) -> Answer:
        if order["order_id"] == "hangs":
            self.hanging.release()
            self.ends.wait()
        else:
            time.sleep(0.005)  # slow enough for the pool to want several threads
        return Answer(Verdict.DELIVERED)


def test_the_end_waits_for_all_hanging_requests_together_not_for_one_after_the_other() -> None:
    remote = Hanging()
    pool = SendPool(remote, 6)
    pool.submit([order("answers")], time.monotonic() + 60)
    pool.collect(1, 0, 5.0)
    pool.submit([order("hangs") for _ in range(6)], time.monotonic() + 60)
    assert all(remote.hanging.acquire(timeout=5) for _ in range(6))

    started = time.monotonic()
    pool.close()

    try:
        assert 0.25 < time.monotonic() - started < 3 * remote.timeout
    finally:
        remote.ends.set()
