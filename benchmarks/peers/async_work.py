"""The twin of `work` for libraries that are asynchronous: the same statements, aiohttp, an asynchronous driver."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

import aiohttp  # type: ignore[import-not-found, import-untyped, unused-ignore]

from benchmarks.peers import work

CONNECTIONS = int(os.environ.get("PEER_CONNECTIONS", "10"))
"""To the remote."""
POOL = 20
"""Connections to PostgreSQL: a job holds one only for its statements."""

Result = TypeVar("Result")


class Database(Protocol):
    """One driver."""

    async def open(self) -> None:
        """Connect."""

    async def read(self, operation_id: str) -> tuple[str, str]:
        """Order and account of the operation."""

    async def settle(self, operation_id: str, log_id: str, now: datetime) -> None:
        """Settle the row and write the log row, in one transaction."""


class Asyncpg:
    """asyncpg with its pool."""

    _read = "SELECT order_id, token_id FROM pending_stock_operations WHERE id = $1"
    _settle = """UPDATE pending_stock_operations
        SET status = 'completed', completed_at = $1, updated_at = $1, next_retry_at = NULL
        WHERE id = $2 AND status = 'pending'"""
    _log = """INSERT INTO stock_synchronization_logs (id, operation_id, action, status, details, timestamp)
        VALUES ($1, $2, 'sync_success', 'completed', '{}', $3)"""

    async def open(self) -> None:
        import asyncpg  # type: ignore[import-not-found, import-untyped, unused-ignore]

        self.pool = await asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=5, max_size=POOL)

    async def read(self, operation_id: str) -> tuple[str, str]:
        row = await self.pool.fetchrow(self._read, operation_id)
        return row["order_id"], row["token_id"]

    async def settle(self, operation_id: str, log_id: str, now: datetime) -> None:
        async with self.pool.acquire() as connection, connection.transaction():
            await connection.execute(self._settle, now, operation_id)
            await connection.execute(self._log, log_id, operation_id, now)


class Psycopg:
    """psycopg with its pool."""

    async def open(self) -> None:
        from psycopg_pool import (  # type: ignore[import-not-found, import-untyped, unused-ignore]
            AsyncConnectionPool,
        )

        self.pool = AsyncConnectionPool(
            os.environ["DATABASE_URL"], min_size=5, max_size=POOL, open=False, kwargs={"autocommit": True}
        )
        await self.pool.open(wait=True)

    async def read(self, operation_id: str) -> tuple[str, str]:
        async with self.pool.connection() as connection:
            cursor = await connection.execute(work.READ.format("%s"), (operation_id,))
            row: Any = await cursor.fetchone()
        return row[0], row[1]

    async def settle(self, operation_id: str, log_id: str, now: datetime) -> None:
        async with self.pool.connection() as connection, connection.transaction():
            await connection.execute(work.SETTLE.format("%s"), (now, now, operation_id))
            await connection.execute(work.LOG.format("%s"), (log_id, operation_id, now))


class Aiosqlite:
    """aiosqlite: one connection, one transaction at a time."""

    async def open(self) -> None:
        import aiosqlite

        self.turn = asyncio.Lock()
        file = os.environ["DATABASE_URL"].removeprefix("sqlite:///")
        self.connection = await aiosqlite.connect(file, timeout=30, isolation_level=None)
        for pragma in ("journal_mode = wal", "synchronous = full", "foreign_keys = 1"):
            await self.connection.execute(f"PRAGMA {pragma}")

    async def read(self, operation_id: str) -> tuple[str, str]:
        rows: Any = await self.connection.execute_fetchall(work.READ.format("?"), (operation_id,))
        return rows[0][0], rows[0][1]

    async def settle(self, operation_id: str, log_id: str, now: datetime) -> None:
        moment = now.isoformat()
        async with self.turn:
            await self.connection.execute("BEGIN IMMEDIATE")
            await self.connection.execute(work.SETTLE.format("?"), (moment, moment, operation_id))
            await self.connection.execute(work.LOG.format("?"), (log_id, operation_id, moment))
            await self.connection.execute("COMMIT")


class Work:
    """Delivers operations with one database and one HTTP client, both opened by the first job."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._session: asyncio.Future[aiohttp.ClientSession] | None = None

    async def deliver(self, operation_id: str) -> None:
        """Deliver one operation."""
        if self._session is None:
            self._session = asyncio.ensure_future(self._open())
        session = await self._session
        order_id, token_id = await self._database.read(operation_id)
        async with session.put(work.address(order_id), json=work.document(token_id)) as answer:
            answer.raise_for_status()
            if (await answer.json())["success"] is not True:
                raise RuntimeError(await answer.text())
        await self._database.settle(operation_id, uuid.uuid4().hex, datetime.now(UTC))

    async def _open(self) -> aiohttp.ClientSession:
        await self._database.open()
        connector = aiohttp.TCPConnector(limit=CONNECTIONS)
        # A job may wait long for a free connection; the timeout is of the request alone.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=8, sock_read=8)
        return aiohttp.ClientSession(connector=connector, timeout=timeout)


_loop = asyncio.Runner()


def run(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """For those who enqueue: run on one loop that stays, so that connections stay too."""
    return _loop.run(coroutine)
