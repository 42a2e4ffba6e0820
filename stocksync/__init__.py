"""Reliable delivery of stock operations: deduct here, tell the orders microservice, lose nothing."""

from stocksync.config import StockSyncConfig
from stocksync.domain.errors import (
    ConfigurationError,
    IdempotencyConflict,
    InsufficientStock,
    InvalidInput,
    InvalidOrder,
    StockSyncError,
    TransitionRefused,
    UnknownOperation,
    UnknownWarehouse,
)
from stocksync.inventory import InventoryManager
from stocksync.orders import AllegroStockService, OrderResult
from stocksync.remote.client import OrdersClient
from stocksync.runtime import Runtime
from stocksync.service import StockSynchronizationService, SyncResult

__all__ = [
    "AllegroStockService",
    "ConfigurationError",
    "IdempotencyConflict",
    "InsufficientStock",
    "InvalidInput",
    "InvalidOrder",
    "InventoryManager",
    "OrderResult",
    "OrdersClient",
    "Runtime",
    "StockSyncConfig",
    "StockSyncError",
    "StockSynchronizationService",
    "SyncResult",
    "TransitionRefused",
    "UnknownOperation",
    "UnknownWarehouse",
]
