"""DBOS with its queue. Run as a program: the application that takes the jobs."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from functools import cache

from dbos import (  # type: ignore[import-not-found, import-untyped, unused-ignore]
    DBOS,
    DBOSClient,
    DBOSConfig,
)

from benchmarks.peers.async_work import Asyncpg, Work

_URL = os.environ["DATABASE_URL"]
_QUEUE = "peer"
_work = Work(Asyncpg())


@DBOS.workflow(name="deliver")  # type: ignore[untyped-decorator, unused-ignore]
async def deliver(operation_id: str) -> None:
    """One operation."""
    await _deliver(operation_id)


@DBOS.step()  # type: ignore[untyped-decorator, unused-ignore]
async def _deliver(operation_id: str) -> None:
    await _work.deliver(operation_id)


def prepare() -> None:
    """Make its tables."""
    launch()
    DBOS.destroy()


def launch() -> None:
    """Start the application."""
    config: DBOSConfig = {"name": _QUEUE, "system_database_url": _URL, "log_level": "WARNING"}
    DBOS(config=config)
    DBOS.launch()
    DBOS.register_queue(_QUEUE)


@cache
def _client() -> DBOSClient:
    return DBOSClient(system_database_url=_URL)


def enqueue(ids: Sequence[str]) -> None:
    """One workflow an operation."""
    for operation_id in ids:
        _client().enqueue({"queue_name": _QUEUE, "workflow_name": "deliver"}, operation_id)


if __name__ == "__main__":
    launch()
    signal.sigwait([signal.SIGTERM, signal.SIGINT])
