"""What callers and people set in motion: orders made at need, operations recorded, retried, cancelled.

With `deliveries` the only writer of delivery state and of an operation's status. Callers hold a write
transaction. Lock order everywhere: order, lines, operations, levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from stocksync.domain.errors import TransitionRefused, UnknownOperation
from stocksync.domain.identifiers import NewId
from stocksync.domain.states import CANCELLED, can_be_retried, origins
from stocksync.store.database import Database, Statement, among, rows_of, uuid_of
from stocksync.store.fields import as_utc
from stocksync.store.logs import LogEntry, OperationLog

_ENSURE_ACCOUNT = Statement("""
    INSERT INTO stock_sync_accounts (token_id, active, paused, created_at)
    VALUES (:token_id, TRUE, FALSE, :now) ON CONFLICT (token_id) DO NOTHING""")
# The no-op update locks the row and answers with it, whoever inserted it first.
_ENSURE_ORDER = Statement("""
    INSERT INTO stock_sync_orders
      (id, token_id, order_id, has_form, state_version, delivered_version, told_true, attempts, created_at, updated_at)
    VALUES (:id, :token_id, :order_id, FALSE, 0, 0, FALSE, 0, :now, :now)
    ON CONFLICT (token_id, order_id) DO UPDATE SET updated_at = stock_sync_orders.updated_at
    RETURNING id, token_id, order_id, has_form, status, revision, form_updated_at, is_stock_updated, state_version,
              told_true, due_at, claim_id""")
_LOCK_ORDER = Statement("""
    SELECT id, token_id, order_id, has_form, status, revision, form_updated_at, is_stock_updated, state_version,
           told_true, due_at, claim_id
    FROM stock_sync_orders WHERE id = :id {for_update}""")
_TAKE_FORM = Statement("""
    UPDATE stock_sync_orders
    SET has_form = TRUE, status = :status, revision = :revision, form_updated_at = :form_updated_at, updated_at = :now
    WHERE id = :id""")
_NOTE_STATUS = Statement("UPDATE stock_sync_orders SET status = :status, updated_at = :now WHERE id = :id")
_SET_IN_MOTION = Statement("""
    UPDATE stock_sync_orders
    SET is_stock_updated = :state, state_version = state_version + 1, attempts = 0, due_at = :due_at,
        waiting = :waiting, updated_at = :now
    WHERE id = :id RETURNING state_version""")
_REST = Statement("""
    UPDATE stock_sync_orders SET is_stock_updated = :state, due_at = NULL, waiting = :waiting, updated_at = :now
    WHERE id = :id""")
_ADD_OPERATION = Statement("""
    INSERT INTO pending_stock_operations
      (id, order_ref, order_id, allegro_order_id, token_id, operation_type, status, sku, quantity, warehouse,
       line_item_id, idempotency_key, state_version, applied, moves_stock, retry_count, max_retries, next_retry_at,
       created_at, updated_at, actor, reason)
    VALUES (:id, :order_ref, :order_id, :order_id, :token_id, :operation_type, 'pending', :sku, :quantity, :warehouse,
       :line_item_id, :idempotency_key, :state_version, :applied, :moves_stock, 0, :max_retries, :now,
       :now, :now, :actor, :reason)""")
_ADD_KEY = Statement("""
    INSERT INTO stock_sync_keys (key, content_hash, operation_id, created_at)
    VALUES (:key, :content_hash, :operation_id, :now)""")
_FIND_KEY = Statement("SELECT content_hash, operation_id FROM stock_sync_keys WHERE key = :key")
_FIND_OPERATION = Statement(
    "SELECT order_ref, status, line_item_id FROM pending_stock_operations WHERE id = :id"
)
_RETRY = Statement("""
    UPDATE pending_stock_operations
    SET status = 'pending', retry_count = 0, max_retries = :max_retries, next_retry_at = :now, updated_at = :now,
        error_message = NULL, error_class = NULL
    WHERE order_ref = :order_ref AND {no_index}status IN ('pending', 'failed') RETURNING id""")
_CANCEL = Statement(f"""
    UPDATE pending_stock_operations
    SET status = 'cancelled', next_retry_at = NULL, updated_at = :now, actor = COALESCE(:actor, actor), reason = :reason
    WHERE id = :id AND status IN {among(origins(CANCELLED))} RETURNING id""")
_STILL_WANTED = Statement("""
    SELECT COUNT(*), SUM(CASE WHEN status = 'failed' THEN 1 ELSE 0 END),
           SUM(CASE WHEN applied = 'unknown' THEN 1 ELSE 0 END)
    FROM pending_stock_operations WHERE order_ref = :order_ref AND {no_index}status IN ('pending', 'processing', 'failed')""")


@dataclass(frozen=True, slots=True)
class OrderRow:
    """An order as locked by this transaction."""

    id: UUID
    token_id: str
    order_id: str
    has_form: bool
    status: str | None
    revision: str | None
    form_updated_at: datetime | None
    is_stock_updated: bool | None
    state_version: int
    told_true: bool
    due_at: datetime | None
    claimed: bool


@dataclass(frozen=True, slots=True)
class OperationDraft:
    """An operation about to be recorded. `content_hash` goes with its keys, to tell a repeat from a conflict."""

    id: UUID
    operation_type: str
    sku: str
    quantity: int
    warehouse: str
    line_item_id: str | None = None
    keys: tuple[str, ...] = ()
    content_hash: str = ""
    moves_stock: bool = False
    actor: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of an order still wants delivery: operations in all, those given up, those in doubt."""

    operations: int
    failed: int
    in_doubt: int


