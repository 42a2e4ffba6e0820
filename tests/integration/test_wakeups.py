"""Wake-ups through a real Redis: one job however many deductions wait, and no harm when Redis is away."""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from redis import Redis

from stocksync.delivery import engine
from stocksync.delivery.settlement import DrainReport
from stocksync.queue.wakeups import RedisWakeups, StockSyncJob, connect_redis, make_queue
from stocksync.runtime import Runtime
from tests.servers import RedisServer, free_port
from tests.shop import SELLER, Shop, open_shop


@pytest.fixture
def redis(redis_url: str) -> Redis:
    return connect_redis(redis_url, timeout=2)


@pytest.fixture
def wakeups(redis_url: str) -> RedisWakeups:
    return RedisWakeups(make_queue(connect_redis(redis_url, timeout=0.25), "stock-sync"), "stock-sync")


@pytest.fixture
def shop(sqlite_url: str, wakeups: RedisWakeups) -> Iterator[Shop]:
    with open_shop(sqlite_url) as opened:
        opened.runtime.service.recorder.context = replace(opened.runtime.context, wakeups=wakeups)
        yield opened


def jobs(redis: Redis) -> list[StockSyncJob]:
    ids: list[bytes] = redis.lrange("rq:queue:stock-sync", 0, -1)  # type: ignore[assignment]
    return [StockSyncJob.fetch(job_id.decode(), connection=redis) for job_id in ids]  # type: ignore[misc]


def test_without_redis_every_call_succeeds_the_first_within_a_quarter_second_more(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    nobody = connect_redis(f"redis://127.0.0.1:{free_port()}/0", timeout=0.25)
    wakeups = RedisWakeups(make_queue(nobody, "stock-sync"), "stock-sync")
    with open_shop(sqlite_url) as shop, caplog.at_level(logging.WARNING, "stocksync"):
        shop.runtime.service.recorder.context = replace(shop.runtime.context, wakeups=wakeups)
        for number in range(50):
            shop.deduct(f"order-{number}")

        assert shop.runtime.operation_lists.by_status()["pending"] == 50
    assert wakeups.outage.lasts
    assert len(caplog.records) == 1


def test_a_redis_that_hangs_is_asked_once_and_then_left_alone() -> None:
    # A port that accepts and never answers is worse than a closed one.
    import socket

    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        port = silent.getsockname()[1]
        wakeups = RedisWakeups(
            make_queue(connect_redis(f"redis://127.0.0.1:{port}/0", timeout=0.25), "q"), "q"
        )
        started = time.monotonic()
        answers = [wakeups.wake("a") for _ in range(100)]
        elapsed = time.monotonic() - started

    assert not any(answers)
    # One time-out, not a hundred: the bound is far from both.
    assert elapsed < 5


def test_a_host_that_takes_no_connection_costs_a_caller_no_more_than_one_that_hangs(
    sqlite_url: str,
) -> None:
    with socket.socket() as full, contextlib.ExitStack() as made, open_shop(sqlite_url) as shop:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):  # nobody accepts them; the next one's packets are dropped
            waiting = made.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        url = f"redis://127.0.0.1:{full.getsockname()[1]}/0"
        wakeups = RedisWakeups(make_queue(connect_redis(url, timeout=0.25), "stock-sync"), "stock-sync")
        shop.runtime.service.recorder.context = replace(shop.runtime.context, wakeups=wakeups)
        began = time.monotonic()
        shop.deduct()

    assert wakeups.outage.lasts
    assert time.monotonic() - began < 3  # the client's own way is to wait for five seconds


def test_redis_is_asked_again_after_the_rest(redis_server: RedisServer, redis_url: str) -> None:
    now = [0.0]
    queue = make_queue(connect_redis(redis_url, timeout=0.25), "stock-sync")
    wakeups = RedisWakeups(queue, "stock-sync", pause=30, monotonic=lambda: now[0])
    redis_server.stop()
    assert not wakeups.wake("a")
    redis_server.start()
    now[0] = 29.0
    assert not wakeups.wake("a")
    now[0] = 30.0
    assert wakeups.wake("a")


def test_a_restarted_redis_is_not_mistaken_for_one_that_is_down(
    redis_server: RedisServer, redis_url: str, wakeups: RedisWakeups
) -> None:
    assert wakeups.wake("a")
    redis_server.stop()
    redis_server.start()

    assert wakeups.wake("a")
    assert not wakeups.outage.lasts


# A backlog is shared, and turns are taken


@pytest.fixture
def worker(sqlite_url: str, redis_url: str) -> Iterator[Shop]:
    """A shop whose engine wakes lanes through Redis, as a worker's does."""
    with open_shop(sqlite_url, REDIS_URL=redis_url) as opened:
        opened.runtime = Runtime(opened.runtime.config, clock=opened.clock)
        opened.runtime.sender = opened.remote
        opened.service = opened.runtime.service
        yield opened
        opened.runtime.close()


def lanes(redis: Redis) -> list[str]:
    return [job.args[0] for job in jobs(redis)]


def work(worker: Shop, redis: Redis) -> DrainReport:
    """Do the first job of the queue."""
    lane = lanes(redis)[0]
    redis.lpop("rq:queue:stock-sync")
    return worker.runtime.deliver_lane(lane)


def test_a_backlog_of_more_than_a_claim_wakes_one_more_worker_while_it_is_drained(
    worker: Shop, redis: Redis
) -> None:
    with worker.runtime.database.transaction_scope():
        for number in range(250):
            worker.deduct(f"order-{number}")
    waiting: list[int] = []
    worker.remote.takes_time = lambda: waiting.append(len(jobs(redis)))
    work(worker, redis)

    assert max(waiting) == 1
    assert lanes(redis) == [SELLER]


def test_a_full_lane_makes_way_for_another_that_waits_and_goes_on_behind_it(
    worker: Shop, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_FAIR_SLICE", 0.0)
    with worker.runtime.database.transaction_scope():
        for number in range(450):
            worker.deduct(f"order-{number}")
    alone = worker.runtime.config.delivery_batch_size
    worker.runtime.wakeups.wake("small")
    report = work(worker, redis)

    assert (report.held_back, report.figures["delivered"]) == (None, alone)
    assert lanes(redis) == ["small", SELLER]

    redis.lpop("rq:queue:stock-sync")  # the small one is done
    assert work(worker, redis).figures["delivered"] == 450 - alone  # nobody else waits


def test_a_drain_of_one_order_asks_redis_five_times(worker: Shop, redis: Redis) -> None:
    def asked() -> int:
        told: Any = redis.info("commandstats")
        names = ("del", "exists", "hget", "hgetall", "hset", "rpush", "set", "zadd", "zrem")
        return sum(told.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in names)

    for number in range(2):  # the second one finds the connections open
        worker.deduct(f"order-{number}")
        before = asked()
        worker.runtime.deliver_lane(SELLER)

    assert asked() - before == 5
