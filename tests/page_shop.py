"""A shop in which everything that a page can show has happened, and the real application to show it.

`python -m tests.page_shop FILE.sqlite3 [PORT]` fills a new database and serves it without a login, to look at.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from werkzeug.serving import make_server

from stocksync import StockSyncConfig
from stocksync.delivery.answers import Answer, RemoteOrder, RemotePage, Verdict
from stocksync.errors import InDoubt
from stocksync.orders.inventory import InventoryManagerWithSync
from stocksync.runtime import Runtime
from stocksync.sandbox import Sandbox
from stocksync.store.alerts import Condition
from stocksync.web import create_app
from tests.shop import DELIVERED, NO_ANSWER, REFUSED, SELLER, WAREHOUSE, Shop, form, open_shop

ANSWERS = {
    "refused": REFUSED,
    "silent": NO_ANSWER,
    "unknown": Answer(Verdict.REJECTED, "Http404", "Заказ не найден в системе заказов", 404),
    "invalid": Answer(
        Verdict.INVALID, "Http422", "order is archived and read-only since 2026-02-11T09:14:00Z", 422
    ),
    "broken": Answer(Verdict.UNCLEAR, "Http502", "HTTP 502: <html><title>Bad Gateway</title>", 502),
}
"""What the remote says of orders whose id begins so."""
LASTS = timedelta(days=2, hours=11, minutes=56, seconds=37)
PAUSED, SNOOZED = "seller-paused", "seller-snoozed"


class Elsewhere:
    """An inventory of somebody else whose answer is lost."""

    def remove_as_sale(self, *_: Any, **__: Any) -> None:
        raise TimeoutError("no answer from the warehouse program")


class ListedOrders:
    """The remote's list, for a comparison: it forgot one order, and claims another one."""

    def __init__(self, rows: dict[str, bool]) -> None:
        self._rows = {order: RemoteOrder(order, flag) for order, flag in rows.items()}

    def list_orders(self, **_: Any) -> RemotePage:
        return RemotePage(list(self._rows.values()), None)

    def find_order(self, *, order_id: str, **_: Any) -> RemoteOrder | None:
        return self._rows.get(order_id)


def fill(shop: Shop) -> dict[str, UUID]:
    """Play it all; answers with an operation's id for each state, by its name. The clock goes on by LASTS."""
    found = _yesterday(shop)
    found["doubt"] = _in_doubt(shop)
    for token in (PAUSED, SNOOZED):
        _sell(shop, f"order-{token}", token=token)
    shop.runtime.deliveries.pause(PAUSED, "anna: аккаунт переезжает")
    shop.runtime.deliveries.snooze(SNOOZED, shop.clock.now + timedelta(minutes=10))
    _compare(shop)
    shop.clock.advance(3 * 3600)
    for number in range(16):
        _sell(shop, f"today-{number:04}", ("KAWA-1KG", "HERBATA-CZ")[number % 2])
        shop.clock.advance((2, 8, 40, 3)[number % 4])
        _go(shop, seconds=1400)
    for kind in ("refused", "silent", "broken"):
        found["waiting"] = _sell(shop, f"{kind}-3")
    _go(shop, 1, 5)
    found["pending"] = _sell(shop, "order-new", "HERBATA-CZ", 2)
    with shop.runtime.database.scope():
        shop.runtime.tallies.fold(shop.clock.now)
    _alert(shop)
    return found


def _sell(shop: Shop, order: str, sku: str = "KAWA-1KG", quantity: int = 1, token: str = SELLER) -> UUID:
    done = shop.orders.process_order_stock_update(
        form(order, {f"line-{order}": (sku, quantity)}, token_id=token), WAREHOUSE
    )
    return done.operations[0]


def _go(shop: Shop, rounds: int = 1, seconds: float = 60) -> None:
    for _ in range(rounds):
        shop.drain()
        shop.clock.advance(seconds)


