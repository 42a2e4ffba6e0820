"""procrastinate with psycopg."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from procrastinate import (  # type: ignore[import-not-found, import-untyped, unused-ignore]
    App,
    PsycopgConnector,
)

from benchmarks.peers.async_work import POOL, Psycopg, Work

app = App(connector=PsycopgConnector(conninfo=os.environ["DATABASE_URL"], min_size=4, max_size=POOL))
_work = Work(Psycopg())


@app.task(name="deliver")  # type: ignore[untyped-decorator, unused-ignore]
async def deliver(operation_id: str) -> None:
    """One operation."""
    await _work.deliver(operation_id)


def prepare() -> None:
    """Make its tables."""
    app.open()
    app.schema_manager.apply_schema()


def enqueue(ids: Sequence[str]) -> None:
    """One job an operation, in one go."""
    app.open()
    arguments: Any = [{"operation_id": operation_id} for operation_id in ids]
    deliver.batch_defer(*arguments)
