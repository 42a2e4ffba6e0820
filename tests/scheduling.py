"""A scheduler to test with: its entries and its queue close at hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from redis import Redis

from stocksync.queue.scheduler import StockSyncScheduler
from stocksync.queue.wakeups import RedisWakeups, StockSyncJob, make_queue
from tests.shop import START, Clock

TASKS = {"sweep": (60, "sweep")}
ENTRY = "periodic-sweep"
QUEUE = "rq:queue:stock-sync"


class SchedulerBench:
    """A scheduler on `redis`, with a clock to move."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.clock = Clock()
        self.wakeups = RedisWakeups(make_queue(redis, "stock-sync"), "stock-sync")
        self.scheduler = self.another()

    def another(self, tasks: Mapping[str, tuple[int, str]] = TASKS, **more: Any) -> StockSyncScheduler:
        return StockSyncScheduler(self.wakeups, tasks, **{"now": lambda: self.clock().timestamp()} | more)

    def queued(self) -> list[str]:
        ids: list[bytes] = self.redis.lrange(QUEUE, 0, -1)  # type: ignore[assignment]
        return [str(StockSyncJob.fetch(job_id.decode(), connection=self.redis).func_name) for job_id in ids]

    def entries(self) -> dict[str, float]:
        found: list[tuple[bytes, float]] = self.redis.zrange(  # type: ignore[assignment]
            self.wakeups.scheduled_jobs_key, 0, -1, withscores=True
        )
        return {name.decode(): score - START.timestamp() for name, score in found}
