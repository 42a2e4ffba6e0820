"""Reading for the page, the command line and callers. Writes nothing."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from peewee import SQL, ModelSelect, fn

from stocksync.domain.checkout_form import is_storable
from stocksync.domain.errors import InvalidInput, UnknownOperation, UnknownOrder
from stocksync.domain.states import PENDING, STATUSES
from stocksync.store.database import Database
from stocksync.store.models import (
    Account,
    Level,
    Movement,
    Order,
    OrderLine,
    PendingStockOperation,
    StockSynchronizationLog,
)

HEALTHY_PENDING = 100
"""The plan: healthy below this many pending operations, when none is stale."""


class Queries:
    """What is asked for, as plain dictionaries with aware UTC times."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def status_of(self, operation_id: UUID) -> str | None:
        """The operation's status; None: unknown."""
        with self._database.scope():
            row = (
                PendingStockOperation.select(PendingStockOperation.status)
                .where(PendingStockOperation.id == operation_id)
                .tuples()
                .first()
            )
        return None if row is None else str(row[0])

    def counts(self) -> dict[str, int]:
        """Operations by status, every status named."""
        operation = PendingStockOperation
        with self._database.scope():
            rows = operation.select(operation.status, fn.COUNT(SQL("*"))).group_by(operation.status).tuples()
            return dict.fromkeys(STATUSES, 0) | dict(rows)

    def status(self, now: datetime, stale_hours: float) -> dict[str, Any]:
        """The plan's status document, with the work that waits beside it."""
        operation, order = PendingStockOperation, Order
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        with self._database.scope():
            counts = self.counts()
            completed_today = operation.select().where(
                (operation.status == "completed") & (operation.completed_at >= midnight)
            )
            stale = operation.select().where(
                (operation.status == PENDING) & (operation.created_at < now - timedelta(hours=stale_hours))
            )
            # The orders' partial index answers this, however many were delivered.
            waiting = order.select(fn.COUNT(SQL("*")), fn.MIN(order.due_at)).where(
                order.due_at.is_null(False) & order.claim_id.is_null()
            )
            stale_operations, (due, oldest) = stale.count(), waiting.tuples().get()
            statistics = {
                "pending_operations": counts[PENDING],
                "failed_operations": counts["failed"],
                "completed_today": completed_today.count(),
                "stale_operations": stale_operations,
            }
        healthy = counts[PENDING] < HEALTHY_PENDING and stale_operations == 0
        return {
            "status": "healthy" if healthy else "warning",
            "statistics": statistics,
            "operations": counts,
            "orders_waiting": due,
            "next_due_at": Order.due_at.python_value(oldest),
            "last_updated": now,
        }

    def operations(
        self,
        *,
        status: str | None = None,
        order_id: str | None = None,
        in_doubt: bool = False,
        limit: int = 50,
        offset: int = 0,
    ) -> tuple[list[dict[str, Any]], int]:
        """A page of operations, the newest first, and how many there are in all.

        Args:
            in_doubt: only those of which a person must say whether they were done.

        Raises:
            InvalidInput: no such status, or a page out of bounds.
        """
        if status is not None and status not in STATUSES:
            raise InvalidInput("status", f"one of {', '.join(STATUSES)} is needed, got {status!r:.40}")
        if not 1 <= limit <= 200 or not 0 <= offset <= 100_000:
            raise InvalidInput("limit", "1 to 200 rows from an offset of at most 100000")
        operation = PendingStockOperation
        query: ModelSelect = operation.select()
        if status is not None:
            query = query.where(operation.status == status)
        if order_id is not None:
            query = query.where(operation.order_id == order_id)
        if in_doubt:
            query = query.where(SQL("applied = 'unknown'"))
        if order_id is not None and not is_storable(order_id):
            return [], 0  # no row can hold it
        with self._database.scope():
            total = query.count()
            page = (
                query.order_by(operation.created_at.desc(), operation.id.desc()).limit(limit).offset(offset)
            )
            return [_columns(row) for row in page.dicts()], total

    def operation(self, operation_id: UUID | str) -> dict[str, Any]:
        """One operation with its `log`, the oldest event first. Raises UnknownOperation."""
        operation, entry = PendingStockOperation, StockSynchronizationLog
        try:
            key = operation_id if isinstance(operation_id, UUID) else UUID(operation_id)
        except ValueError:
            raise UnknownOperation(operation_id) from None
        with self._database.scope():
            found = operation.select().where(operation.id == key).dicts().first()
            if found is None:
                raise UnknownOperation(operation_id)
            log = entry.select().where(entry.operation == key).order_by(entry.timestamp, entry.id)
            return _columns(found) | {"log": [_columns(row) for row in log.dicts()]}

    def order(self, token_id: str, order_id: str) -> dict[str, Any]:
        """One order with its `lines` and `operations`. Raises UnknownOrder.

        `differs`: what we say is not what the remote last said or accepted.
        """
        with self._database.scope():
            found = (
                Order.select().where((Order.token == token_id) & (Order.order_id == order_id)).dicts().first()
            )
            if found is None:
                raise UnknownOrder(token_id, order_id)
            lines = OrderLine.select().where(OrderLine.order == found["id"]).order_by(OrderLine.id)
            operations = (
                PendingStockOperation.select()
                .where(PendingStockOperation.order == found["id"])
                .order_by(PendingStockOperation.id)
            )
            says = found["is_stock_updated"]
            return _columns(found) | {
                "differs": says is not None and says is not found["remote_flag"],
                "lines": [_columns(row) for row in lines.dicts()],
                "operations": [_columns(row) for row in operations.dicts()],
            }

    def told(self) -> dict[tuple[str, str], tuple[bool | None, bool | None]]:
        """(token_id, order_id) -> (what we say, what the remote last accepted), of every order with something to say."""
        with self._database.scope():
            rows = Order.select(Order.token, Order.order_id, Order.is_stock_updated, Order.remote_flag).where(
                Order.is_stock_updated.is_null(False)
            )
            return {(row[0], row[1]): (row[2], row[3]) for row in rows.tuples()}

    def lanes(self) -> list[dict[str, Any]]:
        """Every seller account with the orders that wait for delivery, claimed ones left out."""
        with self._database.scope():
            waiting = (
                Order.select(Order.token, fn.COUNT(SQL("*")), fn.MIN(Order.due_at))
                .where(Order.due_at.is_null(False) & Order.claim_id.is_null())
                .group_by(Order.token)
            )
            by_lane = {lane: (count, Order.due_at.python_value(due)) for lane, count, due in waiting.tuples()}
            return [
                row
                | dict(
                    zip(
                        ("orders_waiting", "next_due_at"),
                        by_lane.get(row["token_id"], (0, None)),
                        strict=True,
                    )
                )
                for row in Account.select().order_by(Account.token_id).dicts()
            ]

    def stock(self, sku: str | None = None) -> list[dict[str, Any]]:
        """Levels by warehouse and SKU; of one SKU with its last 20 movements."""
        query = Level.select().order_by(Level.warehouse, Level.sku)
        with self._database.scope():
            if sku is None:
                return [_columns(row) for row in query.dicts()]
            rows = [_columns(row) for row in query.where(Level.sku == sku).dicts()]
            for row in rows:
                moved = (
                    Movement.select()
                    .where((Movement.sku == sku) & (Movement.warehouse == row["warehouse"]))
                    .order_by(Movement.created_at.desc(), Movement.id.desc())
                    .limit(20)
                )
                row["movements"] = [_columns(movement) for movement in moved.dicts()]
            return rows

    def on_hand(self) -> tuple[int, int]:
        """(SKUs, units on hand) over all warehouses."""
        with self._database.scope():
            skus, units = (
                Level.select(fn.COUNT(SQL("*")), fn.COALESCE(fn.SUM(Level.on_hand), 0)).tuples().get()
            )
            return int(skus), int(units)


def _columns(row: dict[str, Any]) -> dict[str, Any]:
    """A row by its column names (peewee's dictionaries name a foreign key by its attribute)."""
    renamed = {"order": "order_ref", "token": "token_id", "operation": "operation_id"}
    return {renamed.get(name, name): value for name, value in row.items()}
