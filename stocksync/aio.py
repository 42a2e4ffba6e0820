"""The same services for async callers: every public method as a coroutine, on a few threads of its own.

    sync = AsyncStockSync()
    result = await sync.service.sync_stock_deduction(token_id, order_id, sku, 2)

The coroutines are made from the sync classes, so none is missing and none differs. They need asyncio's event loop.
"""

import asyncio
import contextvars
import functools
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, Self, TypeVar

from stocksync.runtime import Runtime, current

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


class AsyncStockSync:
    """`service`, `orders`, `inventory`, `inventory_with_sync` and `queries` of a runtime, never blocking the event loop.

    A call runs in a thread with a connection of its own, so it is never part of a transaction that the caller has
    open on `runtime.database`; awaited inside one, it would wait for the caller's own locks. To record in the
    caller's transaction use `stocksync.contrib.sqlalchemy`.

    A call once made is carried out: cancelling the task that awaits it gives up the answer, not the work.
    """

    def __init__(self, runtime: Runtime | None = None, *, threads: int = 8) -> None:
        """
        Args:
            runtime: None: the process's own, by its environment.
            threads: calls under way at once; each takes one of the database's 20 connections. More calls wait.
        """
        self.runtime = runtime or current()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="stocksync-aio")
        self.service = Coroutines(self.runtime.service, self.call)
        self.orders = Coroutines(self.runtime.orders, self.call)
        self.inventory = Coroutines(self.runtime.inventory, self.call)
        self.inventory_with_sync = Coroutines(self.runtime.inventory_with_sync, self.call)
        self.queries = Coroutines(self.runtime.queries, self.call)

    async def call(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """`function(*args, **kwargs)` in one of the threads, with the caller's context variables.

        The way to have the types checked: `await sync.call(sync.runtime.service.retry, id, actor="Anna")`.
        """
        future = asyncio.get_running_loop().run_in_executor(
            self._pool, functools.partial(contextvars.copy_context().run, function, *args, **kwargs)
        )
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            future.add_done_callback(_log_what_nobody_hears)
            raise

    async def close(self) -> None:
        """Take no more calls and wait for those under way. The runtime is left open, as its owner may want it."""
        await asyncio.to_thread(self._pool.shutdown)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class Coroutines:
    """Every public method of `target` as a coroutine function: same name, same arguments, same errors."""

    def __init__(self, target: object, call: Callable[..., Coroutine[Any, Any, Any]]) -> None:
        self._target = target
        self._call = call

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        method = None if name.startswith("_") else getattr(self._target, name)
        if not callable(method):
            raise AttributeError(name)

        @functools.wraps(method)
        async def coroutine(*args: Any, **kwargs: Any) -> Any:
            return await self._call(method, *args, **kwargs)

        return coroutine


def _log_what_nobody_hears(future: asyncio.Future[Any]) -> None:
    if not future.cancelled() and (error := future.exception()):
        log.error("a call failed whose caller had gone away", exc_info=error)
