"""The real processes while Redis is away, hangs, or has lost everything."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest
from redis import Redis

from stocksync.sandbox import Sandbox
from tests.processes import Processes
from tests.quick_processes import flagged, take_orders
from tests.servers import RedisServer, wait_until


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("module", ["jobs.worker", "jobs.scheduler"])
def test_without_redis_a_process_waits_for_it_and_still_stops(
    quick_shop: Processes, redis_server: RedisServer, module: str
) -> None:
    redis_server.stop()
    process = quick_shop.start(module)
    wait_until(lambda: "Redis does not answer" in quick_shop.logs(), message="a word about it")

    assert process.poll() is None
    assert quick_shop.end(process) == 0
    assert "Traceback" not in quick_shop.logs()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("module", "orders"), [("jobs.worker", 1), ("jobs.worker", 200), ("jobs.scheduler", 1)]
)
def test_a_redis_that_hangs_does_not_keep_a_process_from_stopping_in_time(
    quick_shop: Processes, sandbox: Sandbox, redis_url: str, module: str, orders: int
) -> None:
    sandbox.set_faults(latency_ms=100)
    take_orders(quick_shop, range(orders))
    process = quick_shop.start(module)
    words = {"jobs.worker": "Listening", "jobs.scheduler": "periodic task"}
    wait_until(lambda: words[module] in quick_shop.logs(), message="the process")
    if module == "jobs.worker":
        wait_until(lambda: len(flagged(sandbox)) >= min(orders, 20), message="some deliveries")
    redis_process: Any = Redis.from_url(redis_url).info("server")
    os.kill(redis_process["process_id"], signal.SIGSTOP)
    try:
        started = time.monotonic()
        assert quick_shop.end(process) == 0
        assert time.monotonic() - started < 10
    finally:
        os.kill(redis_process["process_id"], signal.SIGCONT)
    assert "Traceback" not in quick_shop.logs()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_orders_taken_while_redis_is_down_are_delivered_when_it_is_back_and_empty(
    quick_shop: Processes, sandbox: Sandbox, redis_server: RedisServer
) -> None:
    quick_shop.start("jobs.worker")
    quick_shop.start("jobs.scheduler")
    take_orders(quick_shop, range(5))
    quick_shop.wait_for_rest()

    redis_server.stop()
    take_orders(quick_shop, range(5, 60))
    redis_server.start()
    quick_shop.wait_for_rest()

    assert flagged(sandbox) == {f"order-{number}" for number in range(60)}
    redis = Redis.from_url(redis_server.url)
    assert redis.zscore("stock-sync:scheduler:scheduled_jobs", "periodic-sweep") is not None
    wait_until(lambda: redis.scard("rq:workers") == 1, message="the worker's registration")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_after_flushall_everything_goes_on_without_a_person(
    quick_shop: Processes, sandbox: Sandbox, redis_url: str
) -> None:
    quick_shop.start("jobs.worker")
    quick_shop.start("jobs.scheduler")
    take_orders(quick_shop, range(3))
    quick_shop.wait_for_rest()
    redis = Redis.from_url(redis_url)
    redis.flushall()
    sandbox.set_faults(error_share=0.5, seed=3)
    take_orders(quick_shop, range(3, 40))
    redis.flushall()
    wait_until(lambda: sandbox.stats()["requests"]["PUT"] >= 20, timeout=20, message="some that fail")
    redis.flushall()  # their next attempts and the breaker's state with it
    sandbox.set_faults(error_share=0.0)
    quick_shop.wait_for_rest()

    assert flagged(sandbox) == {f"order-{number}" for number in range(40)}
    assert redis.zscore("stock-sync:scheduler:scheduled_jobs", "periodic-sweep") is not None
