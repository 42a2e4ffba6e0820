"""InventoryManager: stock with its ledger. InventoryManagerWithSync: move stock and record it in one call.

Another inventory than ours can't share our transaction. So the intent is written first, in doubt; then it is asked; then
its answer is written. What a crash leaves in between stays in doubt until a person says what happened.
"""

import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from stocksync.errors import InDoubt, InvalidInput, NegativeStock, OpenTransaction, TransitionRefused
from stocksync.orders.service import StockSynchronizationService, SyncResult
from stocksync.orders.single_operations import Decision, deduct, refund
from stocksync.store.context import Context, Part, atomic, connected
from stocksync.store.inventory import LEVELS_THAT_DIFFER, REBUILD, StockLedger
from stocksync.store.operations import Operation
from stocksync.store.values import check_quantity, check_word, printable

log = logging.getLogger(__name__)

_UNCERTAIN = {"TimeoutError", "ConnectionError"} | {
    *("Timeout", "TimeoutException", "TransportError"),  # as requests and httpx call theirs
    *("ChunkedEncodingError", "ProtocolError", "HTTPException"),  # an answer that breaks off
    *("OperationalError", "InterfaceError"),  # of a database: the connection may have been lost at its COMMIT
    "BaseTimeoutException",  # RQ's, when a job's time is up
}
"""Names of errors after which nobody knows whether the inventory acted; their packages need not be installed here."""


class InventoryManager(Part):
    """Stock by SKU and warehouse. Every change is one guarded UPDATE with a movement beside it."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._ledger = StockLedger(context)

    @atomic
    def add(
        self, sku: str, warehouse: str, quantity: int, *, actor: str | None = None, reason: str | None = None
    ) -> None:
        """Goods came in. Raises InvalidInput."""
        self._move(
            "receipt",
            check_word("warehouse", warehouse),
            {check_word("sku", sku): check_quantity("quantity", quantity)},
            actor,
            reason,
        )

    @atomic
    def remove_as_sale(
        self, sku: str, warehouse: str, quantity: int, *, actor: str | None = None, reason: str | None = None
    ) -> None:
        """Goods went out, with no order to tell of. Raises InvalidInput, InsufficientStock."""
        self._move(
            "issue",
            check_word("warehouse", warehouse),
            {check_word("sku", sku): check_quantity("quantity", quantity)},
            actor,
            reason,
        )

    @atomic
    def set_on_hand(
        self,
        levels: Mapping[str, int],
        warehouse: str,
        *,
        actor: str | None = None,
        reason: str | None = None,
    ) -> int:
        """Set the counted quantity of each SKU in `levels`. Answers with how many differed.

        Raises:
            InvalidInput: a SKU or a count can't be taken; nothing was written.
        """
        warehouse = check_word("warehouse", warehouse)
        counted = {
            check_word("sku", sku): check_quantity(f"quantity of {sku}", count, least=0)
            for sku, count in levels.items()
        }
        self._ledger.hold(warehouse, counted, self._clock())
        before = self._ledger.on_hand(warehouse, counted)
        changes = {sku: count - before[sku] for sku, count in counted.items() if count != before[sku]}
        self._move("count", warehouse, changes, actor, reason)
        return len(changes)

    def differing(self) -> list[dict[str, Any]]:
        """Levels whose `on_hand` is not the sum of their movements (`moved`): something wrote past us."""
        with self._database.snapshot():
            return [
                {"warehouse": warehouse, "sku": sku, "on_hand": int(on_hand), "moved": int(moved)}
                for warehouse, sku, on_hand, moved in self._rows(LEVELS_THAT_DIFFER)
            ]

    def rebuild(self, warehouse: str, sku: str, *, actor: str | None = None) -> int:
        """Set on hand of one SKU to the sum of its movements; answers with it. The movements stay as they are.

        Raises:
            NegativeStock: the sum is below nought, where that is not allowed; nothing was written.
        """
        with self._database.transaction_scope():
            now = self._clock()
            self._ledger.hold(warehouse, [sku], now)
            row = self._database.run(REBUILD, warehouse=warehouse, sku=sku, now=now).fetchone()
            if row is None:
                raise NegativeStock(sku, warehouse)
        log.warning(
            "stock rebuild by %s: %s in %s is %d, as its movements say", actor, sku, warehouse, row[0]
        )
        return int(row[0])

    @connected
    def on_hand(self, sku: str, warehouse: str) -> int:
        """Units on hand; 0 for a SKU that was never seen."""
        return self._ledger.on_hand(warehouse, [sku]).get(sku, 0)

    def _move(
        self, cause: str, warehouse: str, quantities: Mapping[str, int], actor: str | None, reason: str | None
    ) -> None:
        self._ledger.move(
            [
                Operation(
                    self._new_id(), cause, "", None, sku, quantity, warehouse, actor=actor, reason=reason
                )
                for sku, quantity in quantities.items()
            ],
            self._clock(),
        )


class ForeignInventory(Protocol):
    """The monolith's own inventory. With `add(sku, warehouse, quantity)` it can take goods back too."""

    def remove_as_sale(self, sku: str, warehouse: str, quantity: int) -> Any:
        """Take sold units out. Raises whatever says that it did not."""


