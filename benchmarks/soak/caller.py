"""Callers of the Python API at a steady pace: `python -m benchmarks.soak.caller`, several of these share the orders.

Open loop: order `n` is due at `start + n / rate`, whatever became of those before, and its latency counts from then.
A line for each: when it was due, when the call returned, its order, how many deliveries follow, its error if any.
"""

from __future__ import annotations

import argparse
import threading
import time
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

from benchmarks.soak.journals import Span, Writer
from stocksync.config import StockSyncConfig
from stocksync.runtime import Runtime

LANES, SKUS = 20, 500
WAREHOUSE = "Ирина"
LATE = 60.0
"""Seconds after the end for which a caller that is behind goes on."""


def sku(number: int) -> str:
    """Of the stock that is sold here."""
    return f"SOAK-{number % SKUS}"


def call(runtime: Runtime, number: int) -> None:
    """Record one order: a single deduction, a sale out of our stock, or a checkout form of two lines, in turn."""
    lane, order = f"seller-{1 + number % LANES}", f"soak-{number}"
    if number % 3 == 0:
        runtime.service.sync_stock_deduction(lane, order, sku(number), 1, line_item_id="1")
    elif number % 3 == 1:
        runtime.inventory_with_sync.remove_as_sale_with_sync(
            sku(number), WAREHOUSE, 1, order, lane, line_item_id="1"
        )
    else:
        runtime.orders.process_order_stock_update(_form(lane, order, number), warehouse=WAREHOUSE)


def _form(lane: str, order: str, number: int) -> dict[str, Any]:
    items = [
        {
            "id": str(UUID(int=number << 8 | 0x5 << 76 | line)),
            "quantity": 1,
            "offer": {"id": "1", "external": {"id": sku(number + line)}},
        }
        for line in (1, 2)
    ]
    return {
        "id": order,
        "token_id": lane,
        "status": "READY_FOR_PROCESSING",
        "revision": "1",
        "updatedAt": datetime.now(UTC).isoformat(),
        "lineItems": items,
    }


def work(
    runtime: Runtime, span: Span, rate: float, share: tuple[int, int], threads: int, writer: Writer
) -> None:
    """Make this process's share of the calls: `share` is its number and how many processes there are."""
    mine, processes = share
    numbers, taking, writing = count(mine, processes), threading.Lock(), threading.Lock()

    def act() -> None:
        while True:
            with taking:
                number = next(numbers)
            due = span.start + number / rate
            if due >= span.start + span.seconds or time.monotonic() > span.start + span.seconds + LATE:
                return
            time.sleep(max(0.0, due - time.monotonic()))
            fault = ""
            try:
                call(runtime, number)
            except Exception as error:  # every fault is a figure of the soak
                fault = f"{type(error).__name__}: {error}"[:300]
            returned = time.monotonic()
            with writing:
                writer.write(f"{due:.6f}", f"{returned:.6f}", f"soak-{number}", fault)

    workers = [threading.Thread(target=act) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser()
    for name, kind in (("start", float), ("seconds", float), ("rate", float), ("number", int), ("of", int)):
        parser.add_argument(f"--{name}", type=kind, required=True)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--journal", type=Path, required=True)
    given = parser.parse_args()
    runtime = Runtime(StockSyncConfig.load())
    span = Span(given.start, given.seconds)
    with runtime.database.scope(), Writer(given.journal) as writer:
        _ = runtime.orders, runtime.inventory_with_sync, runtime.wakeups
        span.wait()
        work(runtime, span, given.rate, (given.number, given.of), given.threads, writer)
    runtime.close()


if __name__ == "__main__":
    main()
