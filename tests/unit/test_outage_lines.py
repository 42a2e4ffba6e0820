"""A line when something stops answering, a line when it answers again; faults of ours are not taken for that."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta

import pytest
from peewee import IntegrityError, OperationalError, ProgrammingError
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
    ResponseError,
    TimeoutError as RedisTimeoutError,
)

from stocksync import runtime
from stocksync.errors import DatabaseUnavailable
from stocksync.queue import tasks
from stocksync.queue.process import _is_news
from stocksync.store.outages import REDIS, Outage, is_unavailable
from tests.shop import SELLER, Clock, Shop, open_shop


@pytest.fixture
def shop(sqlite_url: str) -> Iterator[Shop]:
    """A worker's shop, on a database that others lock for longer than it waits."""
    with open_shop(sqlite_url, STOCK_SYNC_DATABASE_BUSY_TIMEOUT="0.05") as opened:
        runtime.use(opened.runtime)
        yield opened
        runtime.use(None)


def test_it_is_said_once_when_it_begins_and_once_when_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    outage = Outage(REDIS, clock)
    for _ in range(2):
        outage.ends()
        for _ in range(3):
            outage.begins(RedisConnectionError("Error 111 connecting to :secret@redis:6379"))
            clock.advance(1201)
        outage.ends()
        outage.ends()

    begun, over, again, _ = caplog.messages
    assert begun == again
    assert begun.startswith("Redis does not answer (ConnectionError). ")
    assert over.startswith("Redis answers again, after 1:00:03 (since 20")
    assert "secret" not in caplog.text


def test_threads_that_notice_it_together_say_it_once(caplog: pytest.LogCaptureFixture) -> None:
    outage = Outage(("gone (%s)", "back"))
    together = threading.Barrier(8)

    def notice() -> None:
        together.wait(10)
        outage.begins("so it is")

    threads = [threading.Thread(target=notice) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert caplog.messages == ["gone (so it is)"]


def test_it_may_have_begun_before_this_process_noticed(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    outage = Outage(("gone (%s)", "back"), clock)
    outage.begins("so it is", clock.now - timedelta(minutes=2))
    outage.ends()

    assert "after 0:02:00" in caplog.text


def test_while_sqlite_is_locked_jobs_end_quietly_and_reading_does_not_count_as_its_end(
    shop: Shop, sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    shop.deduct()
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)) as held:
        held.execute("BEGIN IMMEDIATE")
        skipped = [tasks.sweep(), tasks.deliver_lane(SELLER)]
        shop.runtime.run_overdue_monitor()  # does no more than read
        skipped.append(tasks.monitor())
    shop.runtime.run_overdue_monitor()
    report = tasks.deliver_lane(SELLER)

    assert skipped == [{"skipped": "the database does not answer"}] * 3
    assert report["delivered"] == 1
    begun, over = (line for line in caplog.messages if "the database" in line)
    assert begun.startswith("the database does not answer (")
    assert "locked" in begun
    assert over.startswith("the database answers again, after ")
    assert "Traceback" not in caplog.text


def test_a_fault_of_ours_fails_its_job(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shop.runtime.periodic, "sweep", lambda: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        tasks.sweep()


def test_a_statement_that_is_wrong_is_no_outage(shop: Shop) -> None:
    database = shop.runtime.database
    with pytest.raises(OperationalError) as read:
        database.execute_sql("SELECT FROM WHERE")
    with pytest.raises(DatabaseUnavailable) as written, database.transaction_scope():
        database.execute_sql("UPDATE SET")

    assert not is_unavailable(read.value)
    assert not is_unavailable(written.value)
    assert not is_unavailable(ProgrammingError("no such column"))
    assert not is_unavailable(IntegrityError("a row too many"))
    assert is_unavailable(OperationalError("connection refused"))
    assert is_unavailable(DatabaseUnavailable("gone"))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RedisTimeoutError("Timeout reading from socket"), ["Redis does not answer (TimeoutError)"]),
        (RedisConnectionError("refused"), ["Redis does not answer (ConnectionError)"]),
        (ResponseError("WRONGTYPE"), ["quitting...", "quitting..."]),
        (ZeroDivisionError(), ["quitting...", "quitting..."]),
    ],
)
def test_of_what_rq_complains_only_faults_are_left(
    shop: Shop, caplog: pytest.LogCaptureFixture, error: Exception, said: list[str]
) -> None:
    rq = logging.getLogger("rq.worker")
    rq.addFilter(is_news := lambda record: _is_news(record, shop.runtime))
    try:
        for _ in range(2):
            try:
                raise error
            except Exception:
                rq.error("quitting...", exc_info=True)
    finally:
        rq.removeFilter(is_news)

    assert [line.split(". ")[0] for line in caplog.messages] == said
