"""Wake-ups as RQ and rq-scheduler keep them: one job however many deductions wait, one entry a lane."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from redis import Redis
from rq.exceptions import DeserializationError

from stocksync.queue import tasks
from stocksync.queue.wakeups import RedisWakeups, StockSyncJob, connect_redis, make_queue
from tests.shop import SELLER, START, open_shop


@pytest.fixture
def redis(fake_redis: Redis) -> Redis:
    return fake_redis


@pytest.fixture
def wakeups(redis: Redis) -> RedisWakeups:
    return RedisWakeups(make_queue(redis, "stock-sync"), "stock-sync")


def jobs(redis: Redis) -> list[StockSyncJob]:
    ids: list[bytes] = redis.lrange("rq:queue:stock-sync", 0, -1)  # type: ignore[assignment]
    return [StockSyncJob.fetch(job_id.decode(), connection=redis) for job_id in ids]  # type: ignore[misc]


def test_any_number_of_deductions_share_one_job_while_it_waits(
    sqlite_url: str, redis: Redis, wakeups: RedisWakeups
) -> None:
    with open_shop(sqlite_url) as shop:
        shop.runtime.service.recorder.context = replace(shop.runtime.context, wakeups=wakeups)
        for number in range(20):
            shop.deduct(f"order-{number}")

    (job,) = jobs(redis)
    assert (job.func_name, list(job.args)) == ("stocksync.queue.tasks.deliver_lane", [SELLER])


def test_once_the_job_has_begun_a_new_deduction_makes_a_new_one(redis: Redis, wakeups: RedisWakeups) -> None:
    wakeups.wake("a")
    wakeups.begin("a")
    wakeups.wake("a")

    assert len(jobs(redis)) == 2


def test_others_wait_when_a_job_waits_that_is_not_the_lanes_own(redis: Redis, wakeups: RedisWakeups) -> None:
    assert not wakeups.others_wait("a")
    wakeups.wake("a")
    assert not wakeups.others_wait("a")
    wakeups.wake("b")
    assert wakeups.others_wait("a")


def test_a_task_is_queued_again_by_its_name(redis: Redis, wakeups: RedisWakeups) -> None:
    wakeups.again("reconcile", "some-id")

    (job,) = jobs(redis)
    assert (job.id, job.func) == ("some-id", tasks.reconcile)


def test_the_marker_expires_by_itself_within_a_minute(redis: Redis, wakeups: RedisWakeups) -> None:
    wakeups.wake("a")

    assert 0 < redis.ttl(wakeups.marker("a")) <= 60


def test_the_sweep_overrides_a_marker_whose_job_was_lost(redis: Redis, wakeups: RedisWakeups) -> None:
    wakeups.wake("a")
    redis.delete("rq:queue:stock-sync")
    wakeups.wake("a", force=True)

    assert len(jobs(redis)) == 1


def test_a_job_carries_a_lane_and_no_data_as_json(redis: Redis, wakeups: RedisWakeups) -> None:
    wakeups.wake("продавец 1")

    (job,) = jobs(redis)
    assert job.data.startswith(b'["stocksync.queue.tasks.deliver_lane"')
    assert "продавец 1" in (job.description or "")


@pytest.mark.parametrize(
    "function",
    [
        *("os.system", "builtins.eval", "jobsx.evil", "jobs.worker.run", "stocksync.runtime.current"),
        *("stocksync.queue.tasks.runtime.use", "jobs.periodic.runtime.use", "stocksync.queue.tasks."),
        *("stocksync.queue.tasks.current", "stocksync.queue.tasks.Runtime", "stocksync.queue.tasks._done"),
    ],
)
def test_a_job_that_names_another_function_is_not_run(redis: Redis, function: str) -> None:
    job = StockSyncJob.create(function, args=("true",), connection=redis)

    with pytest.raises(DeserializationError, match="only functions of stocksync"):
        _ = job.func


def test_callbacks_webhooks_retries_and_times_of_a_job_are_left_out(
    redis: Redis, wakeups: RedisWakeups
) -> None:
    wakeups.wake("a")
    key = jobs(redis)[0].key
    fields: dict[Any, Any] = {
        **{f"{kind}_callback_name": "os.abort" for kind in ("success", "failure", "stopped")},
        "webhooks": '[{"url": "http://127.0.0.1/", "job_status": "finished"}]',
        "timeout": "1000000",
        "retries_left": "9",
        "repeats_left": "9",
        "dependency_ids": '["b"]',
    }
    redis.hset(key, mapping=fields)

    (job,) = jobs(redis)

    assert (job.func, job.args) == (tasks.deliver_lane, ["a"])
    assert (job.success_callback, job.failure_callback, job.stopped_callback) == (None, None, None)
    assert not any((job.webhooks, job.retries_left, job.repeats_left, job.dependency_ids))
    assert job.timeout == 180


@pytest.mark.parametrize("said", ["99999999999", "-1", "no number", None])
def test_a_job_may_take_as_long_as_we_say_whatever_its_hash_says(
    redis: Redis, wakeups: RedisWakeups, said: str | None
) -> None:
    wakeups.wake("a")
    (job,) = jobs(redis)
    if said is None:
        redis.hdel(job.key, "timeout")
    else:
        redis.hset(job.key, "timeout", said)

    (fetched,) = jobs(redis)
    assert fetched.timeout == 180


@pytest.mark.parametrize(
    ("former", "function"),
    [("jobs.delivery.deliver_lane", tasks.deliver_lane), ("jobs.periodic.cleanup", tasks.cleanup)],
)
def test_a_job_queued_under_its_former_name_is_still_done(
    redis: Redis, former: str, function: Callable[..., object]
) -> None:
    StockSyncJob.create(former, args=("a",), id="old", connection=redis).save()

    job = StockSyncJob.fetch("old", connection=redis)
    assert (job.func, job.args) == (function, ["a"])


def test_a_lane_has_one_entry_moved_to_its_due_time_rounded_up(redis: Redis, wakeups: RedisWakeups) -> None:
    wakeups.wake_at("a", START + timedelta(seconds=90, milliseconds=1))
    wakeups.wake_at("a", START + timedelta(seconds=30, milliseconds=1))

    entries = redis.zrange(wakeups.scheduled_jobs_key, 0, -1, withscores=True)
    assert entries == [(wakeups.entry_id("a").encode(), START.timestamp() + 31)]


def test_a_lane_with_nothing_due_has_no_entry_and_leaves_no_key(redis: Redis, wakeups: RedisWakeups) -> None:
    wakeups.wake_at("a", START)
    wakeups.wake_at("a", None)

    assert redis.keys("*") == []


def test_a_finished_wake_up_leaves_redis_after_some_minutes_and_a_failed_one_after_some_days(
    redis: Redis, wakeups: RedisWakeups
) -> None:
    wakeups.wake("a")

    (job,) = jobs(redis)
    assert job.result_ttl is not None
    assert job.failure_ttl is not None
    assert 60 <= job.result_ttl <= 3600
    assert 86400 <= job.failure_ttl <= 30 * 86400


@pytest.mark.parametrize("accepted", [True, False])
def test_a_certificate_that_nobody_signed_is_accepted_only_if_that_is_set(accepted: bool) -> None:
    client = connect_redis("rediss://127.0.0.1:1/0", timeout=1, self_signed=accepted)

    asked = client.connection_pool.connection_kwargs
    assert (asked.get("ssl_cert_reqs") == "none") is accepted
    assert (asked.get("ssl_check_hostname") is False) is accepted
