"""SIGTERM may come in the middle of anything: while a log line is written, while a job ends and Redis hangs."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis
from redis.client import Pipeline
from rq import Queue
from rq.exceptions import StopRequested

from stocksync import StockSyncConfig
from stocksync.queue.process import StockSyncWorker, work
from stocksync.queue.wakeups import BLOCKING_SECONDS, RedisWakeups
from stocksync.runtime import Runtime, use
from stocksync.store.migrate import migrate


class TerminatedWhileWriting(logging.Handler):
    """SIGTERM comes while the first line is written in which RQ says that it waits for a job."""

    done = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self.done and "BLMOVE" in record.getMessage():
            self.done = True
            try:
                signal.raise_signal(signal.SIGTERM)
            except Exception:
                self.handleError(record)  # as every handler of logging does


@pytest.fixture
def handler(monkeypatch: pytest.MonkeyPatch) -> Iterator[TerminatedWhileWriting]:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    handler, root = TerminatedWhileWriting(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield handler
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


@pytest.fixture
def runtime(sqlite_url: str, redis_url: str) -> Iterator[Runtime]:
    settings = {
        "DATABASE_URL": sqlite_url, "REDIS_URL": redis_url, "ALLEGRO_MICROSERVICE_BASE_URL": "http://127.0.0.1:9",
        "ALLEGRO_MICROSERVICE_JWT_TOKEN": "sandbox",
    }  # fmt: skip
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    rq_log = logging.getLogger("rq.worker")
    filters = list(rq_log.filters)
    runtime = Runtime(StockSyncConfig.load(settings))
    migrate(runtime.database)
    use(runtime)
    try:
        yield runtime
    finally:
        rq_log.filters[:] = filters
        use(None)
        runtime.close()
        for number, action in before.items():
            signal.signal(number, action)


def test_a_worker_gives_a_slow_redis_its_time_until_it_is_told_to_stop(runtime: Runtime) -> None:
    def patience() -> float:
        """Seconds that the worker's own wake-ups wait for Redis."""
        assert isinstance(runtime.wakeups, RedisWakeups)
        return float(runtime.wakeups.queue.connection.connection_pool.connection_kwargs["socket_timeout"])

    assert patience() == runtime.config.caller_redis_timeout
    runtime.stop.set()
    work(runtime)  # it begins, and ends at once
    assert patience() == BLOCKING_SECONDS

    worker = StockSyncWorker([runtime.queue(blocking=True)])
    worker.runtime = runtime
    with contextlib.suppress(StopRequested):
        worker.request_stop(signal.SIGTERM, None)
    assert patience() == runtime.config.caller_redis_timeout


@pytest.mark.timeout(20)
def test_an_idle_worker_ends_though_the_signal_came_while_it_wrote_its_log(
    runtime: Runtime, handler: TerminatedWhileWriting
) -> None:
    began = time.monotonic()
    work(runtime)  # until the time is up, if the signal is lost

    assert handler.done
    assert time.monotonic() - began < 10


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "early", [False, True], ids=["the signal comes after", "the signal comes before WATCH"]
)
def test_a_redis_that_hangs_while_a_job_ends_is_not_waited_for_step_by_step(
    runtime: Runtime, redis_url: str, monkeypatch: pytest.MonkeyPatch, early: bool
) -> None:
    client: Any = Redis.from_url(redis_url)
    server = client.info("server")["process_id"]
    stopped_at: list[float] = []

    watch = Pipeline.watch

    def signalled(pipeline: Any, *names: Any) -> Any:
        stopped_at.append(time.monotonic())
        signal.raise_signal(signal.SIGTERM)
        monkeypatch.setattr(Pipeline, "watch", watch)
        return pipeline.watch(*names)

    def hang(*_: object, **__: object) -> dict[str, list[str]]:
        os.kill(server, signal.SIGSTOP)
        if not early:
            stopped_at.append(time.monotonic())
            signal.raise_signal(signal.SIGTERM)
        return {}

    if early:
        monkeypatch.setattr(Pipeline, "watch", signalled)
    monkeypatch.setattr(Queue, "move_dependents_to_ready", hang)  # in the middle of RQ's WATCH and EXEC
    runtime.wakeups.wake("seller-1")
    try:
        work(runtime)
    finally:
        os.kill(server, signal.SIGCONT)

    assert time.monotonic() - stopped_at[0] < 10
