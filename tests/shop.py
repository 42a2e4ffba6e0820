"""A small shop to test with: a runtime on a real database, a clock to move, and a remote that does as it is told."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from stocksync import StockSyncConfig, testing
from stocksync.delivery.answers import Answer, Verdict
from stocksync.delivery.settlement import DrainReport
from stocksync.runtime import Runtime
from stocksync.store.audit import audit
from stocksync.store.migrate import migrate
from stocksync.store.models import Order, PendingStockOperation
from stocksync.store.operation_lists import Filter

SELLER = "seller-1"
WAREHOUSE = "Ирина"
START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DELIVERED = Answer(Verdict.DELIVERED, status=200)
REFUSED = Answer(Verdict.REJECTED, "NotSuccessful", "not today", 200)
NO_ANSWER = Answer(Verdict.UNCLEAR, "Timeout", "no complete answer within 8 s")


class Clock(testing.Clock):
    """Begins at START unless told otherwise."""

    def __init__(self, now: datetime = START) -> None:
        super().__init__(now)


class ScriptedRemote:
    """A sender in the place of OrdersClient: keeps the flags it was told, answers as `answer` says."""

    timeout = 8.0

    def __init__(self) -> None:
        self.flags: dict[tuple[str, str], bool] = {}
        self.calls: list[tuple[str, bool, str | None]] = []
        self.answer: Callable[[str], Answer] = lambda _: DELIVERED
        self.applies_before_failing = False
        self.healthy = True
        self.tokens_forgotten = 0
        self.takes_time: Callable[[], None] = lambda: None
        self._lock = threading.Lock()

    def forget_token(self) -> None:
        self.tokens_forgotten += 1

    def is_healthy(self, timeout: float = 3.0) -> bool:
        del timeout
        self.takes_time()
        return self.healthy

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
        del timeout, traceparent
        self.takes_time()
        answer = self.answer(order_id)
        with self._lock:
            self.calls.append((order_id, is_stock_updated, idempotency_key))
            if answer.success or self.applies_before_failing:
                self.flags[token_id, order_id] = is_stock_updated
        return answer


class Shop:
    """Everything composed, with what tests look at close at hand."""

    def __init__(self, database_url: str, settings: Mapping[str, str] | None = None) -> None:
        self.clock = Clock()
        self.remote = ScriptedRemote()
        self.wakeups = testing.RecordedWakeups()
        config = StockSyncConfig.load({"DATABASE_URL": database_url, **(settings or {})})
        self.runtime = Runtime(config, clock=self.clock, rng=random.Random(7), wakeups=self.wakeups)
        self.runtime.sender = self.remote
        migrate(self.runtime.database)
        self.service = self.runtime.service
        self.orders = self.runtime.orders

    def stock(self, **levels: int) -> None:
        """Count what is on hand, `sku=units`."""
        self.runtime.inventory.set_on_hand(levels, WAREHOUSE)

    def on_hand(self, sku: str) -> int:
        return self.runtime.inventory.on_hand(sku, WAREHOUSE)

    def deduct(self, order_id: str = "order-1", sku: str = "A", quantity: int = 1, **more: Any) -> Any:
        """Record one deduction; answers with the operation's id."""
        return self.service.sync_stock_deduction(SELLER, order_id, sku, quantity, **more).operation_id

    def refund(self, order_id: str = "order-1", sku: str = "A", quantity: int = 1, **more: Any) -> Any:
        """Record one refund; answers with the operation's id."""
        return self.service.sync_stock_refund(SELLER, order_id, sku, quantity, **more).operation_id

    def line(self, line_id: str, order_id: str = "order-1") -> dict[str, Any]:
        """One stored line."""
        lines = self.runtime.queries.order(SELLER, order_id)["lines"]
        return next(line for line in lines if line["line_id"] == line_id)

    def flag(self, order_id: str = "order-1") -> bool | None:
        """What the remote holds of the order; None: it was never told."""
        return self.remote.flags.get((SELLER, order_id))

    def meanwhile(self, act: Callable[[], Any]) -> None:
        """Have `act` done while the next request is on its way."""

        def once() -> None:
            self.remote.takes_time = lambda: None
            act()

        self.remote.takes_time = once

    def drain(self, lane: str = SELLER) -> DrainReport:
        with self.runtime.database.scope():
            return self.runtime.engine.drain(lane)

    def order(self, order_id: str = "order-1") -> Any:
        """The order's row."""
        with self.runtime.database.scope():
            return Order.get(Order.order_id == order_id)

    def operation(self, operation_id: Any) -> dict[str, Any]:
        """The operation with its log."""
        return self.runtime.queries.operation(operation_id)

    def actions(self, operation_id: Any) -> list[str]:
        """What its log says, in order."""
        return [entry["action"] for entry in self.operation(operation_id)["log"]]

    def statuses(self) -> list[str]:
        with self.runtime.database.scope():
            query = PendingStockOperation.select(PendingStockOperation.status).order_by(
                PendingStockOperation.id
            )
            return [row.status for row in query]

    def broken_promises(self) -> list[str]:
        return [finding.check for finding in audit(self.runtime.database)]

    def close(self) -> None:
        self.runtime.close()


@contextmanager
def open_shop(database_url: str, **settings: str) -> Iterator[Shop]:
    """A shop for the length of a test."""
    shop = Shop(database_url, settings)
    try:
        yield shop
    finally:
        shop.close()


def listed(runtime: Runtime, **wanted: Any) -> list[dict[str, Any]]:
    """The newest operations that match."""
    return runtime.operation_lists.page(Filter(**wanted), runtime.clock()).operations


def goods(
    return_id: str = "return-1",
    line: str | None = "line-1",
    sku: str = "A",
    quantity: int = 1,
    order: str = "order-1",
) -> dict[str, Any]:
    """A return, as in a file of returns."""
    return {
        "return_id": return_id,
        "token_id": SELLER,
        "order_id": order,
        "line_item_id": line,
        "sku": sku,
        "quantity": quantity,
    }


def later(lines: Mapping[str, tuple[str | None, int]], **more: Any) -> dict[str, Any]:
    """The second revision of an order."""
    return form(**{"lines": lines, "revision": "r2", "updated_at": "2026-03-01T11:30:00Z"} | more)


def form(
    order_id: str = "order-1",
    lines: Mapping[str, tuple[str | None, int]] | None = None,
    *,
    status: str = "READY_FOR_PROCESSING",
    token_id: str = SELLER,
    revision: str | None = "r1",
    updated_at: str | None = "2026-03-01T11:00:00.000Z",
    fulfillment: str = "NEW",
) -> dict[str, Any]:
    """A checkout form; `lines`: line id -> (sku or None, quantity)."""
    given = {"line-1": ("A", 1)} if lines is None else lines
    return {
        "id": order_id,
        "token_id": token_id,
        "status": status,
        "fulfillment": {"status": fulfillment},
        "lineItems": [
            {
                "id": line_id,
                "quantity": quantity,
                "offer": {"id": "1", "external": {"id": sku} if sku else None},
            }
            for line_id, (sku, quantity) in given.items()
        ],
        "revision": revision,
        "updatedAt": updated_at,
    }
