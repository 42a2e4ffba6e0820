"""Reading for the page, the command line and callers. Writes nothing."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from peewee import SQL, fn

from stocksync.errors import UnknownOperation, UnknownOrder
from stocksync.store.context import Context, Part
from stocksync.store.database import Statement
from stocksync.store.models import (
    Account,
    Level,
    Movement,
    Order,
    OrderLine,
    PendingStockOperation,
    StockSynchronizationLog,
)
from stocksync.store.operation_lists import OperationLists
from stocksync.store.states import FAILED, PENDING
from stocksync.store.tallies import Tallies
from stocksync.store.values import as_utc

HEALTHY_PENDING = 100
"""The plan: healthy below this many pending operations, when none is stale."""

# As text, so that a SQLAlchemy session in the place of the database answers it too.
_STATUS_OF = Statement("SELECT status FROM pending_stock_operations WHERE id = :id")
_WAITING = Statement(
    "SELECT COUNT(*), MIN(due_at) FROM stock_sync_orders WHERE due_at IS NOT NULL AND claim_id IS NULL"
)
_LOST = Statement("""
    SELECT COUNT(*) FROM stock_sync_orders
    WHERE due_at IS NULL AND claim_id IS NULL AND delivered_version < state_version
      AND is_stock_updated IS NOT NULL AND COALESCE(waiting, '') NOT IN ('failed', 'cancelled')""")


NEWLY_SOLD = timedelta(days=30)
"""How far back `status` counts lines that were sold without an external id."""
_WITHOUT_SKU = OrderLine.sku.is_null() & OrderLine.moved_to.is_null() & (OrderLine.quantity > 0)


class Queries(Part):
    """What is asked for, as plain dictionaries with aware UTC times."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._lists, self._tallies = OperationLists(context), Tallies(context)

    def status_of(self, operation_id: UUID) -> str | None:
        """The operation's status; None: unknown."""
        with self._database.scope():
            row = self._database.run(_STATUS_OF, id=operation_id).fetchone()
        return None if row is None else str(row[0])

    def status(self, now: datetime, stale_hours: float) -> dict[str, Any]:
        """The plan's status document, with the work that waits and the figures of success beside it.

        `lost`: orders with something to tell that nobody will tell; the promise is that there are none.
        `lines_without_sku`: of the last 30 days, sold without an external id, so that nothing was deducted for them.
        """
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        with self._database.scope():
            counts, stale = self._lists.by_status(), self._lists.stale(now, stale_hours)
            # The orders' partial indexes answer these, however many were delivered.
            due, oldest = self._database.run(_WAITING).fetchone()
            lost = int(self._database.run(_LOST).fetchone()[0])
            success = {
                name: self._tallies.since(now - span).success()
                for name, span in (("day", timedelta(days=1)), ("week", timedelta(days=7)))
            }
            completed_today = self._tallies.since(midnight)["completed"]
            lately = OrderLine.select().where(_WITHOUT_SKU & (OrderLine.created_at > now - NEWLY_SOLD))
            without_sku = lately.count()
        return {
            "status": "healthy" if counts[PENDING] < HEALTHY_PENDING and stale == 0 else "warning",
            "statistics": {
                "pending_operations": counts[PENDING],
                "failed_operations": counts[FAILED],
                "completed_today": completed_today,
                "stale_operations": stale,
            },
            "operations": counts,
            "orders_waiting": due,
            "next_due_at": as_utc(oldest),
            "lost": lost,
            "lines_without_sku": without_sku,
            "success": success,
            "last_updated": now,
        }

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

    def lines_without_sku(self, limit: int) -> list[dict[str, Any]]:
        """Lines sold without an external id, the newest first: a product that nobody linked to a SKU."""
        with self._database.scope():
            rows = (
                OrderLine.select(
                    Order.token, Order.order_id, OrderLine.line_id, OrderLine.quantity, OrderLine.created_at
                )
                .join(Order)
                .where(_WITHOUT_SKU)
                .order_by(OrderLine.created_at.desc(), OrderLine.id.desc())
                .limit(limit)
            )
            return [_columns(row) for row in rows.dicts()]

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

    def levels(self, part: str, *, limit: int, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
        """Levels of the SKUs that contain `part`, and how many there are.

        `balance`: what the newest movement left; it differs from `on_hand` only where something is broken.
        """
        query = Level.select().order_by(Level.sku, Level.warehouse)
        if part:
            query = query.where(Level.sku.contains(part))
        newest = (
            Movement.select(Movement.balance_after)
            .where((Movement.sku == Level.sku) & (Movement.warehouse == Level.warehouse))
            .order_by(Movement.created_at.desc(), Movement.id.desc())
            .limit(1)
        )
        with self._database.scope():
            shown = query.select_extend(fn.COALESCE(newest, 0).alias("balance")).limit(limit).offset(offset)
            return list(shown.dicts()), query.count()

    def movement_sums(self, sku: str) -> dict[str, int]:
        """What all movements of a SKU add up to, by warehouse."""
        query = Movement.select(Movement.warehouse, fn.SUM(Movement.delta)).where(Movement.sku == sku)
        with self._database.scope():
            return {warehouse: int(total) for warehouse, total in query.group_by(Movement.warehouse).tuples()}

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
