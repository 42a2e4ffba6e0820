"""Recorder: writes operations, moves the stock with them, and schedules their order's delivery, in one transaction.

`order_state` and `is_ready` are pure: what the remote should be told of an order (design, section 4).
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from stocksync.errors import IdempotencyConflict, InDoubt, LineTaken, RefundExceedsSale
from stocksync.store.context import Context, Part
from stocksync.store.database import uuid_of
from stocksync.store.inventory import StockLedger
from stocksync.store.operations import (
    ADD_KEYS,
    ADD_OPERATIONS,
    COMPLETE_OPERATIONS,
    ENSURE_ACCOUNT,
    ENSURE_ORDER,
    FIND_KEY,
    LOCK_ORDER,
    SCHEDULE_ORDER,
    LogEntry,
    Operation,
    OperationLog,
    OrderRow,
    order_row,
)
from stocksync.store.order_lines import DEDUCT_LINE, REFUND_LINES, Line, OrderLines
from stocksync.store.tallies import Counts, Tallies

log = logging.getLogger(__name__)
T = TypeVar("T")


def is_ready(lines: Iterable[Line]) -> bool:
    """Whether nothing holds the order up: every stock line is deducted or waived, and no operation is in doubt."""
    return not any(line.is_open or line.reserved or line.doubted for line in lines)


def order_state(lines: Iterable[Line], *, ever_told_true: bool = False) -> bool | None:
    """True or False: what should be told. None: not ready, or nothing to say.

    Args:
        lines: all lines of the order.
        ever_told_true: the remote may have heard True from us before; False is only ever said after that.
    """
    stock_lines = [line for line in lines if line.sku is not None]
    if not stock_lines or not is_ready(stock_lines):
        return None
    kept = sum(line.deducted - line.refunded for line in stock_lines) > 0
    return kept if kept or ever_told_true else None


class Recorder(Part):
    """What all calls have in common. Callers hold a write transaction, and roll it back when this raises."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.lines, self.ledger = OrderLines(context), StockLedger(context)
        self.log, self._tallies = OperationLog(context), Tallies(context)

    def in_turn(
        self, work: Callable[[], T], tries: int = 100, lost: type[IdempotencyConflict] = LineTaken
    ) -> T:
        """Do `work` in a transaction; again from the start, `tries` times in all, when another one came in between.

        Each time another transaction came further, so this ends long before its bound.

        Args:
            lost: the error that says so; by default, that a line was just moved to another order.
        """
        try:
            with self._database.transaction_scope():
                return work()
        except lost:
            if tries == 1:
                raise
        return self.in_turn(work, tries - 1, lost)

    def lock_order(self, token_id: str, order_id: str) -> OrderRow | None:
        """The order's row, locked until the transaction ends; None: it is unknown."""
        row = self._database.run(LOCK_ORDER, token_id=token_id, order_id=order_id).fetchone()
        return None if row is None else order_row(row)

    def hold(
        self, token_id: str, order_id: str, line_ids: Sequence[str], now: datetime
    ) -> tuple[OrderRow, dict[str, OrderRow]]:
        """Lock an order, created if missing, and the other orders that carry these lines so far: those by line id."""
        carriers = self.lines.carriers(token_id, line_ids)
        self._database.run(ENSURE_ACCOUNT, token_id=token_id, now=now)
        rows: dict[str, OrderRow] = {}
        # In one order, so that two who hold the same orders can't deadlock.
        for name in sorted({order_id, *carriers.values()}):
            rows[name] = order_row(
                self._database.run(
                    ENSURE_ORDER, id=self._new_id(), token_id=token_id, order_id=name, now=now
                ).fetchone()
            )
        return rows[order_id], {id: rows[name] for id, name in carriers.items() if name != order_id}

    def on_line(
        self, kind: str, order: OrderRow, line: Line, quantity: int, key: str, **more: Any
    ) -> Operation:
        """An operation on a line of the order; it moves stock where the line's is ours."""
        return Operation(
            self._new_id(),
            kind,
            order.token_id,
            order.order_id,
            str(line.sku),
            quantity,
            str(line.warehouse),
            line.named_id,
            **{"moves_stock": line.moves_stock, "keys": (key,), **more},
        )

    def count(self, order: OrderRow, operations: Sequence[Operation]) -> None:
        """Count deductions and refunds on their stored lines. Raises RefundExceedsSale.

        Where no form says how many were ordered, what is deducted was ordered too.
        """
        for one in operations:
            if one.operation_type == "deduction":
                self._database.run(
                    DEDUCT_LINE,
                    order_ref=order.id,
                    line_id=one.line_id,
                    quantity=one.quantity,
                    grows=one.line_item_id is None or not order.has_form,
                )
        back: list[dict[str, Any]] = [
            {"line_id": one.line_id, "quantity": one.quantity}
            for one in operations
            if one.operation_type == "refund"
        ]
        if back and len(self._rows(REFUND_LINES, order_ref=order.id, items=back)) < len(back):
            lines = self.lines.of(order)
            raise exceeds(
                order.order_id, [lines[one["line_id"]] for one in back], sum(one["quantity"] for one in back)
            )

    def first_of(self, operation: Operation) -> UUID | None:
        """The operation that was recorded under one of its keys before. Raises IdempotencyConflict, InDoubt."""
        for key in operation.keys:
            if found := self._database.run(FIND_KEY, key=key).fetchone():
                content_hash, first, applied = found[0], uuid_of(found[1]), found[2]
                if content_hash != operation.content_hash:
                    raise IdempotencyConflict(key, first)
                if applied == "unknown":
                    raise InDoubt(first)
                return first
        return None

    def record(
        self, order: OrderRow, operations: Sequence[Operation], now: datetime, *, wake: bool = True
    ) -> None:
        """Write operations, schedule the delivery of their order, and move the stock; without any, do nothing.

        Refunds are counted on their lines here; deductions the caller has counted. The lane is woken after the
        commit, unless `wake` is False.

        Raises:
            InsufficientStock: naming every SKU that is short.
            RefundExceedsSale
            IdempotencyConflict: a key was used meanwhile.
        """
        if not operations:
            return
        done = [one for one in operations if one.applied == "yes"]
        with self.context.span(
            "stock_sync.record", {"stock_sync.lane": order.token_id, "stock_sync.order": order.order_id}
        ) as traceparent:
            self.count(order, [one for one in done if one.operation_type == "refund"])
            self.insert(order, operations, now)
            self.schedule(order, now, wake=wake, traceparent=traceparent)
            self.ledger.move([one for one in done if one.moves_stock], now)

    def insert(self, order: OrderRow | None, operations: Sequence[Operation], now: datetime) -> None:
        """Write operations with their keys and their first log rows. `order` None: they belong to none.

        Raises:
            IdempotencyConflict: a key was used meanwhile; the transaction must be rolled back.
        """
        keys = [
            {"key": key, "content_hash": one.content_hash, "operation_id": one.id}
            for one in operations
            for key in one.keys
        ]
        added = [row[0] for row in self._rows(ADD_KEYS, items=keys, now=now)] if keys else ()
        for key in [item["key"] for item in keys if item["key"] not in added]:
            found = self._database.run(FIND_KEY, key=key).fetchone()
            raise IdempotencyConflict(str(key), found and uuid_of(found[1]))
        self._database.run(
            ADD_OPERATIONS,
            items=[{**vars(one), "key": next(iter(one.keys), None)} for one in operations],
            order_ref=order and order.id,
            order_id=order and order.order_id,
            state_version=order.state_version + 1 if order else 0,
            max_retries=self._config.retry_max_attempts,
            now=now,
        )
        self.log.add([entry for one in operations for entry in _first_entries(one)], now)

    def schedule(
        self, order: OrderRow, now: datetime, *, wake: bool = True, traceparent: str | None = None
    ) -> None:
        """Recompute the order's state from its lines and schedule its delivery.

        If there is nothing to deliver, complete its operations. `traceparent` None: it stays what it was.
        """
        lines = self.lines.of(order).values()
        state = order_state(lines, ever_told_true=order.ever_told_true)
        waiting = "new" if state is not None else None if is_ready(lines) else "not_ready"
        self._database.run(
            SCHEDULE_ORDER,
            id=order.id,
            state=state,
            due_at=None if state is None else now,
            waiting=waiting,
            traceparent=traceparent,
            now=now,
        )
        if waiting is None:
            self.complete(
                now, "nothing of the order is deducted, and the remote was never told", order_ref=order.id
            )
        elif waiting == "new" and wake:
            self.wake_after_commit(order.token_id)

    def complete(
        self, now: datetime, why: str, *, operation_id: UUID | None = None, order_ref: UUID | None = None
    ) -> None:
        """Complete an operation, or all of an order, of which there is nothing to tell: no delivery ever would."""
        ids = self._ids(COMPLETE_OPERATIONS, operation_id=operation_id, order_ref=order_ref, now=now)
        said = {"told": None, "why": f"nothing had to be told: {why}"}
        self.log.add([LogEntry(id, "completed", "completed", said) for id in ids], now)
        self._tallies.add(Counts(completed=len(ids)), now)

    def wake_after_commit(self, lane: str) -> None:
        """Wake the lane once the outermost transaction has committed."""

        def hook() -> None:
            try:
                self.context.wakeups.wake(lane)
            except Exception:  # raised here, it would report a committed transaction as failed
                log.exception("waking lane %s failed; the sweep will deliver it", lane)

        self._database.after_commit(hook)


def exceeds(order_id: str, lines: Sequence[Line], asked: int) -> RefundExceedsSale:
    """That more is asked back than is left of `lines`."""
    deducted, left = sum(line.deducted for line in lines), sum(line.left for line in lines)
    return RefundExceedsSale(
        order_id, str(lines[0].sku), deducted=deducted, refunded=deducted - left, asked=asked
    )


def _first_entries(operation: Operation) -> Iterator[LogEntry]:
    created = {
        "type": operation.operation_type,
        "quantity": operation.quantity,
        **{name: said for name in ("actor", "reason") if (said := getattr(operation, name)) is not None},
    }
    yield LogEntry(operation.id, "created", "pending", created)
    if operation.applied == "unknown":
        yield LogEntry(operation.id, "in_doubt", "pending", {"why": "a foreign inventory is being asked"})
