"""Reliable delivery of stock operations: deduct here, tell the orders microservice, lose nothing."""

from stocksync.config import StockSyncConfig
from stocksync.domain.errors import (
    ConfigurationError,
    IdempotencyConflict,
    InDoubt,
    InsufficientStock,
    InvalidInput,
    InvalidOrder,
    InvalidReturn,
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
from stocksync.inventory import InventoryManager
from stocksync.orders import AllegroStockService, OrderResult, ReturnResult
from stocksync.remote.client import OrdersClient
from stocksync.runtime import Runtime
from stocksync.service import StockSynchronizationService, SyncResult
from stocksync.synced_inventory import InventoryManagerWithSync

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
