"""Orders and operations: their records, and the statements by which callers and people change them.

With `deliveries` and `lanes` the only SQL that writes delivery state and an operation's status. Whoever runs a
statement holds a write transaction. Lock order everywhere: order, lines, operations, levels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from stocksync.store.context import Part
from stocksync.store.database import Statement, among, uuid_of
from stocksync.store.identifiers import content_hash, stored_key
from stocksync.store.states import CANCELLED, COMPLETED, ORIGINS
from stocksync.store.values import (
    MAX_QUANTITY,
    as_utc,
    check_quantity,
    check_token,
    check_word,
    optional_word,
)

ENSURE_ACCOUNT = Statement("""
    INSERT INTO stock_sync_accounts (token_id, active, paused, created_at)
    VALUES (:token_id, TRUE, FALSE, :now) ON CONFLICT (token_id) DO NOTHING""")
# The no-op update locks the row and answers with it, whoever inserted it first.
_ORDER = """id, has_form, ever_told_true, form_updated_at, is_stock_updated, token_id, order_id, status, revision,
              state_version"""
ENSURE_ORDER = Statement(f"""
    INSERT INTO stock_sync_orders
      (id, token_id, order_id, has_form, state_version, delivered_version, ever_told_true, attempts, created_at, updated_at)
    VALUES (:id, :token_id, :order_id, FALSE, 0, 0, FALSE, 0, :now, :now)
    ON CONFLICT (token_id, order_id) DO UPDATE SET updated_at = stock_sync_orders.updated_at
    RETURNING {_ORDER}""")
LOCK_ORDER = Statement(f"""
    SELECT {_ORDER} FROM stock_sync_orders WHERE token_id = :token_id AND order_id = :order_id {{for_update}}""")
LOCK_ORDER_OF = Statement(f"""
    SELECT {_ORDER} FROM stock_sync_orders
    WHERE id = (SELECT order_ref FROM pending_stock_operations WHERE id = :operation_id) {{for_update}}""")
TAKE_FORM = Statement("""
    UPDATE stock_sync_orders
    SET has_form = TRUE, status = :status, revision = :revision, updated_at = :now,
        form_updated_at = CASE WHEN form_updated_at > :changed_at THEN form_updated_at
                               ELSE COALESCE(:changed_at, form_updated_at) END
    WHERE id = :id""")
NOTE_STATUS = Statement("UPDATE stock_sync_orders SET status = :status, updated_at = :now WHERE id = :id")
SCHEDULE_ORDER = Statement("""
    UPDATE stock_sync_orders
    SET is_stock_updated = :state, state_version = state_version + 1, attempts = 0, due_at = :due_at,
        waiting = :waiting, updated_at = :now, traceparent = COALESCE(:traceparent, traceparent)
    WHERE id = :id""")
REST_ORDER = Statement("""
    UPDATE stock_sync_orders SET is_stock_updated = :state, due_at = NULL, waiting = :waiting, updated_at = :now
    WHERE id = :id""")
ADD_OPERATIONS = Statement("""
    INSERT INTO pending_stock_operations
      (id, order_ref, order_id, allegro_order_id, token_id, operation_type, status, sku, quantity, warehouse,
       line_item_id, idempotency_key, state_version, applied, moves_stock, retry_count, max_retries, next_retry_at,
       created_at, updated_at, actor, reason)
    SELECT given.id, :order_ref, :order_id, :order_id, token_id, operation_type, 'pending', sku, quantity, warehouse,
       line_item_id, key, :state_version, applied, moves_stock, 0, :max_retries, :now, :now, :now, actor, reason
    FROM {rows:items(id uuid, token_id text, operation_type text, sku text, quantity bigint, warehouse text,
       line_item_id text, key text, applied text, moves_stock boolean, actor text, reason text)} AS given""")
# Before the operations, so that a key that another transaction has just used is found here, in order.
ADD_KEYS = Statement("""
    INSERT INTO stock_sync_keys (key, content_hash, operation_id, created_at)
    SELECT given.key, given.content_hash, given.operation_id, :now
    FROM {rows:items(key text, content_hash text, operation_id uuid)} AS given WHERE TRUE ORDER BY given.key
    ON CONFLICT (key) DO NOTHING RETURNING key""")
FIND_KEY = Statement("""
    SELECT k.content_hash, k.operation_id, o.applied FROM stock_sync_keys AS k
    LEFT JOIN pending_stock_operations AS o ON o.id = k.operation_id WHERE k.key = :key""")
COMPLETE_OPERATIONS = Statement(f"""
    UPDATE pending_stock_operations
    SET status = 'completed', completed_at = :now, updated_at = :now, next_retry_at = NULL,
        error_message = NULL, error_class = NULL
    WHERE (id = :operation_id OR order_ref = :order_ref) AND {{no_index}}status IN {among(ORIGINS[COMPLETED])}
      AND applied = 'yes' RETURNING id""")
FIND_OPERATION = Statement("""
    SELECT operation_type, token_id, order_id, sku, quantity, warehouse, line_item_id, moves_stock, applied,
           status FROM pending_stock_operations WHERE id = :id""")
RETRY_OPERATIONS = Statement("""
    UPDATE pending_stock_operations
    SET status = 'pending', retry_count = 0, max_retries = :max_retries, next_retry_at = :now, updated_at = :now,
        error_message = NULL, error_class = NULL
    WHERE order_ref = :order_ref AND {no_index}status IN ('pending', 'failed') RETURNING id""")
CANCEL_OPERATION = Statement(f"""
    UPDATE pending_stock_operations
    SET status = 'cancelled', next_retry_at = NULL, updated_at = :now, actor = COALESCE(:actor, actor),
        reason = :reason, applied = :applied
    WHERE id = :id AND status IN {among(ORIGINS[CANCELLED])} AND applied = 'yes' RETURNING id""")
CONFIRM_OPERATION = Statement("""
    UPDATE pending_stock_operations SET applied = 'yes', updated_at = :now
    WHERE id = :id AND applied = 'unknown' RETURNING id""")
# Nothing happened under its key, so the same call may be made again.
DENY_OPERATION = Statement("""
    UPDATE pending_stock_operations
    SET applied = 'no', status = 'cancelled', next_retry_at = NULL, idempotency_key = NULL, updated_at = :now,
        error_class = :error_class, error_message = :error_message
    WHERE id = :id AND applied = 'unknown' RETURNING id""")
RELEASE_KEYS = Statement("DELETE FROM stock_sync_keys WHERE operation_id = :id")
FIND_WANTED_OPERATION = Statement("""
    SELECT 1 FROM pending_stock_operations
    WHERE order_ref = :order_ref AND {no_index}status IN ('pending', 'processing', 'failed') LIMIT 1""")
# In one statement: a call of the driver for each row would cost ten times as much as the row.
ADD_LOG_ROWS = Statement("""
    INSERT INTO stock_synchronization_logs (id, operation_id, action, status, details, timestamp, execution_time_ms)
    SELECT entry.id, entry.operation_id, entry.action, entry.status, entry.details, :now, entry.execution_time_ms
    FROM {rows:rows(id uuid, operation_id uuid, action text, status text, details jsonb, execution_time_ms int)}
      AS entry""")

_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    **dict.fromkeys(("order_id", "sku", "warehouse", "reason"), check_word),
    **dict.fromkeys(("line_item_id", "idempotency_key", "actor"), optional_word),
    "token_id": check_token,
    "quantity": check_quantity,
}
_CHECKS_OF_ADJUSTMENTS = _CHECKS | {
    "order_id": optional_word,
    "quantity": lambda field, value: check_quantity(field, value, least=-MAX_QUANTITY),
    "actor": check_word,
}


@dataclass(frozen=True, slots=True)
class OrderRow:
    """An order as locked by this transaction."""

    id: UUID
    has_form: bool
    ever_told_true: bool
    form_updated_at: datetime | None
    is_stock_updated: bool | None
    token_id: str
    order_id: str
    status: str | None
    revision: str | None
    state_version: int


@dataclass  # without slots: its fields are the parameters of the statements that write it
class Operation:
    """What a call asks for, or what moves stock: one record from the public method to the statements.

    `operation_type`: `deduction`, `refund` or `adjustment` of an order; `receipt`, `issue`, `count` or `rollback` where
    stock alone moves. `order_id` None: it belongs to no order.
    `keys`: what makes it unrepeatable, the caller's own first. `content_hash` goes with them, to tell a repeat from a
    conflict: it is made of what was asked for, and `dataclasses.replace` keeps it.
    `applied` "unknown": an intent, before a foreign inventory is asked.
    """

    id: UUID
    operation_type: str
    token_id: str
    order_id: str | None
    sku: str
    quantity: int
    warehouse: str
    line_item_id: str | None = None
    moves_stock: bool = False
    applied: str = "yes"
    status: str = "pending"
    keys: tuple[str, ...] = ()
    actor: str | None = None
    reason: str | None = None
    content_hash: str = ""

    def __post_init__(self) -> None:
        self.content_hash = self.content_hash or content_hash(
            *(self.operation_type, self.token_id, self.order_id or "", self.line_item_id),
            *(self.sku, self.quantity, self.warehouse),
        )

    @classmethod
    def asked(cls, id: UUID, operation_type: str, **given: Any) -> Self:
        """What a caller asks for by `given`, the fields and `idempotency_key`. Raises InvalidInput naming the field."""
        checks = _CHECKS_OF_ADJUSTMENTS if operation_type == "adjustment" else _CHECKS
        fields: dict[str, Any] = {name: checks[name](name, value) for name, value in given.items()}
        key, line_id = fields.pop("idempotency_key", None), fields.get("line_item_id")
        keys = [] if key is None else [f"call:{key}"]
        if operation_type == "deduction" and line_id is not None:  # one order line deducts once
            keys.append(stored_key("deduct", fields["token_id"], fields["order_id"], line_id))
        return cls(id, operation_type, keys=tuple(keys), **fields)

    @property
    def line_id(self) -> str:
        """The stored line that it counts on. Without a line id the SKU in its warehouse is the line."""
        return self.line_item_id or f"{self.sku}@{self.warehouse}"


def order_row(row: Any) -> OrderRow:
    """An order's row as any of the statements here returned it."""
    return OrderRow(
        uuid_of(row[0]),
        bool(row[1]),
        bool(row[2]),
        as_utc(row[3]),
        None if row[4] is None else bool(row[4]),
        *row[5:],
    )


@dataclass  # as `Operation`: its fields are columns
class LogEntry:
    """One event of one operation. `status` is the operation's after it; the time is in milliseconds."""

    operation_id: UUID | str
    action: str
    status: str
    details: Mapping[str, Any]
    execution_time_ms: int | None = None


class OperationLog(Part):
    """Writes log rows in the transaction of the change that they tell of."""

    def add(self, entries: Sequence[LogEntry], now: datetime) -> None:
        """Append `entries`, all at `now`, in their order (ids are made in it too)."""
        if entries:
            self._database.run(
                ADD_LOG_ROWS,
                rows=[{**vars(entry), "id": self._new_id()} for entry in entries],
                now=now,
            )
