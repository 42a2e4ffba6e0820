"""Celery with Redis."""

from __future__ import annotations

from collections.abc import Sequence

from celery import Celery  # type: ignore[import-not-found, import-untyped, unused-ignore]

from benchmarks.peers import work

app = Celery("peer", broker=work.redis_url())
app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True)


@app.task  # type: ignore[untyped-decorator, unused-ignore]
def deliver(operation_id: str) -> None:
    """One operation."""
    work.deliver(operation_id)


def enqueue(ids: Sequence[str]) -> None:
    """One task an operation."""
    for operation_id in ids:
        deliver.delay(operation_id)
