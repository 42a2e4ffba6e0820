"""Reading for the page, the command line and callers. Writes nothing."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from peewee import SQL, fn

from stocksync.errors import UnknownOperation, UnknownOrder
from stocksync.store.context import Part, connected
from stocksync.store.database import Statement, in_order
from stocksync.store.lanes import WAITS
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

LEVELS_BY = {
    "sku": (Level.sku, Level.warehouse),
    "warehouse": (Level.warehouse, Level.sku),
    "on_hand": (Level.on_hand, Level.sku, Level.warehouse),
    "updated_at": (Level.updated_at, Level.sku, Level.warehouse),
}
"""What the list of levels can be sorted by."""
# A partial index answers it, however many lines there are.
_WITHOUT_SKU = OrderLine.sku.is_null() & OrderLine.moved_to.is_null() & (OrderLine.quantity > 0)


class Queries(Part):
    """What is asked for, as plain dictionaries with aware UTC times."""

    @connected
    def status_of(self, operation_id: UUID) -> str | None:
        """The operation's status; None: unknown."""
        # As text, so that a SQLAlchemy session in the place of the database answers it too.
        rows = self._rows(
            Statement("SELECT status FROM pending_stock_operations WHERE id = :id"), id=operation_id
        )
        return str(rows[0][0]) if rows else None

    @connected
    def status(self, now: datetime, stale_hours: float) -> dict[str, Any]:
        """The plan's status document, with the work that waits and the figures of success beside it.

        `lost`: orders with something to tell that nobody will tell; the promise is that there are none.
        `lines_without_sku`: of the last 30 days, sold without an external id, so that nothing was deducted for them.
        """
        lists, tallies = OperationLists(self.context), Tallies(self.context)
        counts, stale = lists.by_status(), lists.stale(now, stale_hours)
        waiting, oldest = Order.select(fn.COUNT(SQL("*")), fn.MIN(Order.due_at)).where(WAITS).tuples().get()
        return {
            # The plan: healthy below 100 pending operations, when none is stale.
            "status": "healthy" if counts[PENDING] < 100 and stale == 0 else "warning",
            "statistics": {
                "pending_operations": counts[PENDING],
                "failed_operations": counts[FAILED],
                "completed_today": tallies.since(now.replace(hour=0, minute=0, second=0, microsecond=0))[
                    "completed"
                ],
                "stale_operations": stale,
            },
            "operations": counts,
            "orders_waiting": waiting,
            "next_due_at": oldest,
            "lost": int(
                self._rows(
                    Statement("""
                        SELECT COUNT(*) FROM stock_sync_orders
                        WHERE due_at IS NULL AND claim_id IS NULL AND delivered_version < state_version
                          AND is_stock_updated IS NOT NULL AND COALESCE(waiting, '') NOT IN ('failed', 'cancelled')""")
                )[0][0]
            ),
            "lines_without_sku": OrderLine.select()
            .where(_WITHOUT_SKU, OrderLine.created_at > now - timedelta(days=30))
            .count(),
            "success": {
                name: tallies.since(now - timedelta(days=days)).success()
                for name, days in (("day", 1), ("week", 7))
            },
            "last_updated": now,
        }

    @connected
    def operation(self, operation_id: UUID | str) -> dict[str, Any]:
        """One operation with its `log`, the oldest event first. Raises UnknownOperation."""
        try:
            key = UUID(str(operation_id))
        except ValueError:
            raise UnknownOperation(operation_id) from None
        found = PendingStockOperation.select().where(PendingStockOperation.id == key).dicts().first()
        if found is None:
            raise UnknownOperation(operation_id)
        return {**found, "log": _log(PendingStockOperation.id == key)}

    @connected
    def order(self, token_id: str, order_id: str) -> dict[str, Any]:
        """One order with its `lines`, its `operations` and their `log`, the oldest first. Raises UnknownOrder.

        `differs`: what we say is not what the remote last said or accepted.
        """
        order = Order.select().where(Order.token_id == token_id, Order.order_id == order_id).dicts().first()
        if order is None:
            raise UnknownOrder(token_id, order_id)
        return {
            **order,
            "log": _log(PendingStockOperation.order_ref == order["id"]),
            "differs": order["is_stock_updated"] not in (None, order["remote_flag"]),
            **{
                name: list(model.select().where(model.order_ref == order["id"]).order_by(model.id).dicts())
                for name, model in (("lines", OrderLine), ("operations", PendingStockOperation))
            },
        }

    @connected
    def lines_without_sku(self, limit: int) -> list[dict[str, Any]]:
        """Lines sold without an external id, the newest first: a product that nobody linked to a SKU."""
        return list(
            OrderLine.select(
                Order.token_id, Order.order_id, OrderLine.line_id, OrderLine.quantity, OrderLine.created_at
            )
            .join(Order)
            .where(_WITHOUT_SKU)
            .order_by(OrderLine.created_at.desc(), OrderLine.id.desc())
            .limit(limit)
            .dicts()
        )

    @connected
    def told(self) -> dict[tuple[str, str], tuple[bool | None, bool | None]]:
        """(token_id, order_id) -> (what we say, what the remote last accepted), of every order with something to say."""
        rows = (
            Order.select(Order.token_id, Order.order_id, Order.is_stock_updated, Order.remote_flag)
            .where(Order.is_stock_updated.is_null(False))
            .tuples()
        )
        return {(lane, order): (ours, remote) for lane, order, ours, remote in rows}

    @connected
    def lanes(self) -> list[dict[str, Any]]:
        """Every seller account with the orders that wait for delivery, claimed ones left out."""
        # Apart from the accounts: a join would have SQLite read every order that waits, not its index alone.
        counted = Order.select(
            Order.token_id,
            fn.COUNT(SQL("*")).alias("orders_waiting"),
            fn.MIN(Order.due_at).alias("next_due_at"),
        )
        waiting = {row["token_id"]: row for row in counted.where(WAITS).group_by(Order.token_id).dicts()}
        nothing = {"orders_waiting": 0, "next_due_at": None}
        return [
            account | waiting.get(account["token_id"], nothing)
            for account in Account.select().order_by(Account.token_id).dicts()
        ]

    def oldest_due(self, now: datetime) -> datetime | None:
        """Since when the order that waits longest has been due, free, and in a lane that is worked on."""
        return min(
            (
                lane["next_due_at"]
                for lane in self.lanes()
                if lane["next_due_at"] and not lane["paused"] and (lane["snoozed_until"] or now) <= now
            ),
            default=None,
        )

    @connected
    def stock(self, sku: str | None = None) -> list[dict[str, Any]]:
        """Levels by warehouse and SKU; of one SKU with its last 20 movements."""
        query = Level.select().order_by(Level.warehouse, Level.sku)
        if sku is None:
            return list(query.dicts())
        newest = (
            Movement.select()
            .where(Movement.sku == sku)
            .order_by(Movement.created_at.desc(), Movement.id.desc())
            .limit(20)
        )
        return [
            level | {"movements": list(newest.where(Movement.warehouse == level["warehouse"]).dicts())}
            for level in query.where(Level.sku == sku).dicts()
        ]

    @connected
    def levels(
        self, part: str, *, limit: int, offset: int = 0, order: str = "sku"
    ) -> tuple[list[dict[str, Any]], int]:
        """Levels of the SKUs that contain `part`, and how many there are.

        `balance`: what the newest movement left; it differs from `on_hand` only where something is broken.

        Args:
            order: one of LEVELS_BY, with `-` in front for falling.
        """
        query = in_order(Level.select().where(Level.sku.contains(part)), order, LEVELS_BY)
        newest = (
            Movement.select(Movement.balance_after)
            .where((Movement.sku == Level.sku) & (Movement.warehouse == Level.warehouse))
            .order_by(Movement.created_at.desc(), Movement.id.desc())
            .limit(1)
        )
        shown = query.select_extend(fn.COALESCE(newest, 0).alias("balance")).limit(limit).offset(offset)
        return list(shown.dicts()), query.count()

    @connected
    def movement_sums(self, sku: str) -> dict[str, int]:
        """What all movements of a SKU add up to, by warehouse."""
        # With the warehouses an index finds the SKU's own movements; without it reads those of all.
        query = Movement.select(Movement.warehouse, fn.SUM(Movement.delta)).where(
            Movement.warehouse.in_(Level.select(Level.warehouse).where(Level.sku == sku)), Movement.sku == sku
        )
        return {warehouse: int(total) for warehouse, total in query.group_by(Movement.warehouse).tuples()}


def _log(which: Any) -> list[dict[str, Any]]:
    """What happened to those operations, the oldest event first."""
    return list(
        StockSynchronizationLog.select()
        .join(PendingStockOperation)
        .where(which)
        .order_by(StockSynchronizationLog.timestamp, StockSynchronizationLog.id)
        .dicts()
    )
