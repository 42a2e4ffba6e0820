"""The plan's own tests (section 6), with our names: `success` means recorded, with `immediate=True` delivered too."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from unittest.mock import Mock

import pytest
from fastapi.testclient import TestClient

from examples.monolith.app import app
from stocksync import Runtime, StockSyncConfig
from stocksync.aio import AsyncStockSync
from stocksync.store.migrate import migrate
from stocksync.testing import RecordedWakeups
from tests.shop import Clock


@pytest.fixture
def orders_client() -> Mock:
    """The monolith's own client of the microservice."""
    client = Mock()
    client.update_stock_status = Mock(return_value=Mock(success=True))
    return client


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sync(database_url: str, orders_client: Mock, clock: Clock) -> Iterator[AsyncStockSync]:
    config = StockSyncConfig.load({"DATABASE_URL": database_url})
    runtime = Runtime(config, clock=clock, client=orders_client, wakeups=RecordedWakeups())
    migrate(runtime.database)
    yield AsyncStockSync(runtime)
    runtime.close()


@pytest.mark.parametrize("immediate", [False, True])
def test_successful_sync(sync: AsyncStockSync, orders_client: Mock, immediate: bool) -> None:
    async def given() -> None:
        result = await sync.service.sync_stock_deduction(
            token_id="test-token", order_id="test-order", sku="TEST-SKU", quantity=1, immediate=immediate
        )

        assert result.success is True
        assert result.operation_id is not None
        await sync.close()

    asyncio.run(given())
    assert orders_client.update_stock_status.called is immediate
    if immediate:
        orders_client.update_stock_status.assert_called_once_with(
            token_id="test-token", order_id="test-order", is_stock_updated=True
        )


def test_retry_mechanism(sync: AsyncStockSync, orders_client: Mock, clock: Clock) -> None:
    async def given() -> None:
        # The first try fails.
        orders_client.update_stock_status.return_value = Mock(success=False, error="not today")
        result = await sync.service.sync_stock_deduction(
            token_id="test-token", order_id="test-order", sku="TEST-SKU", quantity=1, immediate=True
        )

        assert result.success is False
        assert result.operation_id is not None
        assert "not today" in result.error

        # What is pending is processed when it is due again.
        orders_client.update_stock_status.return_value = Mock(success=True)
        assert (await sync.service.process_pending_operations())["processed"] == 0
        clock.advance(60)
        results = await sync.service.process_pending_operations()

        assert results["succeeded"] > 0
        assert await sync.queries.status_of(result.operation_id) == "completed"
        await sync.close()

    asyncio.run(given())


def test_full_order_processing_flow(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    runtime = Runtime(StockSyncConfig.load(settings))
    migrate(runtime.database)
    runtime.close()
    order = {
        "id": "test-order-123",
        "status": "READY_FOR_PROCESSING",
        "lineItems": [
            {
                "id": "item-1",
                "quantity": 1,
                "offer": {"id": "offer-123", "external": {"id": "TEST-SKU"}},
            }
        ],
    }
    with TestClient(app) as client:
        client.put("/stock/TEST-SKU", params={"quantity": 1})

        response = client.post("/api/v1/orders/process", json=order)
        assert response.status_code == 200

        # The operation that tells of it was made.
        status = client.get("/api/v1/stock-sync/status")
        assert status.json()["statistics"]["pending_operations"] == 1
