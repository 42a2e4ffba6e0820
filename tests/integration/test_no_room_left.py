"""The disk is full, Redis is full: that is an outage like others, named, and over when there is room again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from stocksync.errors import DatabaseUnavailable
from stocksync.sandbox import Sandbox
from stocksync.store.outages import is_unavailable
from tests.processes import Processes
from tests.quick_processes import QUICK, flagged, take_orders
from tests.servers import wait_until
from tests.shop import open_shop


@pytest.fixture
def full_redis(redis_url: str) -> Iterator[Redis]:
    """One whose `maxmemory` is the test's to set."""
    redis = Redis.from_url(redis_url)
    before: Any = redis.config_get("maxmemory*")
    try:
        yield redis
    finally:
        for name in ("maxmemory", "maxmemory-policy"):
            redis.config_set(name, before[name])


def test_a_full_disk_is_named_and_counts_as_an_outage(sqlite_url: str) -> None:
    with open_shop(sqlite_url) as shop:
        database = shop.runtime.database
        with database.scope():
            pages = database.execute_sql("PRAGMA page_count").fetchone()[0]
            database.execute_sql(f"PRAGMA max_page_count = {pages}")
            recorded = 0
            with pytest.raises(DatabaseUnavailable, match="disk is full") as raised:  # noqa: PT012
                for number in range(1000):
                    shop.deduct(f"order-{number}")
                    recorded += 1
            database.execute_sql("PRAGMA max_page_count = 1000000")
            shop.deduct("order-after")

        assert is_unavailable(raised.value)
        assert len(shop.statuses()) == recorded + 1
        assert shop.broken_promises() == []


def test_a_worker_says_once_that_redis_is_full_and_goes_on_when_it_is_not(
    tmp_path: Path, sqlite_url: str, full_redis: Redis, redis_url: str
) -> None:
    with (
        Sandbox(token="sandbox") as sandbox,
        Processes(tmp_path, sqlite_url, redis_url, sandbox, **QUICK) as shop,
    ):
        shop.command("stock", "import", "-", text="sku,warehouse,quantity\nA,Ирина,100000\n")
        shop.start("jobs.worker")
        sandbox.set_faults(latency_ms=50)
        take_orders(shop, range(100))
        wait_until(lambda: flagged(sandbox), message="the first delivery")
        full_redis.config_set("maxmemory-policy", "noeviction")
        full_redis.config_set("maxmemory", "1mb")  # in the middle of a job
        wait_until(lambda: "Redis does not answer (OutOfMemoryError)" in shop.logs(), 20, shop.logs)
        full_redis.config_set("maxmemory", "0")
        wait_until(lambda: "Redis answers again" in shop.logs(), 20, shop.logs)
        shop.command("sweep")
        shop.wait_for_rest()

        assert len(flagged(sandbox)) == 100
        assert "Traceback" not in shop.logs()
