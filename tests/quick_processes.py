"""Orders for real processes whose intervals are short, to test with."""

from __future__ import annotations

import json

from stocksync.sandbox import Sandbox
from tests.processes import Processes
from tests.shop import form

QUICK = {
    "STOCK_SYNC_RETRY_INITIAL_DELAY": "1",
    "STOCK_SYNC_RETRY_MAX_ATTEMPTS": "12",
    "STOCK_SYNC_SWEEP_INTERVAL_SECONDS": "1",
    "STOCK_SYNC_MICROSERVICE_TIMEOUT": "2",
    "STOCK_SYNC_DELIVERY_LEASE_SECONDS": "3",
    "STOCK_SYNC_DELIVERY_BATCH_SIZE": "50",
}


def take_orders(shop: Processes, numbers: range) -> None:
    forms = "\n".join(json.dumps(form(f"order-{number}")) for number in numbers)
    taken = shop.command("orders", "process", "-", text=forms)
    assert taken["queued"] == len(numbers)


def flagged(sandbox: Sandbox) -> set[str]:
    return {row["order_id"] for row in sandbox.orders() if row["is_stock_updated"]}
