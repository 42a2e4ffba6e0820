"""The sender pool: what it may still send, and what comes back unsent."""

from __future__ import annotations

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


@pytest.mark.parametrize(("left", "sent"), [(60.0, 1), (-0.1, 0)])
def test_nothing_is_sent_on_a_lease_that_is_about_to_end(left: float, sent: int) -> None:
    remote = Accepting()
    pool = SendPool(remote, 0)  # whoever collects sends
    order = ClaimedOrder(uuid4(), uuid4(), "seller-1", "order-1", True, 1, 0, None)
    pool.submit([order], time.monotonic() + left)

    (back,), idle = pool.collect(1, 0, 1.0)

    assert idle
    assert remote.asked == sent
    assert (back.answer is not None) is bool(sent)