class InventoryManagerWithSync:
    """Moves stock and records it, so that neither is ever without the other."""

    def __init__(
        self,
        inventory: InventoryManager | ForeignInventory,
        service: StockSynchronizationService,
        *,
        uncertain: tuple[type[Exception], ...] | None = None,
    ) -> None:
        """
        Args:
            inventory: ours, or any object with `remove_as_sale(sku, warehouse, quantity)`. Every error that such an
                object raises means that it did not deduct, except those of the `uncertain` types.
            uncertain: None: time-outs and lost connections, Python's own and those of HTTP libraries.
        """
        self._inventory = inventory
        self._service = service
        self._uncertain = uncertain

    def remove_as_sale_with_sync(
        self,
        sku: str,
        warehouse: str,
        quantity: int,
        order_id: str,
        token_id: str,
        *,
        line_item_id: str | None = None,
        idempotency_key: str | None = None,
        actor: str | None = None,
        immediate: bool = False,
    ) -> SyncResult:
        """Deduct `quantity` units for an order and have the remote told.

        Args:
            line_item_id, idempotency_key, immediate: as in `StockSynchronizationService.sync_stock_deduction`.
            actor: who asked, kept with the operation.

        Raises:
            InvalidInput, IdempotencyConflict, OrderHasForm, OrderCancelled: nothing was deducted.
            InsufficientStock, UnknownWarehouse: of our own stock.
            InDoubt: nobody knows whether the foreign inventory deducted; repeating the call does not ask it again.
            OpenTransaction: a foreign inventory can't be asked inside one.
            Exception: what the foreign inventory raised; nothing was deducted.
        """
        return self._done(
            deduct,
            Operation.asked(
                self._service.context.new_id(),
                "deduction",
                token_id=token_id,
                order_id=order_id,
                sku=sku,
                quantity=quantity,
                warehouse=warehouse,
                line_item_id=line_item_id,
                idempotency_key=idempotency_key,
                actor=actor,
            ),
            self._inventory.remove_as_sale,
            immediate,
        )

    def return_with_sync(
        self,
        sku: str,
        warehouse: str,
        quantity: int,
        order_id: str,
        token_id: str,
        *,
        line_item_id: str | None = None,
        idempotency_key: str | None = None,
        actor: str | None = None,
        immediate: bool = False,
    ) -> SyncResult:
        """Take `quantity` units of a recorded sale back and have the remote told.

        Raises:
            InvalidInput: also when the foreign inventory has no `add`.
            OrphanRefund, RefundExceedsSale, IdempotencyConflict, InDoubt, OpenTransaction
            Exception: what the foreign inventory raised; nothing came back.
        """
        add = getattr(self._inventory, "add", None)
        if add is None:
            raise InvalidInput(
                "inventory",
                f"{type(self._inventory).__name__} has no add(sku, warehouse, quantity): "
                "put the goods back there yourself and record it with sync_stock_refund",
            )
        return self._done(
            refund,
            Operation.asked(
                self._service.context.new_id(),
                "refund",
                token_id=token_id,
                order_id=order_id,
                sku=sku,
                quantity=quantity,
                warehouse=warehouse,
                line_item_id=line_item_id,
                idempotency_key=idempotency_key,
                actor=actor,
            ),
            add,
            immediate,
        )

    def _done(
        self, decide: Decision, call: Operation, act: Callable[[str, str, int], Any], immediate: bool
    ) -> SyncResult:
        if isinstance(self._inventory, InventoryManager):
            call.moves_stock = True
            return self._service.recorded(decide, call, immediate)
        call.applied = "unknown"
        if self._service.context.database.in_transaction():
            raise OpenTransaction
        return self._service.recorded(decide, call, immediate, ask=lambda: self._ask(call, act))

    def _ask(self, call: Operation, act: Callable[[str, str, int], Any]) -> None:
        try:
            if inspect.isawaitable(act(call.sku, call.warehouse, call.quantity)):
                raise InvalidInput(
                    "inventory", "its methods are coroutines, which nobody awaits: give it plain ones"
                )
        except Exception as error:
            if self._is_uncertain(error):
                raise InDoubt(call.id) from error
            self._service.resolve(
                call.id,
                False,
                {"error_class": type(error).__name__[:255], "error_message": printable(str(error))[:300]},
            )
            raise
        try:
            self._service.resolve(call.id, True, {"actor": "the inventory answered"})
        except TransitionRefused:
            raise  # a person was faster
        except Exception as error:
            raise InDoubt(call.id) from error

    def _is_uncertain(self, error: Exception) -> bool:
        return (
            not _UNCERTAIN.isdisjoint(kind.__name__ for kind in type(error).__mro__)
            if self._uncertain is None
            else isinstance(error, self._uncertain)
        )
