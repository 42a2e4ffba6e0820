"""Huey with Redis."""

from __future__ import annotations

from collections.abc import Sequence

from huey import RedisHuey  # type: ignore[import-not-found, import-untyped, unused-ignore]

from benchmarks.peers import work

huey = RedisHuey("peer", url=work.redis_url() + work.MANY_CONNECTIONS, results=False)


@huey.task()  # type: ignore[untyped-decorator, unused-ignore]
def deliver(operation_id: str) -> None:
    """One operation."""
    work.deliver(operation_id)


def enqueue(ids: Sequence[str]) -> None:
    """One task an operation."""
    for operation_id in ids:
        deliver(operation_id)
