"""InventoryManagerWithSync: deduct and record in one call, from our own stock or from an inventory kept elsewhere.

A foreign inventory can't share our transaction. So the intent is written first, in doubt; then it is asked; then
its answer is written. What a crash leaves in between stays in doubt until a person says what happened.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from stocksync.errors import InDoubt, InvalidInput, OpenTransaction, TransitionRefused
from stocksync.orders.inventory import InventoryManager
from stocksync.orders.service import StockSynchronizationService, SyncResult
from stocksync.orders.single_operations import Record
from stocksync.store.values import check_word, printable

UNCERTAIN: tuple[type[Exception], ...] = (TimeoutError, ConnectionError)
"""Errors after which nobody knows whether the inventory acted."""
_UNCERTAIN_NAMES = frozenset(
    {"Timeout", "ConnectionError", "TimeoutException", "TransportError", "BaseTimeoutException"}
)
"""The same as requests and httpx call theirs, which need not be installed here; the last is RQ's, when a job's time is up."""

Act = Callable[[str, str, int], Any]


class ForeignInventory(Protocol):
    """The monolith's own inventory. With `add(sku, warehouse, quantity)` it can take goods back too."""

    def remove_as_sale(self, sku: str, warehouse: str, quantity: int) -> Any: ...


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
        self._ours = isinstance(inventory, InventoryManager)
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
        asked = ("deduction", token_id, order_id, sku, quantity, warehouse, line_item_id, idempotency_key)
        return self._done(self._service.sales.deduct, asked, self._inventory.remove_as_sale, actor, immediate)

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
            lacks = f"{type(self._inventory).__name__} has no add(sku, warehouse, quantity)"
            way_out = "put the goods back there yourself and record it with sync_stock_refund"
            raise InvalidInput("inventory", f"{lacks}: {way_out}")
        asked = ("refund", token_id, order_id, sku, quantity, warehouse, line_item_id, idempotency_key)
        return self._done(self._service.sales.refund, asked, add, actor, immediate)

    def _done(
        self, record: Record, asked: tuple[Any, ...], act: Act, actor: str | None, immediate: bool
    ) -> SyncResult:
        call = self._service.sales.call(*asked)
        call.actor = None if actor is None else check_word("actor", actor)
        call.moves_stock, call.applied = self._ours, "yes" if self._ours else "unknown"
        if self._ours:
            return self._service.recorded(record, call, immediate)
        database = self._service.recorder.database
        if database.in_transaction():
            raise OpenTransaction
        with database.transaction_scope():
            intent = record(call, True)
        if not intent.repeated:
            self._ask(intent.operation_id, lambda: act(call.sku, call.warehouse, call.quantity))
        return self._service.recorded(lambda *_: intent, call, immediate)

    def _is_uncertain(self, error: Exception) -> bool:
        if self._uncertain is not None:
            return isinstance(error, self._uncertain)
        names = {kind.__name__ for kind in type(error).__mro__}
        return isinstance(error, UNCERTAIN) or not names.isdisjoint(_UNCERTAIN_NAMES)

    def _ask(self, operation_id: Any, act: Callable[[], Any]) -> None:
        try:
            act()
        except Exception as error:
            if self._is_uncertain(error):
                raise InDoubt(operation_id) from error
            said = {"error_class": type(error).__name__[:255], "error_message": printable(str(error))[:300]}
            self._service.resolve(operation_id, False, said)
            raise
        try:
            self._service.resolve(operation_id, True, {"actor": "the inventory answered"})
        except TransitionRefused:
            raise  # a person was faster
        except Exception as error:
            raise InDoubt(operation_id) from error
