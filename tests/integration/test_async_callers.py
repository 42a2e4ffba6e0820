"""The services for async callers: the loop is never blocked, nothing is half done, nothing is missing."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from stocksync import (
    AllegroStockService,
    IdempotencyConflict,
    InsufficientStock,
    InventoryManager,
    StockSynchronizationService,
    SyncResult,
)
from stocksync.aio import AsyncStockSync
from stocksync.orders.inventory import InventoryManagerWithSync
from stocksync.store.queries import Queries
from tests.servers import wait_until
from tests.shop import SELLER, WAREHOUSE, Shop, form, open_shop

OFFERED = {
    "service": StockSynchronizationService,
    "orders": AllegroStockService,
    "inventory": InventoryManager,
    "inventory_with_sync": InventoryManagerWithSync,
    "queries": Queries,
}


@pytest.fixture
def sqlite_shop(sqlite_url: str) -> Iterator[Shop]:
    with open_shop(sqlite_url) as opened:
        yield opened


def waiting_for(event: threading.Event) -> Callable[[], None]:
    """A remote that answers only then (or much too late)."""

    def wait() -> None:
        event.wait(20)

    return wait


def test_calls_answer_as_the_sync_ones_do(shop: Shop) -> None:
    async def sells() -> None:
        async with AsyncStockSync(shop.runtime) as sync:
            await sync.inventory.set_on_hand({"A": 5}, WAREHOUSE)
            assert (await sync.orders.process_order_stock_update(form())).status == "queued"
            result = await sync.service.sync_stock_deduction(SELLER, "order-2", "A", 1, immediate=True)
            assert (result.success, result.status) == (True, "completed")
            assert await sync.inventory.on_hand("A", WAREHOUSE) == 4
            assert await sync.queries.status_of(result.operation_id) == "completed"
            with pytest.raises(InsufficientStock):
                await sync.orders.process_order_stock_update(form("order-3", {"1": ("A", 9)}))

    asyncio.run(sells())
    assert shop.broken_promises() == []


def test_a_call_through_call_keeps_its_types(sqlite_shop: Shop) -> None:
    async def sells() -> SyncResult:
        async with AsyncStockSync(sqlite_shop.runtime) as sync:
            return await sync.call(
                sync.runtime.service.sync_stock_deduction, SELLER, "order-1", sku="A", quantity=1
            )

    assert asyncio.run(sells()).success


@pytest.mark.parametrize("name", OFFERED)
def test_every_public_method_is_offered_with_its_signature(sqlite_shop: Shop, name: str) -> None:
    offered = getattr(AsyncStockSync(sqlite_shop.runtime), name)
    methods = [
        method for method, _ in inspect.getmembers(OFFERED[name], inspect.isfunction) if method[0] != "_"
    ]

    assert len(methods) >= 2
    for method in methods:
        coroutine, sync_method = getattr(offered, method), getattr(getattr(sqlite_shop.runtime, name), method)
        assert inspect.iscoroutinefunction(coroutine)
        assert inspect.signature(coroutine) == inspect.signature(sync_method)
        assert coroutine.__doc__ == sync_method.__doc__


@pytest.mark.parametrize("name", ["_operations", "nothing_of_the_kind"])
def test_nothing_else_is_offered(sqlite_shop: Shop, name: str) -> None:
    with pytest.raises(AttributeError, match=name):
        getattr(AsyncStockSync(sqlite_shop.runtime).service, name)


def test_the_loop_goes_on_while_the_remote_takes_its_time(sqlite_shop: Shop) -> None:
    ticked = threading.Event()
    sqlite_shop.remote.takes_time = waiting_for(ticked)

    async def heart() -> None:
        for _ in range(20):
            await asyncio.sleep(0.001)
        ticked.set()

    async def sells() -> SyncResult:
        async with AsyncStockSync(sqlite_shop.runtime) as sync:
            beating = asyncio.create_task(heart())
            result: SyncResult = await sync.service.sync_stock_deduction(
                SELLER, "order-1", "A", 1, immediate=True
            )
            # The remote answered only because the heart had beaten by then.
            assert beating.done()
            return result

    assert asyncio.run(sells()).status == "completed"


def test_two_hundred_calls_at_once_neither_deadlock_nor_exceed_the_threads(shop: Shop) -> None:
    threads: set[str] = set()
    connections: list[int] = []
    database: Any = shop.runtime.database

    def wake(lane: str, *, force: bool = False) -> bool:
        threads.add(threading.current_thread().name)
        connections.append(len(database._in_use))
        return True

    shop.wakeups.wake = wake  # type: ignore[method-assign]

    async def sells() -> list[SyncResult]:
        async with AsyncStockSync(shop.runtime, threads=4) as sync:
            calls = (
                sync.service.sync_stock_deduction(SELLER, f"order-{n % 20}", f"S{n}", 1) for n in range(200)
            )
            return list(await asyncio.gather(*calls))

    results = asyncio.run(sells())

    assert len({result.operation_id for result in results}) == len(shop.statuses()) == 200
    assert all(name.startswith("stocksync-aio") for name in threads)
    assert (len(threads) <= 4, max(connections) <= 4, len(database._in_use)) == (True, True, 0)
    assert shop.broken_promises() == []


def test_a_call_whose_caller_goes_away_is_carried_out(sqlite_shop: Shop) -> None:
    under_way, go_on = threading.Event(), threading.Event()

    def takes_time() -> None:
        under_way.set()
        go_on.wait(20)

    sqlite_shop.remote.takes_time = takes_time

    async def goes_away() -> None:
        async with AsyncStockSync(sqlite_shop.runtime, threads=1) as sync:
            first, second = (
                asyncio.create_task(sync.service.sync_stock_deduction(SELLER, id, "A", 1, immediate=True))
                for id in ("order-1", "order-2")
            )
            await asyncio.to_thread(under_way.wait, 20)
            for task in (first, second):
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            go_on.set()

    asyncio.run(goes_away())
    # The first was in the middle of it, the second had not even begun.
    assert sqlite_shop.statuses() == ["completed", "completed"]
    assert sqlite_shop.broken_promises() == []


def test_an_error_that_nobody_hears_is_logged(sqlite_shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    sqlite_shop.deduct(line_item_id="L")
    begun, go_on = threading.Event(), threading.Event()

    async def goes_away() -> None:
        async with AsyncStockSync(sqlite_shop.runtime) as sync:

            def conflicts() -> None:
                begun.set()
                go_on.wait(20)
                sqlite_shop.deduct(line_item_id="L", quantity=2)

            task = asyncio.create_task(sync.call(conflicts))
            await asyncio.to_thread(begun.wait, 20)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            go_on.set()

    asyncio.run(goes_away())
    (record,) = [record for record in caplog.records if record.name == "stocksync.aio"]
    assert record.exc_info
    assert record.exc_info[0] is IdempotencyConflict


def test_a_loop_that_ends_in_the_middle_strands_nothing(sqlite_shop: Shop) -> None:
    go_on = threading.Event()
    sqlite_shop.remote.takes_time = waiting_for(go_on)
    sync = AsyncStockSync(sqlite_shop.runtime)

    async def ends_early() -> None:
        calls = sync.service.sync_stock_deduction(SELLER, "order-1", "A", 1, immediate=True)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(calls, 0.2)

    asyncio.run(ends_early())
    go_on.set()
    wait_until(lambda: sqlite_shop.statuses() == ["completed"])
    asyncio.run(sync.close())


def test_the_callers_context_goes_along(sqlite_shop: Shop) -> None:
    request: ContextVar[str] = ContextVar("request")

    async def asks() -> str:
        request.set("r-17")
        async with AsyncStockSync(sqlite_shop.runtime) as sync:
            return await sync.call(request.get)

    assert asyncio.run(asks()) == "r-17"


def test_closing_waits_for_calls_and_leaves_the_runtime_open(sqlite_shop: Shop) -> None:
    async def closes() -> None:
        sync = AsyncStockSync(sqlite_shop.runtime)
        task = asyncio.create_task(sync.service.sync_stock_deduction(SELLER, "order-1", "A", 1))
        await asyncio.sleep(0)
        await sync.close()
        assert (await task).success
        with pytest.raises(RuntimeError, match="shutdown"):
            await sync.service.sync_stock_deduction(SELLER, "order-2", "A", 1)

    asyncio.run(closes())
    assert sqlite_shop.statuses() == ["pending"]
