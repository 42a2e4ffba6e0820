"""StockSynchronizationService: what the monolith calls. It records and delivers; it never moves stock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from stocksync.delivery.engine import DeliveryEngine
from stocksync.errors import IdempotencyConflict, OpenTransaction, UnknownOrder
from stocksync.orders.interventions import Interventions
from stocksync.orders.single_operations import Record, Recorded, Sales, call_keys, checked_token
from stocksync.store.context import Context
from stocksync.store.deliveries import Deliveries
from stocksync.store.models import DEFAULT_WAREHOUSE
from stocksync.store.operations import OperationDraft, OrderRow
from stocksync.store.queries import Queries
from stocksync.store.values import check_difference, check_quantity, check_word


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


class StockSynchronizationService(Interventions):
    """Records operations and has them delivered. Bad input and database errors raise; Redis being down does not."""

    def __init__(
        self,
        context: Context,
        *,
        engine: Callable[[], DeliveryEngine],
        reconcile: Callable[[str, int | None], dict[str, Any]],
        reporting: Reporting | None = None,
    ) -> None:
        """
        Args:
            engine: asked for only where something is delivered in this process.
            reporting: None: reads from the context's database.
        """
        super().__init__(context)
        self.sales = Sales(self.recorder)
        self._deliveries = Deliveries(context)
        self._engine = engine
        self._reporting = reporting or Queries(context)
        self._reconcile = reconcile

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
            LineTaken: another order has the line (its id is a UUID), and something of it is out.
            OrderHasForm: the order came as a form and the call names neither line nor key.
            OrderCancelled: nothing is deducted for it any more.
        """
        what = (sku, quantity, warehouse, line_item_id, idempotency_key)
        call = self.sales.call("deduction", token_id, order_id, *what)
        return self.recorded(self.sales.deduct, call, immediate)

    def sync_stock_refund(
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
        """Record that units of a recorded sale came back, and have the remote told. It never moves stock.

        Args:
            warehouse: of the sale, when it was recorded without a line id.
            line_item_id: the order line. Without it: what calls without line id deducted, else the first line of
                that SKU of which enough is left.
            idempotency_key: with it a repeated call answers with the first operation; without it each is a new one.
            immediate: as in `sync_stock_deduction`.

        Raises:
            InvalidInput, IdempotencyConflict
            OrphanRefund: no such sale is known.
            RefundExceedsSale: fewer units are left of it.
        """
        what = (sku, quantity, warehouse, line_item_id, idempotency_key)
        call = self.sales.call("refund", token_id, order_id, *what)
        return self.recorded(self.sales.refund, call, immediate)

    def sync_stock_adjustment(
        self,
        token_id: str,
        order_id: str | None,
        sku: str,
        quantity: int,
        warehouse: str = DEFAULT_WAREHOUSE,
        *,
        reason: str,
        actor: str,
        idempotency_key: str | None = None,
        immediate: bool = False,
    ) -> SyncResult:
        """Record that a person corrected stock. It never moves stock: `InventoryManager.set_on_hand` does.

        Args:
            order_id: the order whose state is told again because of it; None: complete at once.
            quantity: signed, the units that were added; not zero.
            idempotency_key, immediate: as in `sync_stock_refund`.

        Raises:
            InvalidInput, IdempotencyConflict
            UnknownOrder: nothing was ever recorded for the order.
        """
        token, order = checked_token(token_id), "" if order_id is None else check_word("order_id", order_id)
        sku, warehouse = check_word("sku", sku), check_word("warehouse", warehouse)
        what = (None, sku, check_difference("quantity", quantity), warehouse, call_keys(idempotency_key))
        draft = OperationDraft(self.recorder.new_id(), "adjustment", token, order, *what)
        draft.actor, draft.reason = check_word("actor", actor), check_word("reason", reason)
        return self.recorded(self._adjust, draft, immediate) if order else self._adjust_alone(draft)

    def recorded(self, record: Record, call: OperationDraft, immediate: bool) -> SyncResult:
        """Have `record` write `call` in a transaction; deliver at once where that is asked for and possible."""
        immediate = immediate and not self._database.in_transaction()
        with self._database.scope():
            with self._database.transaction_scope():
                done = record(call, not immediate)
            if immediate:
                return self._deliver_now(done.order, done.operation_id)
            status = self._reporting.status_of(done.operation_id)
            return SyncResult(True, done.operation_id, None, status)

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

    def reconcile_stock_status(self, token_id: str, limit: int | None = None) -> dict[str, Any]:
        """Compare a seller's orders with the remote's in this process, and repair what may be; see `upkeep.reconcile`.

        Args:
            limit: orders looked at, at most; None: all that were updated in the window.

        Returns:
            `checked`, `discrepancies` (a list), `fixed`, `complete`, and more of the run.

        Raises:
            InvalidInput
            RemoteError: the client offers no list of orders.
            OpenTransaction: what it does must outlive the caller's rollback.
        """
        if self._database.in_transaction():
            raise OpenTransaction("the remote")
        if limit is not None:
            check_quantity("limit", limit)
        return self._reconcile(checked_token(token_id), limit)

    def lanes_due(self) -> list[str]:
        """Lanes with something due now, the longest waiting first."""
        now = self.recorder.clock()
        with self._database.scope():
            due = self._deliveries.due_lanes()
        return [lane for lane, moment in sorted(due.items(), key=lambda item: item[1]) if moment <= now]

    def _adjust(self, draft: OperationDraft, wake: bool) -> Recorded:
        order = self.recorder.operations.lock_order(draft.token_id, draft.order_id)
        if order is None:
            raise UnknownOrder(draft.token_id, draft.order_id)
        if first := self.recorder.first_of(draft):
            return Recorded(order, first, True)
        self.recorder.record(order, [draft], self.recorder.clock(), wake=wake)
        return Recorded(order, draft.id, False)

    def _adjust_alone(self, draft: OperationDraft) -> SyncResult:
        operations, now = self.recorder.operations, self.recorder.clock()
        try:
            with self._database.transaction_scope():
                first = self.recorder.first_of(draft)
                if first is None:
                    operations.record(None, [draft], now)
                    operations.complete(draft.id, now)
        except IdempotencyConflict:
            # No order's lock keeps the same call of another process out: it may have been first by a moment.
            with self._database.transaction_scope():
                first = self.recorder.first_of(draft)
        return SyncResult(True, first or draft.id, None, "completed")

    def _deliver_now(self, order: OrderRow, operation_id: UUID) -> SyncResult:
        answer = self._engine().deliver_now(order.id, order.token_id)
        if answer is None:
            self.recorder.wakeups.wake(order.token_id)
        status = self._reporting.status_of(operation_id)
        if status in ("completed", None):  # None: a repeat, and what it repeats was cleaned up long ago
            return SyncResult(True, operation_id, None, status)
        said = "a delivery is under way" if answer is None else answer.error
        return SyncResult(False, operation_id, f"Immediate sync failed, queued for retry: {said}", status)
