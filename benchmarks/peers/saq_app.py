"""SAQ with Redis."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Any

from saq import Queue  # type: ignore[import-not-found, import-untyped, unused-ignore]

from benchmarks.peers import async_work, work

queue = Queue.from_url(work.redis_url() + work.MANY_CONNECTIONS)
_on_sqlite = os.environ["DATABASE_URL"].startswith("sqlite")
_work = async_work.Work(async_work.Aiosqlite() if _on_sqlite else async_work.Asyncpg())


async def deliver(_context: Any, *, operation_id: str) -> None:
    """One operation."""
    await _work.deliver(operation_id)


settings = {"queue": queue, "functions": [deliver], "concurrency": async_work.CONNECTIONS}


async def _enqueue(ids: Sequence[str]) -> None:
    # ttl: what was done is not kept.
    await asyncio.gather(*(queue.enqueue("deliver", operation_id=one, ttl=-1) for one in ids))


def enqueue(ids: Sequence[str]) -> None:
    """One job an operation."""
    async_work.run(_enqueue(ids))
