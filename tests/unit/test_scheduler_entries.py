"""rq-scheduler's entries, hardened: what is missing comes back, what can't be read is dropped, one scheduler works."""

from __future__ import annotations

import logging
from datetime import timedelta

import pytest
from redis import Redis

from stocksync.queue.shutdown import Stop
from stocksync.queue.wakeups import StockSyncJob
from tests.scheduling import ENTRY, QUEUE, SchedulerBench
from tests.shop import START


@pytest.fixture
def bench(fake_redis: Redis) -> SchedulerBench:
    return SchedulerBench(fake_redis)


def test_a_periodic_task_runs_at_once_and_comes_back_after_its_interval(bench: SchedulerBench) -> None:
    bench.scheduler.tick()

    assert bench.queued() == ["stocksync.queue.tasks.sweep"]
    assert bench.entries() == {"periodic-sweep": 60}


def test_a_tick_leaves_the_time_of_an_existing_entry_alone(bench: SchedulerBench) -> None:
    bench.scheduler.tick()
    bench.clock.advance(30)
    bench.scheduler.tick()

    assert bench.entries() == {"periodic-sweep": 60}


def test_a_periodic_task_that_nobody_takes_does_not_pile_up(bench: SchedulerBench) -> None:
    for _ in range(5):
        bench.scheduler.tick()
        bench.clock.advance(60)

    assert bench.queued() == ["stocksync.queue.tasks.sweep"]


def test_after_a_flush_every_periodic_task_is_back_at_the_next_tick(bench: SchedulerBench) -> None:
    bench.scheduler.tick()
    bench.redis.flushall()
    bench.clock.advance(1)
    bench.scheduler.tick()

    assert bench.queued() == ["stocksync.queue.tasks.sweep"]
    assert bench.entries() == {"periodic-sweep": 61}


def test_an_entry_whose_job_is_gone_is_made_again(bench: SchedulerBench) -> None:
    bench.scheduler.tick()
    bench.redis.delete(StockSyncJob.key_for(ENTRY))
    bench.clock.advance(1)
    bench.scheduler.tick()

    assert bench.redis.exists(StockSyncJob.key_for(ENTRY))


def test_a_changed_interval_is_taken_over(bench: SchedulerBench) -> None:
    bench.scheduler.tick()
    bench.scheduler.remove_lock()
    bench.another({"sweep": (10, "sweep")}).tick()

    assert bench.entries() == {"periodic-sweep": 10}


def test_a_periodic_job_is_kept_for_ever(bench: SchedulerBench) -> None:
    bench.scheduler.tick()

    job = StockSyncJob.fetch(ENTRY, connection=bench.redis)
    assert job.result_ttl == -1
    assert bench.redis.ttl(job.key) == -1


def test_a_due_lane_becomes_a_wake_up_and_its_entry_goes(bench: SchedulerBench) -> None:
    bench.wakeups.wake_at("a", START)
    bench.scheduler.tick()

    assert sorted(bench.queued()) == ["stocksync.queue.tasks.deliver_lane", "stocksync.queue.tasks.sweep"]
    assert list(bench.entries()) == ["periodic-sweep"]
    assert not bench.redis.exists(StockSyncJob.key_for(bench.wakeups.entry_id("a")))


def test_a_worker_that_plans_the_next_time_at_once_keeps_it(
    bench: SchedulerBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    push = bench.wakeups.push

    def push_and_drain(lane: str) -> None:
        push(lane)
        bench.wakeups.wake_at(lane, START + timedelta(seconds=30))

    monkeypatch.setattr(bench.wakeups, "push", push_and_drain)
    bench.wakeups.wake_at("a", START)
    bench.scheduler.tick()

    assert bench.entries()[bench.wakeups.entry_id("a")] == 30


def test_a_lane_that_is_due_later_waits(bench: SchedulerBench) -> None:
    bench.clock.advance(1)
    bench.wakeups.wake_at("a", bench.clock())
    bench.clock.advance(-1)
    bench.scheduler.tick()

    assert bench.queued() == ["stocksync.queue.tasks.sweep"]


def test_an_undecodable_entry_is_dropped_and_those_behind_it_go_on(
    bench: SchedulerBench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.redis.hset(StockSyncJob.key_for("broken"), mapping={"data": b"\x80nonsense", "created_at": "x"})
    bench.redis.zadd(bench.wakeups.scheduled_jobs_key, {"broken": START.timestamp() - 10})
    bench.wakeups.wake_at("a", START)
    with caplog.at_level(logging.ERROR, "stocksync"):
        bench.scheduler.tick()

    assert "stocksync.queue.tasks.deliver_lane" in bench.queued()
    assert "broken" not in bench.entries()
    assert "b'broken' can't be queued" in caplog.text
    assert "dropped" in caplog.text


def test_an_entry_for_a_function_that_is_not_ours_is_dropped(
    bench: SchedulerBench, caplog: pytest.LogCaptureFixture
) -> None:
    foreign = StockSyncJob.create("os.system", args=("true",), id="foreign", connection=bench.redis)
    foreign.save()
    bench.redis.zadd(bench.wakeups.scheduled_jobs_key, {"foreign": START.timestamp()})
    bench.scheduler.tick()

    assert bench.queued() == ["stocksync.queue.tasks.sweep"]
    assert "foreign" not in bench.entries()
    assert "only functions of stocksync.queue.tasks." in caplog.text


def test_an_entry_without_a_job_is_dropped(bench: SchedulerBench) -> None:
    bench.redis.zadd(bench.wakeups.scheduled_jobs_key, {"gone": START.timestamp()})
    bench.scheduler.tick()

    assert "gone" not in bench.entries()


def test_a_tick_is_bounded_and_the_next_goes_on(bench: SchedulerBench) -> None:
    entries = {f"entry-{number}": START.timestamp() for number in range(250)}
    bench.redis.zadd(bench.wakeups.scheduled_jobs_key, entries)

    assert bench.scheduler.tick() == 200
    assert bench.scheduler.tick() == 51


def test_a_second_scheduler_stands_by_and_takes_over(bench: SchedulerBench) -> None:
    bench.scheduler.tick()
    second = bench.another()
    bench.clock.advance(60)

    assert second.tick() == 0
    bench.scheduler.remove_lock()
    assert second.tick() == 1


def test_the_lock_is_renewed_and_never_taken_from_another(bench: SchedulerBench) -> None:
    bench.scheduler.tick()
    bench.redis.expire(bench.scheduler.scheduler_lock_key, 2)
    bench.scheduler.tick()
    assert bench.redis.ttl(bench.scheduler.scheduler_lock_key) > 2

    bench.another().remove_lock()
    assert bench.redis.exists(bench.scheduler.scheduler_lock_key)


def test_stopped_it_gives_up_its_lock(bench: SchedulerBench) -> None:
    stop = Stop()
    bench.scheduler.tick()
    stop.set()
    bench.scheduler.run_until(stop)

    assert bench.redis.keys("stock-sync:scheduler:lock") == []


def test_a_task_that_is_no_more_is_not_run_again_and_its_entry_goes(bench: SchedulerBench) -> None:
    bench.scheduler.tick()
    bench.redis.delete(QUEUE)
    bench.scheduler.remove_lock()
    bench.clock.advance(60)
    bench.another({}).tick()

    assert bench.queued() == []
    assert "periodic-sweep" not in bench.entries()
    assert not bench.redis.exists(StockSyncJob.key_for("periodic-sweep"))
