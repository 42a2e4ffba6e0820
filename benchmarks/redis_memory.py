"""What waiting operations cost Redis."""

from __future__ import annotations

from redis import Redis

from benchmarks.bench import Bench
from benchmarks.report import Figure, Goal, Result
from benchmarks.shop import open_runtime
from benchmarks.workers import wakeups

LANES = 10
_TOGETHER = 500


def measure(bench: Bench) -> Result:
    """Growth of used_memory by operations recorded through the service while no worker runs."""
    count = 10_000 if bench.quick else 100_000
    result = Result("redis-memory", f"{count} operations of {LANES} sellers recorded, no worker")
    redis: Redis = Redis.from_url(bench.redis.url)
    bench.redis.flush()
    waking = wakeups(bench)
    waking.begin("nobody")  # its connection is there before
    before = _used(redis)
    with bench.database("SQLite") as url, open_runtime(url, waking) as runtime:
        for start in range(0, count, _TOGETHER):
            # Many in one transaction, for the sake of the benchmark's time; each asks for its wake-up all the same.
            with runtime.database.transaction_scope():
                for number in range(start, start + _TOGETHER):
                    lane = f"seller-{number % LANES}"
                    runtime.service.sync_stock_deduction(lane, f"order-{number}", "A", 1)
        grown = _used(redis) - before
        jobs = redis.llen("rq:queue:stock-sync")
    result.goals = [Goal(Figure("growth of used_memory", "MB", [grown / 1e6]), at_most=1)]
    result.notes = [
        f"jobs in the queue: {jobs}; keys: {redis.dbsize()}; Redis was away: {waking.outage.lasts}"
    ]
    redis.close()
    return result


def _used(redis: Redis) -> int:
    figures = redis.info("memory")
    assert isinstance(figures, dict)
    return int(figures["used_memory"])
