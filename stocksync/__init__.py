"""Reliable delivery of stock operations: deduct here, tell the orders microservice, lose nothing.

Importing this loads the errors alone; every other name is loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from stocksync.errors import (
    ConfigurationError,
    IdempotencyConflict,
    InDoubt,
    InsufficientStock,
    InvalidInput,
    InvalidOrder,
    InvalidReturn,
    MissingExtra,
    NegativeStock,
    OpenTransaction,
    OrderCancelled,
    OrderHasForm,
    OrphanRefund,
    RefundExceedsSale,
    StockSyncError,
    TransitionRefused,
    UnknownOperation,
    UnknownOrder,
    UnknownWarehouse,
)

if TYPE_CHECKING:
    from stocksync.config import StockSyncConfig
    from stocksync.delivery.client import OrdersClient
    from stocksync.orders.inventory import InventoryManager, InventoryManagerWithSync
    from stocksync.orders.service import StockSynchronizationService, SyncResult
    from stocksync.orders.whole_orders import AllegroStockService, OrderResult, ReturnResult
    from stocksync.runtime import Runtime

__version__ = "1.0.0rc1"

_LOADED_WHEN_USED = {
    "StockSyncConfig": "config",
    "InventoryManager": "orders.inventory",
    "AllegroStockService": "orders.whole_orders",
    "OrderResult": "orders.whole_orders",
    "ReturnResult": "orders.whole_orders",
    "OrdersClient": "delivery.client",
    "Runtime": "runtime",
    "StockSynchronizationService": "orders.service",
    "SyncResult": "orders.service",
    "InventoryManagerWithSync": "orders.inventory",
}

__all__ = [
    "AllegroStockService",
    "ConfigurationError",
    "IdempotencyConflict",
    "InDoubt",
    "InsufficientStock",
    "InvalidInput",
    "InvalidOrder",
    "InvalidReturn",
    "InventoryManager",
    "InventoryManagerWithSync",
    "MissingExtra",
    "NegativeStock",
    "OpenTransaction",
    "OrderCancelled",
    "OrderHasForm",
    "OrderResult",
    "OrdersClient",
    "OrphanRefund",
    "RefundExceedsSale",
    "ReturnResult",
    "Runtime",
    "StockSyncConfig",
    "StockSyncError",
    "StockSynchronizationService",
    "SyncResult",
    "TransitionRefused",
    "UnknownOperation",
    "UnknownOrder",
    "UnknownWarehouse",
]


def __getattr__(name: str) -> Any:
    if name not in _LOADED_WHEN_USED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_LOADED_WHEN_USED[name]}"), name)
    return value
