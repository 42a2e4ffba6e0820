"""Orders of a sandbox, changed as if somebody else had told the microservice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from stocksync.sandbox.microservice import Microservice


def set_orders(remote: Microservice, orders: Iterable[Mapping[str, Any]]) -> None:
    """Set or remove orders.

    Each has `token_id`, `order_id` and either `is_stock_updated`, with an ISO 8601 `updated_at` unless it is now, or
    `removed`: True.
    """
    with remote._lock:
        for order in orders:
            key = order["token_id"], order["order_id"]
            if order.get("removed"):
                remote._orders.pop(key, None)
            else:
                remote._set(*key, order["is_stock_updated"], order.get("updated_at"))
