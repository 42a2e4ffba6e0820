"""A scheduler to test with: its entries and its queue close at hand."""

from __future__ import annotations

from typing import Any

from redis import Redis

from stocksync.queue.scheduler import PeriodicTask, StockSyncScheduler
from stocksync.queue.wakeups import RedisWakeups, StockSyncJob, make_queue
from tests.shop import START, Clock

TASK = PeriodicTask("periodic-sweep", "stocksync.queue.tasks.sweep", 60, "sweep")
QUEUE = "rq:queue:stock-sync"


class SchedulerBench:
    """A scheduler on `redis`, with a clock to move."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.clock = Clock()
        self.wakeups = RedisWakeups(make_queue(redis, "stock-sync"), "stock-sync", pause=0)
        self.scheduler = self.another()

    def another(self, **more: Any) -> StockSyncScheduler:
        queue = make_queue(self.redis, "stock-sync")
        return StockSyncScheduler(
            queue, self.wakeups, [TASK], "stock-sync", now=lambda: self.clock().timestamp(), **more
        )

    def queued(self) -> list[str]:
        ids: list[bytes] = self.redis.lrange(QUEUE, 0, -1)  # type: ignore[assignment]
        return [str(StockSyncJob.fetch(job_id.decode(), connection=self.redis).func_name) for job_id in ids]

    def entries(self) -> dict[str, float]:
        found: list[tuple[bytes, float]] = self.redis.zrange(  # type: ignore[assignment]
            self.wakeups.scheduled_jobs_key, 0, -1, withscores=True
        )
        return {name.decode(): score - START.timestamp() for name, score in found}
