"""PgQueuer on a pool of asyncpg. Run as a program: a worker as `pgq run` starts it, on uvloop."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg  # type: ignore[import-not-found, import-untyped, unused-ignore]
import pgqueuer  # type: ignore[import-not-found, import-untyped, unused-ignore]
import uvloop  # type: ignore[import-not-found, import-untyped, unused-ignore]
from pgqueuer import PgQueuer  # type: ignore[import-not-found, import-untyped, unused-ignore]
from pgqueuer.db import AsyncpgDriver  # type: ignore[import-not-found, import-untyped, unused-ignore]
from pgqueuer.models import Job  # type: ignore[import-not-found, import-untyped, unused-ignore]
from pgqueuer.queries import Queries  # type: ignore[import-not-found, import-untyped, unused-ignore]

from benchmarks.peers.async_work import POOL, Asyncpg, Work, run

BATCH = 50
_made: list[Queries] = []


@asynccontextmanager
async def main() -> AsyncIterator[PgQueuer]:
    """What `pgqueuer.run` runs."""
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=5, max_size=POOL) as pool:
        pgq = PgQueuer.from_asyncpg_pool(pool)
        work = Work(Asyncpg())

        @pgq.entrypoint("deliver")  # type: ignore[untyped-decorator, unused-ignore]
        async def deliver(job: Job) -> None:
            assert job.payload is not None
            await work.deliver(job.payload.decode())

        yield pgq


async def _queries() -> Queries:
    if not _made:
        _made.append(Queries(AsyncpgDriver(await asyncpg.connect(os.environ["DATABASE_URL"]))))
    return _made[0]


async def _prepare() -> None:
    queries = await _queries()
    await queries.install()
    await queries.optimize_autovacuum()


async def _enqueue(ids: Sequence[str]) -> None:
    queries = await _queries()
    await queries.enqueue(["deliver"] * len(ids), [one.encode() for one in ids], [0] * len(ids))


def prepare() -> None:
    """Make its tables."""
    run(_prepare())


def enqueue(ids: Sequence[str]) -> None:
    """One job an operation, in one go."""
    run(_enqueue(ids))


if __name__ == "__main__":
    uvloop.run(pgqueuer.run(main, batch_size=BATCH))
