"""A monitor that is late: whoever lives runs it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from stocksync.errors import DatabaseUnavailable
from stocksync.queue.process import StockSyncWorker
from stocksync.queue.wakeups import connect_redis, make_queue, processes_alive, scheduler_lock
from tests.shop import open_shop
from tests.watching import Watched


@pytest.fixture
def at(database_url: str) -> Iterator[Watched]:
    with open_shop(
        database_url, STOCK_SYNC_ALERT_LANGUAGE="en", STOCK_SYNC_MONITORING_MAX_PENDING_OPERATIONS="3"
    ) as shop:
        yield Watched(shop)


def test_processes_are_heard_through_the_real_redis(redis_url: str) -> None:
    redis = connect_redis(redis_url, timeout=2)
    now = datetime.now(UTC)
    assert processes_alive(redis, "stock-sync", "stock-sync", now) == {"worker": False, "scheduler": False}
    worker = StockSyncWorker([make_queue(redis, "stock-sync")], worker_ttl=60)
    worker.register_birth()  # type: ignore[no-untyped-call]
    redis.set(scheduler_lock("stock-sync"), "me", ex=11)

    assert processes_alive(redis, "stock-sync", "stock-sync", now) == {"worker": True, "scheduler": True}
    later = now + timedelta(minutes=10)
    assert processes_alive(redis, "stock-sync", "stock-sync", later)["worker"] is False


def late_runs(at: Watched) -> list[str]:
    return [run["status"] for run in at.shop.runtime.periodic.runs.latest("monitor", 10)]


def test_a_monitor_that_is_late_is_run_by_whoever_lives(at: Watched) -> None:
    at.heard = {"worker": False, "scheduler": True}
    run_overdue_monitor = at.shop.runtime.run_overdue_monitor
    at.shop.clock.advance(31 * 60)
    run_overdue_monitor()
    assert late_runs(at) == []
    at.shop.clock.advance(60)
    for _ in range(3):
        run_overdue_monitor()
    assert late_runs(at) == ["done"]
    assert len(at.told.texts) == 1
    at.shop.clock.advance(32 * 60)
    run_overdue_monitor()
    assert late_runs(at) == ["done", "done"]


@pytest.mark.parametrize(
    ("error", "said", "tracebacks"),
    [
        (DatabaseUnavailable("gone"), "the database does not answer (gone)", 0),
        (ZeroDivisionError(), "could not be run", 2),
    ],
)
def test_whoever_stands_in_goes_on_when_the_monitor_fails(
    at: Watched,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    said: str,
    tracebacks: int,
) -> None:
    def fail(task: str) -> None:
        raise error

    monkeypatch.setattr(at.shop.runtime.periodic, "run", fail)
    at.shop.clock.advance(33 * 60)
    at.shop.runtime.run_overdue_monitor()
    at.shop.runtime.run_overdue_monitor()

    assert said in caplog.text
    assert caplog.text.count("Traceback") == tracebacks


def test_an_idle_worker_looks_after_the_monitor(
    at: Watched, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    monkeypatch.setattr(
        at.shop.runtime, "run_overdue_monitor", lambda: looked.append(str(worker.get_state()))
    )
    worker: Any = StockSyncWorker(
        [make_queue(connect_redis(redis_url, timeout=2), "stock-sync")], worker_ttl=60
    )
    worker.runtime = at.shop.runtime
    worker.register_birth()
    worker.heartbeat()
    for state in ("busy", "idle"):
        worker.set_state(state)
        worker.heartbeat()

    assert looked == ["idle"]
