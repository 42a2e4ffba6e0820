"""rq-scheduler, hardened: what used to stop it does not, and what it loses comes back."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest
from redis import Redis

from stocksync.queue.scheduler import PeriodicTask, StockSyncScheduler
from stocksync.queue.wakeups import RedisWakeups, StockSyncJob, connect_redis, make_queue
from stocksync.stopping import Stop
from tests.servers import RedisServer, wait_until
from tests.shop import START, Clock

TASK = PeriodicTask("periodic-sweep", "stocksync.queue.tasks.sweep", 60, "sweep")
QUEUE = "rq:queue:stock-sync"


class Bench:
    """A scheduler on a real Redis with a clock to move."""

    def __init__(self, url: str) -> None:
        self.redis: Redis = connect_redis(url, timeout=2)
        self.clock = Clock()
        queue = make_queue(connect_redis(url, timeout=2), "stock-sync")
        self.wakeups = RedisWakeups(queue, "stock-sync", pause=0)
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


@pytest.fixture
def bench(redis_url: str) -> Bench:
    return Bench(redis_url)


def test_a_periodic_task_runs_at_once_and_comes_back_after_its_interval(bench: Bench) -> None:
    bench.scheduler.tick()

    assert bench.queued() == ["stocksync.queue.tasks.sweep"]
    assert bench.entries() == {"periodic-sweep": 60}


def test_a_tick_leaves_the_time_of_an_existing_entry_alone(bench: Bench) -> None:
    bench.scheduler.tick()
    bench.clock.advance(30)
    bench.scheduler.tick()

    assert bench.entries() == {"periodic-sweep": 60}


def test_a_periodic_task_that_nobody_takes_does_not_pile_up(bench: Bench) -> None:
    for _ in range(5):
        bench.scheduler.tick()
        bench.clock.advance(60)

    assert bench.queued() == ["stocksync.queue.tasks.sweep"]


def test_after_a_flush_every_periodic_task_is_back_at_the_next_tick(bench: Bench) -> None:
    bench.scheduler.tick()
    bench.redis.flushall()
    bench.clock.advance(1)
    bench.scheduler.tick()

    assert bench.queued() == ["stocksync.queue.tasks.sweep"]
    assert bench.entries() == {"periodic-sweep": 61}


def test_an_entry_whose_job_is_gone_is_made_again(bench: Bench) -> None:
    bench.scheduler.tick()
    bench.redis.delete(StockSyncJob.key_for(TASK.id))
    bench.clock.advance(1)
    bench.scheduler.tick()

    assert bench.redis.exists(StockSyncJob.key_for(TASK.id))


def test_a_changed_interval_is_taken_over(bench: Bench) -> None:
    bench.scheduler.tick()
    changed = PeriodicTask(TASK.id, TASK.function, 10, TASK.description)
    queue = make_queue(bench.redis, "stock-sync")
    bench.scheduler.remove_lock()
    StockSyncScheduler(
        queue, bench.wakeups, [changed], "stock-sync", now=lambda: bench.clock().timestamp()
    ).tick()

    assert bench.entries() == {"periodic-sweep": 10}


def test_a_periodic_job_is_kept_for_ever(bench: Bench) -> None:
    bench.scheduler.tick()

    job = StockSyncJob.fetch(TASK.id, connection=bench.redis)
    assert job.result_ttl == -1
    assert bench.redis.ttl(job.key) == -1


def test_a_due_lane_becomes_a_wake_up_and_its_entry_goes(bench: Bench) -> None:
    bench.wakeups.wake_at("a", START)
    bench.scheduler.tick()

    assert sorted(bench.queued()) == ["stocksync.queue.tasks.deliver_lane", "stocksync.queue.tasks.sweep"]
    assert list(bench.entries()) == ["periodic-sweep"]
    assert not bench.redis.exists(StockSyncJob.key_for(bench.wakeups.entry_id("a")))


def test_a_lane_that_is_due_later_waits(bench: Bench) -> None:
    bench.clock.advance(1)
    bench.wakeups.wake_at("a", bench.clock())
    bench.clock.advance(-1)
    bench.scheduler.tick()

    assert bench.queued() == ["stocksync.queue.tasks.sweep"]


def test_a_lane_whose_wake_up_waits_already_gets_no_second_job(bench: Bench) -> None:
    bench.wakeups.wake("a")
    bench.wakeups.wake_at("a", START)
    bench.scheduler.tick()

    assert bench.queued().count("stocksync.queue.tasks.deliver_lane") == 1


def test_an_undecodable_entry_is_put_aside_and_those_behind_it_go_on(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.redis.hset(StockSyncJob.key_for("broken"), mapping={"data": b"\x80nonsense", "created_at": "x"})
    bench.redis.zadd(bench.wakeups.scheduled_jobs_key, {"broken": START.timestamp() - 10})
    bench.wakeups.wake_at("a", START)
    with caplog.at_level(logging.ERROR, "stocksync"):
        bench.scheduler.tick()

    assert "stocksync.queue.tasks.deliver_lane" in bench.queued()
    assert "broken" not in bench.entries()
    assert bench.redis.hexists(bench.scheduler.quarantine_key, "broken")
    assert "put aside" in caplog.text


def test_an_entry_for_a_function_that_is_not_ours_is_put_aside(bench: Bench) -> None:
    foreign = StockSyncJob.create("os.system", args=("true",), id="foreign", connection=bench.redis)
    foreign.save()
    bench.redis.zadd(bench.wakeups.scheduled_jobs_key, {"foreign": START.timestamp()})
    bench.scheduler.tick()

    assert bench.queued() == ["stocksync.queue.tasks.sweep"]
    assert bench.redis.hexists(bench.scheduler.quarantine_key, "foreign")


def test_an_entry_without_a_job_is_dropped(bench: Bench) -> None:
    bench.redis.zadd(bench.wakeups.scheduled_jobs_key, {"gone": START.timestamp()})
    bench.scheduler.tick()

    assert "gone" not in bench.entries()


def test_a_tick_is_bounded_and_the_next_goes_on(bench: Bench) -> None:
    for number in range(250):
        bench.wakeups.wake_at(f"lane-{number}", START)

    assert bench.scheduler.tick() == 200
    assert bench.scheduler.tick() == 51


def test_a_second_scheduler_stands_by_and_takes_over(bench: Bench) -> None:
    bench.scheduler.tick()
    second = bench.another()
    bench.clock.advance(60)

    assert second.tick() == 0
    bench.scheduler.remove_lock()
    assert second.tick() == 1


def test_the_lock_is_renewed_and_never_taken_from_another(bench: Bench) -> None:
    bench.scheduler.tick()
    bench.redis.expire(bench.scheduler.scheduler_lock_key, 2)
    bench.scheduler.tick()
    assert bench.redis.ttl(bench.scheduler.scheduler_lock_key) > 2

    bench.another().remove_lock()
    assert bench.redis.exists(bench.scheduler.scheduler_lock_key)


def test_it_goes_on_after_redis_was_away(redis_server: RedisServer, redis_url: str) -> None:
    bench = Bench(redis_url)
    scheduler, stop = bench.another(interval=0.02), Stop()
    thread = threading.Thread(target=scheduler.run_until, args=(stop,))
    thread.start()
    try:
        wait_until(lambda: bench.redis.exists(scheduler.key), message="the scheduler's heartbeat")
        redis_server.stop()
        redis_server.start()
        wait_until(
            lambda: bench.redis.zcard(bench.wakeups.scheduled_jobs_key) == 1, message="the entry's return"
        )
    finally:
        stop.set()
        thread.join(10)
    assert not thread.is_alive()


def test_stopped_it_gives_up_its_lock(bench: Bench) -> None:
    stop = Stop()
    bench.scheduler.tick()
    stop.set()
    bench.scheduler.run_until(stop)

    assert bench.redis.keys("stock-sync:scheduler:lock") == []


def test_a_task_that_is_no_more_is_removed_at_the_first_tick(bench: Bench) -> None:
    bench.scheduler.tick()
    bench.wakeups.wake_at("a", START)
    following = StockSyncScheduler(
        make_queue(bench.redis, "stock-sync"), bench.wakeups, [], "stock-sync", now=bench.scheduler._now
    )
    bench.scheduler.remove_lock()
    following.tick()

    assert "periodic-sweep" not in bench.entries()
    assert not bench.redis.exists(StockSyncJob.key_for("periodic-sweep"))


def test_once_a_minute_something_else_is_looked_after_with_redis_or_without(
    bench: Bench, redis_server: RedisServer
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
    scheduler = StockSyncScheduler(
        make_queue(bench.redis, "stock-sync"), bench.wakeups, [TASK], "stock-sync",
        interval=0.01, now=lambda: START.timestamp() + next(moving),
    )  # fmt: skip
    running = threading.Thread(target=lambda: scheduler.run_until(stop, every_minute))
    running.start()
    running.join(30)

    assert (called, running.is_alive()) == (3, False)
