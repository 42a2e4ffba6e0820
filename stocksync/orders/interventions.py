"""What a person may do with one operation or many: have them retried, cancel them, say what one in doubt came to."""

import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from stocksync.errors import (
    DatabaseUnavailable,
    InDoubt,
    InvalidInput,
    StockSyncError,
    TransitionRefused,
    UnknownOperation,
)
from stocksync.orders.checkout_form import CANCELLED, SELLER_CANCELLED
from stocksync.orders.recording import Recorder, exceeds, order_state
from stocksync.store.context import Part, atomic
from stocksync.store.operation_lists import Filter, OperationLists
from stocksync.store.operations import (
    CANCEL_OPERATION,
    CONFIRM_OPERATION,
    DENY_OPERATION,
    FIND_OPERATION,
    FIND_WANTED_OPERATION,
    LOCK_ORDER_OF,
    RELEASE_KEYS,
    REST_ORDER,
    RETRY_OPERATIONS,
    SCHEDULE_ORDER,
    LogEntry,
    Operation,
    OrderRow,
    order_row,
)
from stocksync.store.order_lines import FORGET_LINE, REVISE_LINES, UNDO_DEDUCTION, WAIVE_LINE
from stocksync.store.states import ACTIONS
from stocksync.store.values import check_word, optional_word

log = logging.getLogger(__name__)

LONGEST = 20.0
"""Seconds that one call with many operations may take; what is left waits for the next."""


