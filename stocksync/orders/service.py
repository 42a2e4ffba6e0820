"""StockSynchronizationService: what the monolith calls. It records and delivers; it never moves stock."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from stocksync.delivery.engine import DeliveryEngine
from stocksync.errors import IdempotencyConflict, OpenTransaction
from stocksync.orders.interventions import Interventions
from stocksync.orders.recording import Recorder
from stocksync.orders.single_operations import Decision, adjust, deduct, refund
from stocksync.store.context import Context, connected
from stocksync.store.deliveries import Deliveries
from stocksync.store.operations import Operation
from stocksync.store.queries import Queries
from stocksync.store.values import DEFAULT_WAREHOUSE, check_quantity, check_token


@dataclass(frozen=True, slots=True)
class SyncResult:
    """`success`: recorded, and with `immediate=True` delivered too. `status`: the operation's."""

    success: bool
    operation_id: UUID | None = None
    error: str | None = None
    status: str | None = None


class StockSynchronizationService(Interventions):
    """Records operations and has them delivered. Bad input and database errors raise; Redis being down does not."""

    def __init__(
        self,
        context: Context,
        *,
        engine: Callable[[], DeliveryEngine],
        reconcile: Callable[[str, int | None], dict[str, Any]],
    ) -> None:
        """
        Args:
            engine: asked for only where something is delivered in this process.
        """
        super().__init__(context)
        self.recorder, self._queries = Recorder(context), Queries(context)
        self._engine = engine
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
        return self.recorded(
            deduct,
            Operation.asked(
                self._new_id(),
                "deduction",
                token_id=token_id,
                order_id=order_id,
                sku=sku,
                quantity=quantity,
                warehouse=warehouse,
                line_item_id=line_item_id,
                idempotency_key=idempotency_key,
            ),
            immediate,
        )

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
        return self.recorded(
            refund,
            Operation.asked(
                self._new_id(),
                "refund",
                token_id=token_id,
                order_id=order_id,
                sku=sku,
                quantity=quantity,
                warehouse=warehouse,
                line_item_id=line_item_id,
                idempotency_key=idempotency_key,
            ),
            immediate,
        )

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
        return self.recorded(
            adjust,
            Operation.asked(
                self._new_id(),
                "adjustment",
                token_id=token_id,
                order_id=order_id,
                sku=sku,
                quantity=quantity,
                warehouse=warehouse,
                actor=actor,
                reason=reason,
                idempotency_key=idempotency_key,
            ),
            immediate,
        )

    def recorded(
        self, decide: Decision, call: Operation, immediate: bool, ask: Callable[[], None] = lambda: None
    ) -> SyncResult:
        """Record `call` in a transaction; deliver at once where that is asked for and possible.

        Args:
            ask: called after the commit, unless the call was recorded before. No connection is held meanwhile.
        """
        immediate = immediate and not self._database.in_transaction()
        # The same call of another process may have been first by a moment, or a merge may have moved the line.
        order, first = self.recorder.in_turn(
            lambda: decide(self.recorder, call, not immediate), 3, IdempotencyConflict
        )
        if first is None:
            ask()
        operation_id, said = first or call.id, None
        if immediate and order is not None:
            delivered = self._engine().deliver_now(order.id, order.token_id)
            if delivered is None:
                self.context.wakeups.wake(order.token_id)
            said = "a delivery is under way" if delivered is None else delivered.error
        status = self._queries.status_of(operation_id)
        # None: a repeat, and what it repeats was cleaned up long ago
        if not immediate or status in ("completed", None):
            return SyncResult(True, operation_id, None, status)
        return SyncResult(False, operation_id, f"Immediate sync failed, queued for retry: {said}", status)

    @connected
    def process_pending_operations(self, limit: int = 50) -> dict[str, int]:
        """Deliver what is due in this process, without RQ.

        Args:
            limit: orders at most. The figures count operations, as in the plan.
        """
        engine, figures = self._engine(), Counter(succeeded=0, failed=0, max_retries_reached=0)
        due, now = Deliveries(self.context).due_lanes(), self._clock()
        for lane in sorted((lane for lane in due if due[lane] <= now), key=due.__getitem__):
            done = None
            while limit > 0 and done != 0:
                report = engine.drain(lane, limit=limit)
                figures.update(
                    succeeded=report.figures["operations_completed"],
                    failed=report.figures["operations_retrying"],
                    max_retries_reached=report.figures["operations_failed"],
                )
                done = sum(report.figures[name] for name in ("delivered", "retrying", "failed", "lost"))
                limit -= done
        return {"processed": figures.total(), **figures}

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
        return self._reconcile(check_token("token_id", token_id), limit)
