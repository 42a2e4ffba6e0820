"""SIGTERM may come in the middle of anything, also while a log line is written, where logging swallows every error."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Iterator

import pytest

from stocksync import StockSyncConfig
from stocksync.queue.process import work
from stocksync.runtime import Runtime
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
    level, before = (
        root.level,
        {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)},
    )
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield handler
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        for number, action in before.items():
            signal.signal(number, action)


@pytest.mark.timeout(20)
def test_an_idle_worker_ends_though_the_signal_came_while_it_wrote_its_log(
    sqlite_url: str, redis_url: str, handler: TerminatedWhileWriting
) -> None:
    settings = {
        "DATABASE_URL": sqlite_url, "REDIS_URL": redis_url, "ALLEGRO_MICROSERVICE_BASE_URL": "http://127.0.0.1:9",
        "ALLEGRO_MICROSERVICE_JWT_TOKEN": "sandbox",
    }  # fmt: skip
    runtime = Runtime(StockSyncConfig.load(settings))
    migrate(runtime.database)
    began = time.monotonic()
    try:
        work(runtime)  # until the time is up, if the signal is lost
    finally:
        runtime.close()

    assert handler.done
    assert time.monotonic() - began < 10
