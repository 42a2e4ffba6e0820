"""StockSynchronizationService: what the monolith calls. It records and delivers; it never moves stock."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from stocksync.delivery import DeliveryEngine, Wakeups
from stocksync.domain.checkout_form import check_quantity, check_word
from stocksync.domain.errors import IdempotencyConflict, InvalidInput, OrderHasForm, UnknownOperation
from stocksync.domain.identifiers import Clock, NewId, joined
from stocksync.domain.order_state import LineState, order_state
from stocksync.store.database import Database, after_commit
from stocksync.store.deliveries import Deliveries
from stocksync.store.inventory import Line, OrderLines
from stocksync.store.models import DEFAULT_WAREHOUSE
from stocksync.store.operations import OperationDraft, Operations, OrderRow

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SyncResult:
    """`success`: recorded, and with `immediate=True` delivered too. `status`: the operation's."""

    success: bool
    operation_id: UUID | None = None
    error: str | None = None
    status: str | None = None


class Reporting(Protocol):
    """Reads the status of an operation."""

    def status_of(self, operation_id: UUID) -> str | None: ...


class StockSynchronizationService:
    """Records operations and has them delivered. Bad input and database errors raise; Redis being down does not."""

    def __init__(
        self,
        database: Database,
        operations: Operations,
        lines: OrderLines,
        deliveries: Deliveries,
        wakeups: Wakeups,
        *,
        clock: Clock,
        new_id: NewId,
        engine: Callable[[], DeliveryEngine],
        reporting: Reporting,
    ) -> None:
        """
        Args:
            engine: asked for only where something is delivered in this process.
        """
        self._database = database
        self._operations = operations
        self._lines = lines
        self._deliveries = deliveries
        self._wakeups = wakeups
        self._clock = clock
        self._new_id = new_id
        self._engine = engine
        self._reporting = reporting

    def sync_stock_deduction(
        self,
        token_id: str,
        order_id: str,
        sku: str,
        quantity: int,
        warehouse: str = DEFAULT_WAREHOUSE,
        *,
        line_item_id: str | None = None,
        idempotency_key: str | None = None,
        immediate: bool = False,
    ) -> SyncResult:
        """Record that the caller deducted `quantity` units of `sku` for an order, and have the remote told.

        Args:
            token_id: the seller account; its lane.
            line_item_id: the order line. With it, or with a key, a repeated call answers with the first operation.
            idempotency_key: any text of the caller's own.
            immediate: deliver in this call, with a short deadline. Not delivered: `success=False`, queued for
                retry. Inside an open transaction it is only queued.

        Raises:
            InvalidInput: a value can't be taken.
            IdempotencyConflict: the key or line was used before with other content.
            OrderHasForm: the order came as a form and the call names neither line nor key.
        """
        token_id, order_id = str(check_word("token_id", str(token_id))), check_word("order_id", order_id)
        sku, warehouse = check_word("sku", sku), check_word("warehouse", warehouse)
        quantity = check_quantity("quantity", quantity)
        line_item_id = None if line_item_id is None else check_word("line_item_id", line_item_id)
        keys = _keys(token_id, order_id, line_item_id, idempotency_key)
        content = content_hash("deduction", token_id, order_id, line_item_id, sku, quantity, warehouse)
        draft = OperationDraft(
            self._new_id(), "deduction", sku, quantity, warehouse, line_item_id, keys, content
        )
        immediate = immediate and not self._database.in_transaction()
        with self._database.scope():
            with self._database.transaction_scope():
                now = self._clock()
                order = self._operations.ensure_order(token_id, order_id, now)
                first = self._first_with(keys, content)
                if first is None:
                    if order.has_form and not keys:
                        raise OrderHasForm(order_id)
                    self._add_to_line(order, draft, now)
                    self.record(order, [draft], now, wake=not immediate)
            if immediate:
                return self._deliver_now(order, first or draft.id)
            return SyncResult(True, draft.id, None, "pending") if first is None else self._repeated(first)

    def record(
        self, order: OrderRow, drafts: list[OperationDraft], now: datetime, *, wake: bool = True
    ) -> None:
        """In the caller's transaction: write operations whose lines are written already, and set the order in motion.

        The lane is woken after the commit, unless `wake` is False.
        """
        state = self.state_of(order)
        version = self._operations.set_in_motion(order, state, now)
        self._operations.record(order, drafts, version, now)
        if state is not None and wake:
            self.wake_after_commit(order.token_id)

    def _first_with(self, keys: tuple[str, ...], content: str) -> UUID | None:
        for key in keys:
            if found := self._operations.find_key(key):
                if found[0] != content:
                    raise IdempotencyConflict(key, found[1])
                return found[1]
        return None

    def _repeated(self, operation_id: UUID) -> SyncResult:
        return SyncResult(True, operation_id, None, self._reporting.status_of(operation_id))

    def state_of(self, order: OrderRow, *, in_doubt: bool = False) -> bool | None:
        """What should be told of the order, by its lines as they are now."""
        lines = self._lines.of(order.id).values()
        return order_state(
            [
                LineState(line.sku is not None, line.quantity, line.deducted, line.refunded, line.waived)
                for line in lines
            ],
            in_doubt=in_doubt,
            told_true=order.told_true or order.is_stock_updated is True,
        )

    def wake_after_commit(self, lane: str) -> None:
        """Wake the lane once the outermost transaction has committed."""

        def hook() -> None:
            try:
                self._wakeups.wake(lane)
            except Exception:  # raised here, it would report a committed transaction as failed
                log.exception("waking lane %s failed; the sweep will deliver it", lane)

        after_commit(self._database, hook)

    def retry(self, operation_id: UUID | str, *, actor: str, reason: str | None = None) -> None:
        """Have a waiting or given-up operation delivered now, with all attempts before it.

        Raises:
            UnknownOperation, TransitionRefused
        """
        with self._database.transaction_scope():
            order = self._operations.retry(
                _uuid(operation_id), check_word("actor", actor), reason, self._clock()
            )
            self.wake_after_commit(order.token_id)

    def cancel(self, operation_id: UUID | str, *, actor: str, reason: str) -> None:
        """Stop the delivery of an operation. Its stock stays deducted; its line no longer holds the order up.

        Raises:
            UnknownOperation, TransitionRefused, InvalidInput: no reason was given.
        """
        actor, reason = check_word("actor", actor), check_word("reason", reason)
        with self._database.transaction_scope():
            now = self._clock()
            order, line_id = self._operations.cancel(_uuid(operation_id), actor, reason, now)
            if line_id is not None:
                self._lines.waive(order.id, line_id)
            wanted = self._operations.still_wanted(order)
            state = self.state_of(order, in_doubt=wanted.in_doubt > 0)
            if wanted.operations == 0:
                self._operations.rest(order, state, "cancelled", now)
            elif order.is_stock_updated is None and state is not None:
                # Only the cancelled one held the order up.
                self._operations.set_in_motion(order, state, now)
                self.wake_after_commit(order.token_id)

    def process_pending_operations(self, limit: int = 50) -> dict[str, int]:
        """Deliver what is due in this process, without RQ.

        Args:
            limit: orders at most. The figures count operations, as in the plan.
        """
        engine, figures = self._engine(), dict.fromkeys(("succeeded", "failed", "max_retries_reached"), 0)
        remaining = limit
        with self._database.scope():
            for lane in self.lanes_due():
                while remaining > 0:
                    report = engine.drain(lane, limit=remaining)
                    figures["succeeded"] += report.operations_completed
                    figures["failed"] += report.operations_retrying
                    figures["max_retries_reached"] += report.operations_failed
                    done = report.delivered + report.retrying + report.failed + report.lost
                    remaining -= done
                    if done == 0:
                        break
        return {"processed": sum(figures.values()), **figures}

    def lanes_due(self) -> list[str]:
        """Lanes with something due now, the longest waiting first."""
        now = self._clock()
        with self._database.scope():
            due = self._deliveries.due_lanes()
        return [lane for lane, moment in sorted(due.items(), key=lambda item: item[1]) if moment <= now]

    def _add_to_line(self, order: OrderRow, draft: OperationDraft, now: datetime) -> None:
        # Without a line id the SKU in its warehouse is the line; such calls add up.
        line_id = draft.line_item_id or f"{draft.sku}@{draft.warehouse}"
        known = self._lines.of(order.id).get(line_id)
        if known is None:
            line = Line(line_id, draft.sku, draft.warehouse, draft.quantity, draft.quantity)
            self._lines.add(order.id, [line], now)
        elif (known.sku, known.warehouse) != (draft.sku, draft.warehouse):
            raise InvalidInput(
                "line_item_id", f"line {line_id} is of SKU {known.sku} in warehouse {known.warehouse}"
            )
        else:
            self._lines.grow(order.id, line_id, draft.quantity)

    def _deliver_now(self, order: OrderRow, operation_id: UUID) -> SyncResult:
        answer = self._engine().deliver_now(order.id, order.token_id)
        if answer is None:
            self._wakeups.wake(order.token_id)
        status = self._reporting.status_of(operation_id)
        if status == "completed":
            return SyncResult(True, operation_id, None, status)
        said = "a delivery is under way" if answer is None else answer.error
        return SyncResult(False, operation_id, f"Immediate sync failed, queued for retry: {said}", status)


def content_hash(*parts: Any) -> str:
    """A short digest of what an idempotency key stands for."""
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest()[:32]


def deduction_key(token_id: str, order_id: str, line_id: str) -> str:
    """The key under which one order line deducts, once."""
    return joined("deduct", token_id, order_id, line_id)


def _keys(token_id: str, order_id: str, line_item_id: str | None, given: str | None) -> tuple[str, ...]:
    line = () if line_item_id is None else (deduction_key(token_id, order_id, line_item_id),)
    return (f"call:{check_word('idempotency_key', given)}", *line) if given is not None else line


def _uuid(value: UUID | str) -> UUID:
    if isinstance(value, UUID):
        return value
    try:
        return UUID(value)
    except (ValueError, AttributeError, TypeError):
        raise UnknownOperation(value) from None