def _yesterday(shop: Shop) -> dict[str, UUID]:
    """What is at an end, given up, cancelled, returned and retried."""
    shop.remote.answer = lambda order: ANSWERS.get(order.partition("-")[0], DELIVERED)
    shop.stock(**{"KAWA-1KG": 40, "HERBATA-CZ": 120, "KUBEK-BIAŁY": 3, "FILTR-04": 250})
    found: dict[str, UUID] = {}

    for number in range(12):
        found["completed"] = _sell(shop, f"order-{number:04}", ("KAWA-1KG", "HERBATA-CZ")[number % 2])
        _go(shop, seconds=3600)
    for kind in ("refused", "unknown", "invalid"):
        found["failed"] = _sell(shop, f"{kind}-1", "FILTR-04", 2)
    _go(shop, 6, 3700)
    found["cancelled"] = _sell(shop, "cancelled-1")
    shop.service.cancel(found["cancelled"], actor="anna", reason="Покупатель передумал", put_back=True)
    found["returned"] = _sell(shop, "order-returned", "KUBEK-BIAŁY")
    _go(shop)
    shop.service.sync_stock_refund(
        SELLER, "order-returned", "KUBEK-BIAŁY", 1, line_item_id="line-order-returned"
    )
    _go(shop)
    found["again"] = _sell(shop, "refused-later", "FILTR-04")
    _go(shop, 2, 200)
    shop.remote.answer = lambda order: (
        DELIVERED if order == "refused-later" else ANSWERS.get(order.partition("-")[0], DELIVERED)
    )
    _go(shop, 2, 300)
    found["retried"] = _sell(shop, "refused-2")
    _go(shop, 6, 3700)
    shop.service.retry(found["retried"], actor="anna", reason="Служба заказов обещала, что починила")
    return found


def _in_doubt(shop: Shop) -> UUID:
    with suppress(InDoubt):
        InventoryManagerWithSync(Elsewhere(), shop.service).remove_as_sale_with_sync(
            "KAWA-1KG", WAREHOUSE, 1, "order-doubt", SELLER
        )
    order = shop.runtime.queries.order(SELLER, "order-doubt")
    return UUID(str(order["operations"][0]["id"]))


def _compare(shop: Shop) -> None:
    known = {order: flag for (_, order), flag in shop.remote.flags.items()}
    rows = known | {"order-0001": False, "order-0003": False, "allegro-lost-sale": True}
    reconciliation = shop.runtime.reconciliation
    reconciliation._reader = lambda: ListedOrders(rows)
    shop.clock.advance(26 * 3600)
    with shop.runtime.database.scope():
        reconciliation.run(SELLER, actor="anna")


def _alert(shop: Shop) -> None:
    now, alerts = shop.clock.now, shop.runtime.alerts
    kinds = ("failed", "lane_paused", "pending")
    conditions: list[Condition] = [
        ("failed", "", {"count": 4}),
        ("lane_paused", PAUSED, {"reason": "аккаунт переезжает"}),
        ("pending", "", {"count": 1203, "time": "12:00"}),
    ]
    alerts.observe(conditions, kinds, now, now)
    shop.clock.advance(60)
    alerts.observe(conditions[:2], kinds, shop.clock.now, now)
    seen = next(row for row in alerts.find(open_only=True) if row["kind"] == "lane_paused")
    alerts.acknowledge(seen["id"], "anna", shop.clock.now)


@contextmanager
def serving(
    database_url: str, sandbox: Sandbox | None = None, port: int = 0, **settings: str
) -> Iterator[str]:
    """The application on a free port of this machine, on its own runtime and the real clock; answers with its address."""
    remote = {}
    if sandbox is not None:
        remote = {"ALLEGRO_MICROSERVICE_BASE_URL": sandbox.url, "ALLEGRO_MICROSERVICE_JWT_TOKEN": "sandbox"}
    runtime = Runtime(StockSyncConfig.load({"DATABASE_URL": database_url, **remote, **settings}))
    server = make_server("127.0.0.1", port, create_app(runtime), threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        runtime.close()


def filled(database_url: str) -> dict[str, UUID]:
    """Fill a new database so that its story ends now."""
    with open_shop(database_url) as shop:
        shop.clock.now = datetime.now(UTC) - LASTS
        return fill(shop)


if __name__ == "__main__":
    url = f"sqlite:///{sys.argv[1]}"
    print(filled(url))
    with (
        Sandbox(token="sandbox") as remote,
        serving(url, remote, int((sys.argv[2:] or ["8765"])[0])) as address,
    ):
        print(address, flush=True)
        threading.Event().wait()
