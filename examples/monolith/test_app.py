"""The monolith's own tests. They need no Redis, no worker and no microservice, and no time passes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from examples.monolith.app import app
from stocksync.testing import Harness


@pytest.fixture
def shop(stock_sync: Harness) -> Iterator[TestClient]:
    """The monolith, started; `stock_sync` is the runtime that it finds, and its database the monolith's."""
    with TestClient(app) as client:
        client.put("/stock/A", params={"quantity": 10})
        client.put("/stock/B", params={"quantity": 1})
        yield client


def sell(shop: TestClient, order_id: str, **units: int) -> Any:
    lines = [
        {"id": f"{order_id}-{sku}", "quantity": quantity, "offer": {"external": {"id": sku}}}
        for sku, quantity in units.items()
    ]
    return shop.post("/api/v1/orders/process", json={"id": order_id, "lineItems": lines})


def test_what_is_sold_is_told(shop: TestClient, stock_sync: Harness) -> None:
    assert sell(shop, "order-1", A=3, B=1).json() == {"order_id": "order-1", "status": "queued"}
    assert stock_sync.woken == {"shop"}
    assert stock_sync.remote.told == {}  # a request never waits for the network

    assert stock_sync.deliver_now()["succeeded"] == 2
    assert stock_sync.remote.told == {("shop", "order-1"): True}
    assert shop.get("/orders/order-1").json()["is_stock_updated"] is True


def test_an_order_that_comes_again_is_sold_once(shop: TestClient, stock_sync: Harness) -> None:
    sell(shop, "order-1", A=3)

    assert sell(shop, "order-1", A=3).json()["status"] == "already_updated"
    stock_sync.deliver_now()
    assert stock_sync.remote.calls == [("shop", "order-1", True)]
    assert sell(shop, "order-2", A=8).status_code == 409  # seven are left
    assert sell(shop, "order-3", A=7).status_code == 200


def test_what_is_rolled_back_leaves_nothing(shop: TestClient, stock_sync: Harness) -> None:
    short = sell(shop, "order-1", A=3, B=2)

    assert (short.status_code, short.json()) == (409, {"detail": "too little of B in stock"})
    assert (stock_sync.woken, stock_sync.operations()) == (set(), [])
    assert shop.get("/orders/order-1").status_code == 404
    assert sell(shop, "order-2", A=10).status_code == 200


def test_what_stocksync_refuses_is_said_and_rolled_back(shop: TestClient, stock_sync: Harness) -> None:
    refused = sell(shop, "x" * 300, A=3)

    assert (refused.status_code, "order_id" in refused.json()["detail"]) == (422, True)
    assert (stock_sync.woken, stock_sync.operations()) == (set(), [])
    assert sell(shop, "order-2", A=10).status_code == 200


def test_while_the_microservice_is_down_orders_wait(shop: TestClient, stock_sync: Harness) -> None:
    stock_sync.remote.fail()
    assert sell(shop, "order-1", A=1).status_code == 200
    for _ in range(12):
        stock_sync.deliver_now()
        stock_sync.clock.advance(hours=1)
    assert [(one["status"], one["retry_count"]) for one in stock_sync.operations()] == [("pending", 0)]

    stock_sync.remote.recover()
    assert stock_sync.deliver_now()["succeeded"] == 1
    assert stock_sync.remote.told == {("shop", "order-1"): True}


def test_an_order_that_the_microservice_never_takes_has_failed(shop: TestClient, stock_sync: Harness) -> None:
    stock_sync.remote.fail(404, "no such order", order_id="order-1")
    sell(shop, "order-1", A=1)
    for _ in range(5):
        stock_sync.deliver_now()
        stock_sync.clock.advance(hours=1)

    (failed,) = stock_sync.operations(status="failed")
    assert (failed["retry_count"], failed["error_message"]) == (5, "no such order")
    assert shop.get("/api/v1/stock-sync/status").json()["statistics"]["failed_operations"] == 1

    stock_sync.remote.recover()
    stock_sync.runtime.service.retry(failed["id"], actor="an operator")
    assert stock_sync.deliver_now()["succeeded"] == 1
