"""The scheduler while Redis goes away and comes back. (Its entries: tests/unit/test_scheduler_entries.py.)"""

from __future__ import annotations

import threading

import pytest

from stocksync.queue.shutdown import Stop
from stocksync.queue.wakeups import connect_redis
from tests.scheduling import SchedulerBench
from tests.servers import RedisServer, wait_until
from tests.shop import START


@pytest.fixture
def bench(redis_url: str) -> SchedulerBench:
    return SchedulerBench(connect_redis(redis_url, timeout=2))


def test_it_goes_on_after_redis_was_away(redis_server: RedisServer, redis_url: str) -> None:
    bench = SchedulerBench(connect_redis(redis_url, timeout=2))
    scheduler, stop = bench.another(interval=0.02), Stop()
    thread = threading.Thread(target=scheduler.run_until, args=(stop,))
    thread.start()
    try:
        wait_until(lambda: bench.redis.exists(scheduler.scheduler_lock_key), message="the scheduler's lock")
        redis_server.stop()
        redis_server.start()
        wait_until(
            lambda: bench.redis.zcard(bench.wakeups.scheduled_jobs_key) == 1, message="the entry's return"
        )
    finally:
        stop.set()
        thread.join(10)
    assert not thread.is_alive()


def test_once_a_minute_something_else_is_looked_after_with_redis_or_without(
    bench: SchedulerBench, redis_server: RedisServer
) -> None:
    stop, called = Stop(), 0

    def every_minute() -> None:
        nonlocal called
        called += 1
        if called == 1:
            redis_server.stop()
        if called == 3:
            stop.set()

    moving = iter(range(0, 10_000, 20))
    scheduler = bench.another(interval=0.01, now=lambda: START.timestamp() + next(moving))
    running = threading.Thread(target=lambda: scheduler.run_until(stop, every_minute))
    running.start()
    running.join(30)

    assert (called, running.is_alive()) == (3, False)
