"""Selling to, contradicting and comparing with a sandbox: what the tests of reconciliation do all the time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from stocksync.sandbox import Sandbox
from stocksync.store.models import Order
from tests.remote_orders import set_orders
from tests.shop import SELLER, START, WAREHOUSE, Shop, form, open_shop


def open_sandbox() -> Sandbox:
    """Not started yet; what it is told is dated within the window of a shop that opens at START."""
    return Sandbox(token="sandbox", clock=lambda: START + timedelta(minutes=1))


@contextmanager
def open_delivering_shop(database_url: str, sandbox: Sandbox, **settings: str) -> Iterator[Shop]:
    """Delivers to the sandbox over a real socket, in pages of five; the clock is the test's."""
    given = {
        "ALLEGRO_MICROSERVICE_BASE_URL": sandbox.url,
        "ALLEGRO_MICROSERVICE_JWT_TOKEN": "sandbox",
        "STOCK_SYNC_RECONCILIATION_BATCH_SIZE": "5",
    }
    with open_shop(database_url, **given | settings) as opened:
        del opened.runtime.__dict__["sender"]
        opened.stock(A=1000)
        yield opened


def sell(shop: Shop, *orders: str, **more: Any) -> None:
    """Orders taken and delivered, some minutes ago."""
    for order in orders:
        shop.orders.process_order_stock_update(form(order, **more), WAREHOUSE)
    shop.drain()
    shop.clock.advance(300)


def say(sandbox: Sandbox, flags: dict[str, bool]) -> None:
    """What the remote says from now on."""
    set_orders(
        sandbox,
        [
            {"token_id": SELLER, "order_id": order, "is_stock_updated": flag, "updated_at": START.isoformat()}
            for order, flag in flags.items()
        ],
    )


def reconcile(shop: Shop, **more: Any) -> dict[str, Any]:
    with shop.runtime.database.scope():
        return shop.runtime.reconciliation.run(SELLER, **more)


def found(report: dict[str, Any]) -> list[tuple[str, str]]:
    return sorted((one["order_id"], one["kind"]) for one in report["discrepancies"])


def versions(shop: Shop) -> dict[str, Any]:
    with shop.runtime.database.scope():
        return {row.order_id: (row.state_version, row.due_at, row.remote_seen_at) for row in Order.select()}


def flags(sandbox: Sandbox) -> dict[str, bool | None]:
    return {row["order_id"]: row["is_stock_updated"] for row in sandbox.orders()}