class Interventions(Part):
    """The service's calls for people; each is written to the operation's log with who and why."""

    recorder: Recorder

    def retry(self, operation_id: UUID | str, *, actor: str, reason: str | None = None) -> None:
        """Have a waiting or given-up operation delivered now, with all attempts before it.

        Every waiting or given-up operation of its order goes with it: they mirror one delivery.

        Raises:
            UnknownOperation, TransitionRefused
            InDoubt: nobody knows yet whether there is something to tell.
        """
        who = {
            "actor": check_word("actor", actor),
            "reason": optional_word("reason", (reason or "").strip() or None),
        }
        with self._database.transaction_scope():
            now = self._clock()
            order, operation = self._lock(operation_id, "retried")
            if operation.status not in ACTIONS["retry"] or order.is_stock_updated is None:
                raise TransitionRefused(operation_id, "retried", operation.status)
            self._database.run(
                SCHEDULE_ORDER,
                id=order.id,
                state=order.is_stock_updated,
                due_at=now,
                waiting="manual",
                now=now,
                traceparent=None,
            )
            retried = self._ids(
                RETRY_OPERATIONS, order_ref=order.id, max_retries=self._config.retry_max_attempts, now=now
            )
            said = {**who, "operation": str(operation.id)}
            self.recorder.log.add([LogEntry(id, "manual_retry", "pending", said) for id in retried], now)
            self.recorder.wake_after_commit(order.token_id)
        log.info(
            "retried by %s",
            who["actor"],
            extra={"operation": operation_id, "lane": order.token_id, "order": order.order_id},
        )

    def cancel(self, operation_id: UUID | str, *, actor: str, reason: str, put_back: bool = False) -> None:
        """Stop the delivery of an operation. Its line no longer holds the order up.

        Args:
            put_back: the deduction never was: its units come back into our stock. Otherwise they stay deducted.

        Raises:
            UnknownOperation, TransitionRefused, InDoubt
            InvalidInput: no reason was given, or the operation took nothing out of our stock.
            RefundExceedsSale: the units can't be put back, because they came back already.
        """
        who = {"actor": check_word("actor", actor), "reason": check_word("reason", reason)}
        recorder, run = self.recorder, self._database.run
        with self._database.transaction_scope():
            now = self._clock()
            order, operation = self._lock(operation_id, "cancelled")
            applied, stock = ("no", "put back") if put_back else ("yes", "kept")
            if not self._rows(CANCEL_OPERATION, id=operation.id, applied=applied, **who, now=now):
                raise TransitionRefused(operation_id, "cancelled", operation.status)
            said: dict[str, Any] = {"cancelled": {**who, "was": operation.status, "stock": stock}}
            run(WAIVE_LINE, order_ref=order.id, line_id=operation.line_id)
            if put_back:
                self._undo(order, operation)
                said["rolled_back"] = {**who, "quantity": operation.quantity}
            recorder.log.add(
                [LogEntry(operation.id, action, "cancelled", said[action]) for action in said], now
            )
            state = order_state(recorder.lines.of(order).values(), ever_told_true=order.ever_told_true)
            changed = state is not order.is_stock_updated
            if not (changed and state is False) and not self._rows(FIND_WANTED_OPERATION, order_ref=order.id):
                run(REST_ORDER, id=order.id, state=state, waiting="cancelled", now=now)
            elif changed:
                recorder.schedule(order, now)
            if put_back:
                recorder.ledger.move(
                    [replace(operation, operation_type="rollback", actor=who["actor"], reason=who["reason"])],
                    now,
                )
        log.info(
            "cancelled by %s",
            who["actor"],
            extra={"operation": operation_id, "lane": order.token_id, "order": order.order_id},
        )

    def confirm(
        self, operation_id: UUID | str, deducted: bool, *, actor: str, reason: str | None = None
    ) -> None:
        """Say what an operation in doubt came to: whether the foreign inventory did it.

        Args:
            deducted: it was done (a refund: the goods were put back). False: the operation is cancelled, and the
                same call may be made again.

        Raises:
            UnknownOperation
            TransitionRefused: it is not in doubt.
        """
        self.resolve(
            operation_id,
            deducted,
            {
                "actor": check_word("actor", actor),
                "reason": optional_word("reason", (reason or "").strip() or None),
            },
        )
        log.info(
            "confirmed by %s as %s",
            actor,
            "done" if deducted else "not done",
            extra={"operation": operation_id},
        )

    @atomic
    def resolve(self, operation_id: UUID | str, done: bool, details: Mapping[str, Any]) -> None:
        """Write what an operation in doubt came to; `details` say who knows. Raises as `confirm` does."""
        recorder, run, now = self.recorder, self._database.run, self._clock()
        order, operation = self._lock(operation_id, "confirmed")
        statement, status = (CONFIRM_OPERATION, operation.status) if done else (DENY_OPERATION, "cancelled")
        if not self._rows(
            statement,
            id=operation.id,
            now=now,
            error_class=details.get("error_class"),
            error_message=details.get("error_message"),
        ):
            raise TransitionRefused(operation.id, "confirmed: it is not in doubt", operation.status)
        if done:
            recorder.count(order, [operation])
        else:  # its keys are free again
            run(RELEASE_KEYS, id=operation.id)
        recorder.log.add([LogEntry(operation.id, "confirmed", status, {**details, "done": done})], now)
        line = recorder.lines.of(order)[operation.line_id]
        which = {"order_ref": order.id, "line_id": line.line_id}
        # What was not done no longer holds the order up. Without a form nobody else ordered it.
        if line.deducted < line.quantity and order.has_form:
            run(WAIVE_LINE, **which)
        elif line.deducted < line.quantity:
            run(
                REVISE_LINES,
                items=[vars(replace(line, quantity=line.deducted + line.doubted))],
                order_ref=order.id,
            )
            run(FORGET_LINE, **which)
        # What came too late for a cancellation, or for the form that lowered its line, goes back at once.
        excess = line.left - (0 if order.status in (CANCELLED, SELLER_CANCELLED) else line.quantity)
        if excess > 0:
            line = replace(line, sku=operation.sku, warehouse=operation.warehouse)
            refund = recorder.on_line(
                "refund", order, line, excess, f"excess:{operation.id}", reason="the order had changed"
            )
            recorder.record(order, [refund], now)
        else:
            recorder.schedule(order, now)

    def _lock(self, operation_id: UUID | str, action: str) -> tuple[OrderRow, Operation]:
        """The locked order of an operation, and the operation as it is then. `action`: what it can't be, if so.

        Raises:
            UnknownOperation
            TransitionRefused: it belongs to no order, and so was complete at once.
            InDoubt: it must be confirmed first.
        """
        try:
            id = UUID(str(operation_id))
        except ValueError:
            raise UnknownOperation(operation_id) from None
        order = self._database.run(LOCK_ORDER_OF, operation_id=id).fetchone()
        row = self._database.run(FIND_OPERATION, id=id).fetchone()
        if row is None:
            raise UnknownOperation(operation_id)
        operation = Operation(id, *row)
        if order is None:
            raise TransitionRefused(operation_id, action, operation.status)
        if operation.applied == "unknown" and action != "confirmed":
            raise InDoubt(operation_id)
        return order_row(order), operation

    def _undo(self, order: OrderRow, operation: Operation) -> None:
        if operation.operation_type != "deduction" or not operation.moves_stock:
            raise InvalidInput(
                "put_back", f"operation {operation.id} took nothing out of our stock: cancel it without"
            )
        line = self.recorder.lines.of(order)[operation.line_id]
        if line.sku != operation.sku:
            raise InvalidInput(
                "put_back",
                f"line {line.line_id} became {line.sku} since, and its {operation.sku} came back then",
            )
        if not self._rows(
            UNDO_DEDUCTION,
            order_ref=order.id,
            line_id=line.line_id,
            quantity=operation.quantity,
            reserved=line.reserved,
        ):
            raise exceeds(order.order_id, [line], operation.quantity)


@dataclass(slots=True)
class BulkReport:
    """`skipped`: reason -> operations; a status where that was the reason. `next`: go on below it; None: at the end."""

    done: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    next: UUID | None = None


def matching(lists: OperationLists, wanted: Filter, before: UUID | None = None) -> Iterator[UUID]:
    """The ids of all that match, read in slices, the newest first; what is recorded meanwhile is left out."""
    while ids := lists.ids(wanted, 200, before):
        yield from ids
        before = ids[-1]


def act_on(
    ids: Iterable[UUID],
    act: Callable[[UUID], object],
    *,
    longest: float = LONGEST,
    monotonic: Callable[[], float] = time.monotonic,
) -> BulkReport:
    """Call `act` for each, each in a transaction of its own; what it refuses is skipped.

    Raises:
        DatabaseUnavailable: what was done before holds.
    """
    report, ends, last = BulkReport(), monotonic() + longest, None
    for operation_id in ids:
        if last is not None and monotonic() >= ends:
            report.next = last
            break
        try:
            act(operation_id)
            report.done += 1
        except DatabaseUnavailable:
            raise
        except TransitionRefused as error:
            report.skipped[error.status] += 1
        except StockSyncError as error:  # `in_doubt`, `unknown_operation`
            report.skipped[re.sub(r"(?<!^)([A-Z])", r"_\1", type(error).__name__).lower()] += 1
        last = operation_id
    return report