class Operations:
    """Orders and operations as callers and people change them."""

    def __init__(self, database: Database, new_id: NewId, log: OperationLog, max_retries: int) -> None:
        self._database = database
        self._new_id = new_id
        self._log = log
        self._max_retries = max_retries

    def ensure_order(self, token_id: str, order_id: str, now: datetime) -> OrderRow:
        """The order's row, made at need, locked until the transaction ends."""
        self._database.run(_ENSURE_ACCOUNT, token_id=token_id, now=now)
        cursor = self._database.run(
            _ENSURE_ORDER, id=self._new_id(), token_id=token_id, order_id=order_id, now=now
        )
        return _order_row(cursor.fetchone())

    def take_form(
        self,
        order: OrderRow,
        status: str,
        revision: str | None,
        form_updated_at: datetime | None,
        now: datetime,
    ) -> None:
        """Note which form of the order was seen last."""
        self._database.run(
            _TAKE_FORM,
            id=order.id,
            status=status,
            revision=revision,
            form_updated_at=form_updated_at,
            now=now,
        )

    def note_status(self, order: OrderRow, status: str, now: datetime) -> None:
        """Note the status of an order whose form asks for nothing yet."""
        self._database.run(_NOTE_STATUS, id=order.id, status=status, now=now)

    def set_in_motion(self, order: OrderRow, state: bool | None, now: datetime, waiting: str = "new") -> int:
        """Give the order a new state version and, unless there is nothing to say, make it due now."""
        due_at, reason = (None, "not_ready") if state is None else (now, waiting)
        cursor = self._database.run(
            _SET_IN_MOTION, id=order.id, state=state, due_at=due_at, waiting=reason, now=now
        )
        return int(cursor.fetchone()[0])

    def record(
        self, order: OrderRow, drafts: Sequence[OperationDraft], state_version: int, now: datetime
    ) -> None:
        """Write the operations with their keys and their first log row."""
        self._database.run_many(
            _ADD_OPERATION,
            [
                {
                    "id": draft.id,
                    "order_ref": order.id,
                    "order_id": order.order_id,
                    "token_id": order.token_id,
                    "operation_type": draft.operation_type,
                    "sku": draft.sku,
                    "quantity": draft.quantity,
                    "warehouse": draft.warehouse,
                    "line_item_id": draft.line_item_id,
                    "idempotency_key": draft.keys[0] if draft.keys else None,
                    "state_version": state_version,
                    "applied": "yes",
                    "moves_stock": draft.moves_stock,
                    "max_retries": self._max_retries,
                    "actor": draft.actor,
                    "reason": draft.reason,
                    "now": now,
                }
                for draft in drafts
            ],
        )
        self._database.run_many(
            _ADD_KEY,
            [
                {"key": key, "content_hash": draft.content_hash, "operation_id": draft.id, "now": now}
                for draft in drafts
                for key in draft.keys
            ],
        )
        self._log.add(
            [
                LogEntry(
                    draft.id, "created", "pending", {"type": draft.operation_type, "quantity": draft.quantity}
                )
                for draft in drafts
            ],
            now,
        )

    def find_key(self, key: str) -> tuple[str, UUID] | None:
        """(content hash, operation id) of a key that was used before."""
        row = self._database.run(_FIND_KEY, key=key).fetchone()
        return None if row is None else (row[0], uuid_of(row[1]))

    def lock_order_of(self, operation_id: UUID) -> tuple[OrderRow, str, str | None]:
        """The locked order of an operation, the operation's status and its line id.

        Raises:
            UnknownOperation: there is none, or it belongs to no order and so has nothing to deliver.
        """
        found = self._database.run(_FIND_OPERATION, id=operation_id).fetchone()
        if found is None or found[0] is None:
            raise UnknownOperation(operation_id)
        order = _order_row(self._database.run(_LOCK_ORDER, id=uuid_of(found[0])).fetchone())
        # Read again: what was seen before the lock may have changed while waiting for it.
        _, status, line_item_id = self._database.run(_FIND_OPERATION, id=operation_id).fetchone()
        return order, status, line_item_id

    def retry(self, operation_id: UUID, actor: str, reason: str | None, now: datetime) -> OrderRow:
        """Have the operation's order told again now, with all attempts before it.

        Every waiting or given-up operation of the order goes with it: they mirror one delivery.

        Raises:
            UnknownOperation, TransitionRefused
        """
        order, status, _ = self.lock_order_of(operation_id)
        if not can_be_retried(status) or order.is_stock_updated is None:
            raise TransitionRefused(operation_id, "retried", status)
        self.set_in_motion(order, order.is_stock_updated, now, waiting="manual")
        retried = rows_of(
            self._database.run(_RETRY, order_ref=order.id, max_retries=self._max_retries, now=now)
        )
        details = {"actor": actor, "reason": reason, "operation": str(operation_id)}
        self._log.add([LogEntry(uuid_of(row[0]), "manual_retry", "pending", details) for row in retried], now)
        return order

    def cancel(
        self, operation_id: UUID, actor: str, reason: str, now: datetime
    ) -> tuple[OrderRow, str | None]:
        """Stop the delivery of one operation; its stock stays as it is. Answers with its order and line id.

        Raises:
            UnknownOperation, TransitionRefused
        """
        order, status, line_item_id = self.lock_order_of(operation_id)
        row = self._database.run(_CANCEL, id=operation_id, actor=actor, reason=reason, now=now).fetchone()
        if row is None:
            raise TransitionRefused(operation_id, "cancelled", status)
        details = {"actor": actor, "reason": reason, "was": status, "stock": "kept"}
        self._log.add([LogEntry(operation_id, "cancelled", "cancelled", details)], now)
        return order, line_item_id

    def still_wanted(self, order: OrderRow) -> Wanted:
        """What is left of the order to deliver."""
        row = self._database.run(_STILL_WANTED, order_ref=order.id).fetchone()
        return Wanted(int(row[0]), int(row[1] or 0), int(row[2] or 0))

    def rest(self, order: OrderRow, state: bool | None, waiting: str, now: datetime) -> None:
        """Take the order out of delivery: nothing of it is wanted any more."""
        self._database.run(_REST, id=order.id, state=state, waiting=waiting, now=now)


def _order_row(row: Any) -> OrderRow:
    return OrderRow(
        id=uuid_of(row[0]),
        token_id=row[1],
        order_id=row[2],
        has_form=bool(row[3]),
        status=row[4],
        revision=row[5],
        form_updated_at=as_utc(row[6]),
        is_stock_updated=None if row[7] is None else bool(row[7]),
        state_version=row[8],
        told_true=bool(row[9]),
        due_at=as_utc(row[10]),
        claimed=row[11] is not None,
    )
