"""Dramatiq with Redis."""

from __future__ import annotations

from collections.abc import Sequence

import dramatiq  # type: ignore[import-not-found, import-untyped, unused-ignore]
from dramatiq.brokers.redis import (  # type: ignore[import-not-found, import-untyped, unused-ignore]
    RedisBroker,
)

from benchmarks.peers import work

dramatiq.set_broker(RedisBroker(url=work.redis_url()))  # type: ignore[no-untyped-call, unused-ignore]


@dramatiq.actor  # type: ignore[untyped-decorator, unused-ignore]
def deliver(operation_id: str) -> None:
    """One operation."""
    work.deliver(operation_id)


def enqueue(ids: Sequence[str]) -> None:
    """One message an operation."""
    for operation_id in ids:
        deliver.send(operation_id)
