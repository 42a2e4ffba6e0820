"""What a person, or the answer of a foreign inventory, does to one operation: retry, cancel, roll back, confirm.

With `operations` and `deliveries` the only writer of an operation's status. Callers hold a write transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from stocksync.errors import InDoubt, TransitionRefused, UnknownOperation
from stocksync.store.context import Context, Part
from stocksync.store.database import Statement, among, rows_of, uuid_of
from stocksync.store.logs import LogEntry, OperationLog
from stocksync.store.operations import Operations, OrderRow
from stocksync.store.states import CANCELLED, can_be_retried, origins

_FIND = Statement("""
    SELECT order_ref, status, operation_type, sku, quantity, warehouse, line_item_id, applied, moves_stock
    FROM pending_stock_operations WHERE id = :id""")
_RETRY = Statement("""
    UPDATE pending_stock_operations
    SET status = 'pending', retry_count = 0, max_retries = :max_retries, next_retry_at = :now, updated_at = :now,
        error_message = NULL, error_class = NULL
    WHERE order_ref = :order_ref AND {no_index}status IN ('pending', 'failed') RETURNING id""")
_CANCEL = Statement(f"""
    UPDATE pending_stock_operations
    SET status = 'cancelled', next_retry_at = NULL, updated_at = :now, actor = COALESCE(:actor, actor),
        reason = :reason, applied = :applied
    WHERE id = :id AND status IN {among(origins(CANCELLED))} AND applied = 'yes' RETURNING id""")
_CONFIRM = Statement("""
    UPDATE pending_stock_operations SET applied = 'yes', updated_at = :now
    WHERE id = :id AND applied = 'unknown' RETURNING id""")
# Nothing happened under its key, so the same call may be made again.
_DENY = Statement("""
    UPDATE pending_stock_operations
    SET applied = 'no', status = 'cancelled', next_retry_at = NULL, idempotency_key = NULL, updated_at = :now,
        error_class = :error_class, error_message = :error_message
    WHERE id = :id AND applied = 'unknown' RETURNING id""")
_RELEASE_KEYS = Statement("DELETE FROM stock_sync_keys WHERE operation_id = :id")
_STILL_WANTED = Statement("""
    SELECT 1 FROM pending_stock_operations
    WHERE order_ref = :order_ref AND {no_index}status IN ('pending', 'processing', 'failed') LIMIT 1""")


@dataclass(frozen=True, slots=True)
class OperationRow:
    """One operation, read under the lock of its order."""

    id: UUID
    status: str
    operation_type: str
    sku: str
    quantity: int
    warehouse: str
    line_item_id: str | None
    applied: str
    moves_stock: bool

    @property
    def line_id(self) -> str:
        """The stored line that it counts on."""
        return self.line_item_id or f"{self.sku}@{self.warehouse}"


class OperationInterventions(Part):
    """Guarded changes of one operation, each with its log row."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._operations, self._log = Operations(context), OperationLog(context)

    def lock(self, operation_id: UUID, action: str) -> tuple[OrderRow, OperationRow]:
        """The locked order of an operation, and the operation as it is then. `action`: what it can't be, if so.

        Raises:
            UnknownOperation
            TransitionRefused: it belongs to no order, and so was complete at once.
        """
        found = self._database.run(_FIND, id=operation_id).fetchone()
        if found is None:
            raise UnknownOperation(operation_id)
        if found[0] is None:
            raise TransitionRefused(operation_id, action, found[1])
        order = self._operations.lock_order_by_id(uuid_of(found[0]))
        # Read again: what was seen before the lock may have changed while waiting for it.
        row = self._database.run(_FIND, id=operation_id).fetchone()
        if row is None:  # cleaned up meanwhile
            raise UnknownOperation(operation_id)
        return order, OperationRow(operation_id, *row[1:])

    def retry(self, operation_id: UUID, actor: str, reason: str | None, now: datetime) -> OrderRow:
        """Have the operation's order told again now, with all attempts before it.

        Every waiting or given-up operation of the order goes with it: they mirror one delivery.

        Raises:
            UnknownOperation, TransitionRefused
            InDoubt: nobody knows yet whether there is something to tell.
        """
        order, operation = self.lock(operation_id, "retried")
        if operation.applied == "unknown":
            raise InDoubt(operation_id)
        if not can_be_retried(operation.status) or order.is_stock_updated is None:
            raise TransitionRefused(operation_id, "retried", operation.status)
        self._operations.set_in_motion(order, order.is_stock_updated, now, waiting="manual")
        cursor = self._database.run(
            _RETRY, order_ref=order.id, max_retries=self._config.retry_max_attempts, now=now
        )
        details = {"actor": actor, "reason": reason, "operation": str(operation_id)}
        retried = [uuid_of(row[0]) for row in rows_of(cursor)]
        self._log.add([LogEntry(id, "manual_retry", "pending", details) for id in retried], now)
        return order

    def cancel(
        self, operation: OperationRow, actor: str, reason: str, now: datetime, *, put_back: bool
    ) -> None:
        """Stop the delivery of a locked operation; `put_back`: its deduction never was.

        Raises:
            InDoubt, TransitionRefused
        """
        if operation.applied == "unknown":
            raise InDoubt(operation.id)
        applied = "no" if put_back else operation.applied
        who = {"actor": actor, "reason": reason}
        if self._database.run(_CANCEL, id=operation.id, applied=applied, now=now, **who).fetchone() is None:
            raise TransitionRefused(operation.id, "cancelled", operation.status)
        details = {**who, "was": operation.status, "stock": "put back" if put_back else "kept"}
        entries = [LogEntry(operation.id, "cancelled", CANCELLED, details)]
        if put_back:
            back = {**who, "quantity": operation.quantity}
            entries.append(LogEntry(operation.id, "rolled_back", CANCELLED, back))
        self._log.add(entries, now)

    def confirm(self, operation: OperationRow, done: bool, details: Mapping[str, Any], now: datetime) -> None:
        """A locked operation in doubt was done, or not: then it is cancelled, and its keys are free again.

        Raises:
            TransitionRefused: it is not in doubt any more.
        """
        said = {name: details.get(name) for name in ("error_class", "error_message")}
        statement, status = (_CONFIRM, operation.status) if done else (_DENY, CANCELLED)
        if self._database.run(statement, id=operation.id, now=now, **said).fetchone() is None:
            raise TransitionRefused(operation.id, "confirmed: it is not in doubt", operation.status)
        if not done:
            self._database.run(_RELEASE_KEYS, id=operation.id)
        self._log.add([LogEntry(operation.id, "confirmed", status, {**details, "done": done})], now)

    def still_wanted(self, order: OrderRow) -> bool:
        """Whether an operation of the order is left to deliver."""
        return self._database.run(_STILL_WANTED, order_ref=order.id).fetchone() is not None
