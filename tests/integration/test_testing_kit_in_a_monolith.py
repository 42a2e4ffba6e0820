"""The testing kit inside a monolith: its own database, its transactions, its clock, unittest."""

from __future__ import annotations

import subprocess
import sys
import unittest
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.orm import Session

from stocksync import ConfigurationError, Runtime, StockSyncConfig, runtime
from stocksync.contrib.sqlalchemy import with_session
from stocksync.testing import Harness, harness
from tests.kit import DELIVERED, RETRYING, SELLER, sell, statuses

# The caller's transaction


def test_a_commit_wakes_and_a_rollback_does_not(stock_sync: Harness) -> None:
    engine = create_engine(stock_sync.database_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE sale (order_id TEXT)"))
    with Session(engine) as session:
        for order, end in (("order-1", session.rollback), ("order-2", session.commit)):
            assert stock_sync.woken == set()
            session.execute(text(f"INSERT INTO sale VALUES ('{order}')"))
            with_session(session).service.sync_stock_deduction(SELLER, order, "A", 1)
            assert stock_sync.operations() == []  # nobody else sees it yet, nor waits for it
            end()

    assert stock_sync.woken == {SELLER}
    assert stock_sync.deliver_now() == DELIVERED
    assert stock_sync.woken == set()
    assert stock_sync.remote.told == {(SELLER, "order-2"): True}
    engine.dispose()


def test_it_works_in_the_monoliths_own_database(database_url: str) -> None:
    url = make_url(database_url)
    engine = create_engine(url if url.drivername == "sqlite" else url.set(drivername="postgresql+psycopg"))
    with harness(database_url) as stock_sync, Session(engine) as session:
        assert stock_sync.database_url == database_url
        with_session(session).service.sync_stock_deduction(SELLER, "order-1", "A", 1)
        session.commit()
        assert stock_sync.deliver_now() == DELIVERED
    with harness(database_url) as stock_sync:  # nothing was taken away from it
        assert statuses(stock_sync) == ["completed"]
    engine.dispose()


# The process's own runtime, the clock, settings


def test_it_is_the_processs_own_runtime_for_as_long_as_it_lasts() -> None:
    before = Runtime(StockSyncConfig.load({"DATABASE_URL": "sqlite:///never-opened"}))
    runtime.use(before)
    try:
        with harness() as outer:
            assert runtime.current() is outer.runtime
            sell(outer)
            with harness() as inner:
                assert (runtime.current(), statuses(inner)) == (inner.runtime, [])
            operation = outer.operations()[0]["id"]
            assert outer.runtime.queries.operation(operation)["status"] == "pending"
        assert runtime.current() is before
    finally:
        runtime.use(None)


def test_it_outlives_the_end_of_the_monolith(stock_sync: Harness) -> None:
    sell(stock_sync, immediate=True)
    sell(stock_sync, "order-2")
    stock_sync.runtime.close()  # as a web framework does when its test client ends

    assert stock_sync.deliver_now() == DELIVERED
    assert statuses(stock_sync) == ["completed", "completed"]


def test_the_environment_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOCK_SYNC_RETRY_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/production")
    with harness() as stock_sync:
        sell(stock_sync)
        stock_sync.remote.fail(404)
        assert stock_sync.deliver_now() == RETRYING


def test_settings_are_given_by_their_names() -> None:
    with harness(retry_max_attempts=1) as stock_sync:
        sell(stock_sync)
        stock_sync.remote.fail(404)
        assert stock_sync.deliver_now()["max_retries_reached"] == 1
    with pytest.raises(ConfigurationError, match="RETRY_MAX_ATTEMPTS"), harness(retry_max_attempts=0):
        pass


def test_the_clock_stands_still_and_can_be_set(stock_sync: Harness) -> None:
    assert abs(stock_sync.clock() - datetime.now(UTC)) < timedelta(minutes=1)
    stock_sync.clock.now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    stock_sync.clock.advance(5, minutes=1, hours=2, days=1)
    sell(stock_sync)

    assert stock_sync.operations()[0]["created_at"] == datetime(2026, 3, 2, 14, 1, 5, tzinfo=UTC)


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with harness() as stock_sync:
        sell(stock_sync)
        file = Path(make_url(stock_sync.database_url).database or "")
        assert file.exists()

    assert not file.parent.exists()
    assert list(tmp_path.iterdir()) == []


class WithUnittest(unittest.TestCase):
    def test_the_same_with_unittest(self) -> None:
        stock_sync = self.enterContext(harness())
        sell(stock_sync)
        self.assertEqual(stock_sync.deliver_now(), DELIVERED)  # noqa: PT009 (as its users write it)


def test_it_needs_no_pytest() -> None:
    program = """
import sys
sys.modules["pytest"] = None
from stocksync.testing import harness
with harness() as stock_sync:
    stock_sync.runtime.service.sync_stock_deduction("seller-1", "order-1", "A", 1)
    print(stock_sync.deliver_now()["succeeded"])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.stdout == "1\n"
