"""What callers set in motion: orders made at need, operations recorded with their keys.

With `deliveries` and `interventions` the only writer of delivery state and of an operation's status. Callers hold a write
transaction. Lock order everywhere: order, lines, operations, levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from stocksync.errors import IdempotencyConflict
from stocksync.store.context import Context, Part
from stocksync.store.database import Statement, among, rows_of, uuid_of
from stocksync.store.fields import as_utc
from stocksync.store.identifiers import content_hash
from stocksync.store.logs import LogEntry, OperationLog
from stocksync.store.states import COMPLETED, origins
from stocksync.store.tallies import Counts, Tallies

_ENSURE_ACCOUNT = Statement("""
    INSERT INTO stock_sync_accounts (token_id, active, paused, created_at)
    VALUES (:token_id, TRUE, FALSE, :now) ON CONFLICT (token_id) DO NOTHING""")
# The no-op update locks the row and answers with it, whoever inserted it first.
_ORDER = """id, has_form, told_true, form_updated_at, is_stock_updated, token_id, order_id, status, revision,
              state_version"""
_ENSURE_ORDER = Statement(f"""
    INSERT INTO stock_sync_orders
      (id, token_id, order_id, has_form, state_version, delivered_version, told_true, attempts, created_at, updated_at)
    VALUES (:id, :token_id, :order_id, FALSE, 0, 0, FALSE, 0, :now, :now)
    ON CONFLICT (token_id, order_id) DO UPDATE SET updated_at = stock_sync_orders.updated_at
    RETURNING {_ORDER}""")
_LOCK_ORDER = Statement(f"""
    SELECT {_ORDER} FROM stock_sync_orders WHERE token_id = :token_id AND order_id = :order_id {{for_update}}""")
_LOCK_ORDER_BY_ID = Statement(f"SELECT {_ORDER} FROM stock_sync_orders WHERE id = :id {{for_update}}")
_TAKE_FORM = Statement("""
    UPDATE stock_sync_orders
    SET has_form = TRUE, status = :status, revision = :revision, updated_at = :now,
        form_updated_at = CASE WHEN form_updated_at > :changed_at THEN form_updated_at
                               ELSE COALESCE(:changed_at, form_updated_at) END
    WHERE id = :id""")
_NOTE_STATUS = Statement("UPDATE stock_sync_orders SET status = :status, updated_at = :now WHERE id = :id")
_SET_IN_MOTION = Statement("""
    UPDATE stock_sync_orders
    SET is_stock_updated = :state, state_version = state_version + 1, attempts = 0, due_at = :due_at,
        waiting = :waiting, updated_at = :now
    WHERE id = :id""")
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
# Before the operations, so that a key that another transaction has just used is found here, in order.
_ADD_KEYS = Statement("""
    INSERT INTO stock_sync_keys (key, content_hash, operation_id, created_at)
    SELECT given.key, given.content_hash, given.operation_id, :now
    FROM {rows:items(key text, content_hash text, operation_id uuid)} AS given WHERE TRUE ORDER BY given.key
    ON CONFLICT (key) DO NOTHING RETURNING key""")
_FIND_KEY = Statement("SELECT content_hash, operation_id FROM stock_sync_keys WHERE key = :key")
_DONE = f"""
    UPDATE pending_stock_operations
    SET status = 'completed', completed_at = :now, updated_at = :now, next_retry_at = NULL,
        error_message = NULL, error_class = NULL
    WHERE {{which}} AND {{{{no_index}}}}status IN {among(origins(COMPLETED))} AND applied = 'yes' RETURNING id"""
_COMPLETE_ONE = Statement(_DONE.format(which="id = :which"))
_COMPLETE_ORDER = Statement(_DONE.format(which="order_ref = :which"))
_IN_DOUBT = Statement("""
    SELECT COALESCE(line_item_id, sku || '@' || warehouse), operation_type, SUM(quantity)
    FROM pending_stock_operations WHERE order_ref = :order_ref AND applied = 'unknown' GROUP BY 1, 2""")
_IS_IN_DOUBT = Statement("SELECT 1 FROM pending_stock_operations WHERE id = :id AND applied = 'unknown'")


@dataclass(frozen=True, slots=True)
class OrderRow:
    """An order as locked by this transaction."""

    id: UUID
    has_form: bool
    told_true: bool
    form_updated_at: datetime | None
    is_stock_updated: bool | None
    token_id: str
    order_id: str
    status: str | None
    revision: str | None
    state_version: int


@dataclass  # without slots: its fields are the parameters of the statement that writes it
class OperationDraft:
    """An operation about to be recorded; it belongs to no order where `order_id` is empty.

    `keys`: what makes it unrepeatable, the caller's own first. `content_hash` goes with them, to tell a repeat from a
    conflict: it is made of what was asked for, and `dataclasses.replace` keeps it.
    `applied` "unknown": an intent, before a foreign inventory is asked.
    """

    id: UUID
    operation_type: str
    token_id: str
    order_id: str
    line_item_id: str | None
    sku: str
    quantity: int
    warehouse: str
    keys: tuple[str, ...] = ()
    moves_stock: bool = False
    applied: str = "yes"
    actor: str | None = None
    reason: str | None = None
    content_hash: str = ""

    def __post_init__(self) -> None:
        what = (self.token_id, self.order_id, self.line_item_id, self.sku, self.quantity, self.warehouse)
        self.content_hash = self.content_hash or content_hash(self.operation_type, *what)

    @property
    def first_key(self) -> str | None:
        """The key that it is stored with."""
        return self.keys[0] if self.keys else None

    @property
    def line_id(self) -> str:
        """The stored line that it counts on. Without a line id the SKU in its warehouse is the line."""
        return self.line_item_id or f"{self.sku}@{self.warehouse}"


class Operations(Part):
    """Orders and operations as callers and people change them."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._log, self._tallies = OperationLog(context), Tallies(context)

    def ensure_order(self, token_id: str, order_id: str, now: datetime) -> OrderRow:
        """The order's row, made at need, locked until the transaction ends."""
        self._database.run(_ENSURE_ACCOUNT, token_id=token_id, now=now)
        which = {"token_id": token_id, "order_id": order_id}
        return order_row(self._database.run(_ENSURE_ORDER, id=self._new_id(), **which, now=now).fetchone())

    def lock_order(self, token_id: str, order_id: str) -> OrderRow | None:
        """The order's row, locked until the transaction ends; None: it is unknown."""
        row = self._database.run(_LOCK_ORDER, token_id=token_id, order_id=order_id).fetchone()
        return None if row is None else order_row(row)

    def lock_order_by_id(self, order_ref: UUID) -> OrderRow:
        """The row of an order that is there, locked until the transaction ends."""
        return order_row(self._database.run(_LOCK_ORDER_BY_ID, id=order_ref).fetchone())

    def take_form(
        self, order: OrderRow, status: str, revision: str | None, changed_at: datetime | None, now: datetime
    ) -> None:
        """Note which form of the order was seen last, and what it makes of the order."""
        said = {"status": status, "revision": revision, "changed_at": changed_at}
        self._database.run(_TAKE_FORM, id=order.id, **said, now=now)

    def note_status(self, order: OrderRow, status: str, now: datetime) -> None:
        """Note the status of an order whose form asks for nothing yet."""
        self._database.run(_NOTE_STATUS, id=order.id, status=status, now=now)

    def set_in_motion(self, order: OrderRow, state: bool | None, now: datetime, waiting: str = "new") -> None:
        """Give the order a new state version and, unless there is nothing to say, make it due now."""
        due_at, why = (None, "not_ready") if state is None else (now, waiting)
        self._database.run(_SET_IN_MOTION, id=order.id, state=state, due_at=due_at, waiting=why, now=now)

    def record(self, order: OrderRow | None, drafts: Sequence[OperationDraft], now: datetime) -> None:
        """Write the operations with their keys and their first log rows. `order` None: they belong to none.

        Raises:
            IdempotencyConflict: a key was used meanwhile; the transaction must be rolled back.
        """
        by_key = {key: draft for draft in drafts for key in draft.keys}
        keys = [
            {"key": key, "content_hash": d.content_hash, "operation_id": d.id} for key, d in by_key.items()
        ]
        rows = rows_of(self._database.run(_ADD_KEYS, items=keys, now=now)) if keys else ()
        added = {row[0] for row in rows}
        for key in by_key:
            if key not in added:
                found = self.find_key(key)
                raise IdempotencyConflict(key, found and found[1])
        place = {"order_ref": order and order.id, "order_id": order and order.order_id}
        version = order.state_version + 1 if order else 0
        common = {
            **place,
            "state_version": version,
            "max_retries": self._config.retry_max_attempts,
            "now": now,
        }
        given = [{**vars(draft), **common, "idempotency_key": draft.first_key} for draft in drafts]
        self._database.run_many(_ADD_OPERATION, given)
        self._log.add([entry for draft in drafts for entry in _first_entries(draft)], now)

    def find_key(self, key: str) -> tuple[str, UUID] | None:
        """(content hash, operation id) of a key that was used before."""
        row = self._database.run(_FIND_KEY, key=key).fetchone()
        return None if row is None else (row[0], uuid_of(row[1]))

    def in_doubt(self, order: OrderRow) -> dict[tuple[str, str], int]:
        """Units in doubt by (line id, operation type)."""
        rows = rows_of(self._database.run(_IN_DOUBT, order_ref=order.id))
        return {(row[0], row[1]): int(row[2]) for row in rows}

    def is_in_doubt(self, operation_id: UUID) -> bool:
        """Whether a person has to say if the operation was done."""
        return self._database.run(_IS_IN_DOUBT, id=operation_id).fetchone() is not None

    def complete(self, operation_id: UUID, now: datetime) -> None:
        """Complete an operation that belongs to no order: there is nobody to tell."""
        self._completed(_COMPLETE_ONE, operation_id, "it belongs to no order", now)

    def complete_at_rest(self, order: OrderRow, now: datetime) -> None:
        """Complete what waits of an order of which nothing has to be told: no delivery would ever do it."""
        why = "nothing of the order is deducted, and the remote was never told"
        self._completed(_COMPLETE_ORDER, order.id, why, now)
        self.rest(order, None, None, now)

    def _completed(self, statement: Statement, which: UUID, why: str, now: datetime) -> None:
        done = rows_of(self._database.run(statement, which=which, now=now))
        details = {"told": None, "why": f"nothing had to be told: {why}"}
        self._log.add([LogEntry(uuid_of(row[0]), "completed", COMPLETED, details) for row in done], now)
        self._tallies.add(Counts(completed=len(done)), now)

    def rest(self, order: OrderRow, state: bool | None, waiting: str | None, now: datetime) -> None:
        """Take the order out of delivery: nothing of it is wanted any more."""
        self._database.run(_REST, id=order.id, state=state, waiting=waiting, now=now)


def _first_entries(draft: OperationDraft) -> list[LogEntry]:
    said: dict[str, Any] = {"type": draft.operation_type, "quantity": draft.quantity}
    said |= {name: text for name in ("actor", "reason") if (text := getattr(draft, name)) is not None}
    asked = {"why": "a foreign inventory is being asked"}
    doubt = [LogEntry(draft.id, "in_doubt", "pending", asked)] if draft.applied == "unknown" else []
    return [LogEntry(draft.id, "created", "pending", said), *doubt]


def order_row(row: Any) -> OrderRow:
    """An order's row as any of the statements here returned it."""
    told = None if row[4] is None else bool(row[4])
    return OrderRow(uuid_of(row[0]), bool(row[1]), bool(row[2]), as_utc(row[3]), told, *row[5:])
