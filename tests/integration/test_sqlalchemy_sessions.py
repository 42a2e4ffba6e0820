"""SQLAlchemy sessions of all kinds: several at once, asynchronous ones, other drivers, databases that were not migrated."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlmodel
from sqlalchemy import Engine, create_engine, event, make_url, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from stocksync import SyncResult
from stocksync.contrib.sqlalchemy import with_session
from stocksync.errors import SessionUnsuitable, TablesMissing
from tests.monolith import ALL_OF_ONE, BEHIND_PGBOUNCER, DRIVERS, NOTHING, Monolith, Sale, url_of
from tests.servers import wait_until
from tests.shop import SELLER, Shop, form, open_shop

ASYNC_DRIVERS = ("sqlite+aiosqlite", "postgresql+psycopg_async")


@pytest.fixture(params=[*DRIVERS, BEHIND_PGBOUNCER])
def monolith(request: pytest.FixtureRequest) -> Iterator[Monolith]:
    database_url = url_of(request, request.param)
    url = make_url(database_url).set(drivername=request.param.replace("pgbouncer", "postgresql"))
    # As the driver's manual says for a pooler of transactions; the monolith's own statements need it too.
    through_pooler = {"prepare_threshold": None} if request.param == BEHIND_PGBOUNCER else {}
    engine = create_engine(url, connect_args=through_pooler)
    with open_shop(database_url) as shop:
        sqlmodel.SQLModel.metadata.create_all(engine)
        yield Monolith(shop, engine, Session)
        engine.dispose()


@pytest.fixture
def shop(monolith: Monolith) -> Shop:
    return monolith.shop


@pytest.mark.parametrize("driver", ["postgresql+psycopg", "postgresql+psycopg2"])
def test_two_sessions_with_one_order_take_turns(postgres_url: str, driver: str) -> None:
    with open_shop(postgres_url) as shop:
        monolith = Monolith(shop, create_engine(make_url(postgres_url).set(drivername=driver)), Session)
        answers: list[SyncResult] = []

        def second() -> None:
            with monolith.open() as session:
                answers.append(monolith.deduct(session))
                session.commit()

        with monolith.open() as session:
            first = monolith.deduct(session)
            thread = threading.Thread(target=second)
            thread.start()
            wait_until(lambda: waits_for_a_lock(monolith.engine))
            assert answers == []
            session.commit()
        thread.join(10)
        monolith.engine.dispose()

        assert answers == [first]
        assert shop.statuses() == ["pending"]


def waits_for_a_lock(engine: Engine) -> bool:
    with engine.connect() as connection:
        waiting = text(
            "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            " AND datname = current_database()"
        )
        return bool(connection.execute(waiting).scalar())


def test_sessions_of_many_threads_lose_nothing(monolith: Monolith) -> None:
    monolith.shop.stock(A=100)

    def sell(number: int) -> None:
        for turn in range(5):
            order_id = f"order-{number}-{turn}"
            with monolith.open() as session, session.begin():
                session.execute(text("SELECT 1"))
                monolith.sync(session).orders.process_order_stock_update(form(order_id))
                session.add(Sale(order_id=order_id))

    threads = [threading.Thread(target=sell, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert len(monolith.sold()) == len(monolith.shop.statuses()) == len(monolith.shop.wakeups.woken) == 30
    assert (monolith.shop.on_hand("A"), monolith.shop.broken_promises()) == (70, [])


# How people set their sessions up


@pytest.mark.parametrize("begins", ["BEGIN", "BEGIN IMMEDIATE"])
def test_sqlite_that_begins_by_the_callers_own_hand(sqlite_url: str, begins: str) -> None:
    engine = create_engine(sqlite_url)

    @event.listens_for(engine, "connect")
    def by_hand(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql(begins)

    with open_shop(sqlite_url) as shop:
        sqlmodel.SQLModel.metadata.create_all(engine)
        monolith = Monolith(shop, engine, Session)
        with monolith.open() as session:
            with session.begin_nested():
                session.add(Sale(order_id="order-1"))
                monolith.deduct(session)
            session.rollback()
            assert monolith.seen() == NOTHING
            session.add(Sale(order_id="order-1"))
            monolith.deduct(session)
            session.commit()
        assert monolith.seen() == ALL_OF_ONE
        engine.dispose()


@pytest.mark.parametrize("driver", ASYNC_DRIVERS)
def test_an_async_session_through_run_sync(request: pytest.FixtureRequest, driver: str) -> None:
    database_url = url_of(request, driver)

    async def sells(shop: Shop) -> None:
        engine = create_async_engine(make_url(database_url).set(drivername=driver))
        async with engine.begin() as connection:
            await connection.run_sync(sqlmodel.SQLModel.metadata.create_all)
        async with AsyncSession(engine) as session:
            for finish in (session.rollback, session.commit):
                session.add(Sale(order_id="order-1"))
                result = await session.run_sync(
                    lambda sync: with_session(sync, shop.runtime).service.sync_stock_deduction(
                        SELLER, "order-1", "A", 1, line_item_id="line-1"
                    )
                )
                again = await session.run_sync(
                    lambda sync: with_session(sync, shop.runtime).service.sync_stock_deduction(
                        SELLER, "order-1", "A", 1, line_item_id="line-1"
                    )
                )
                assert (again, shop.wakeups.woken) == (result, [])
                await finish()
        await engine.dispose()

    with open_shop(database_url) as shop:
        asyncio.run(sells(shop))
        assert (shop.statuses(), shop.wakeups.woken) == (["pending"], [SELLER])


def test_an_async_session_itself_is_refused_with_the_way_to_do_it(sqlite_url: str) -> None:
    session: Any = AsyncSession(create_async_engine("sqlite+aiosqlite://"))

    with open_shop(sqlite_url) as shop, pytest.raises(SessionUnsuitable, match="run_sync"):
        with_session(session, shop.runtime)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.starts_empty
def test_a_database_that_was_not_migrated_is_named_with_what_to_do(
    request: pytest.FixtureRequest, tmp_path: Path, driver: str
) -> None:
    url = make_url(url_of(request, driver)).set(drivername=driver)
    engine = create_engine(url)
    sqlmodel.SQLModel.metadata.create_all(engine)
    with open_shop(f"sqlite:///{tmp_path / 'elsewhere'}") as shop:
        monolith = Monolith(shop, engine, Session)
        with monolith.open() as session:
            session.add(Sale(order_id="order-1"))
            with pytest.raises(TablesMissing, match="python -m stocksync migrate") as missing:
                monolith.deduct(session)
            session.commit()
        assert missing.value.database == str(url)
        assert monolith.sold() == ["order-1"]
    engine.dispose()


def test_a_table_that_lacks_a_column_counts_as_not_migrated(monolith: Monolith) -> None:
    with monolith.engine.begin() as connection:
        connection.execute(text("ALTER TABLE pending_stock_operations DROP COLUMN actor"))
        connection.execute(text("ALTER TABLE pending_stock_operations RENAME COLUMN reason TO why"))

    with monolith.open() as session, pytest.raises(TablesMissing):
        monolith.deduct(session)


def test_other_drivers_are_refused(sqlite_url: str) -> None:
    class Elsewhere(Session):
        def get_bind(self, *_: Any, **__: Any) -> Any:
            return SimpleNamespace(dialect=SimpleNamespace(driver="asyncpg"))

    with open_shop(sqlite_url) as shop, pytest.raises(SessionUnsuitable, match=r"asyncpg.*psycopg2"):
        with_session(Elsewhere(), shop.runtime)


def test_autocommit_is_refused_where_nothing_would_be_atomic(postgres_url: str) -> None:
    for driver in ("postgresql+psycopg", "postgresql+psycopg2"):
        engine = create_engine(make_url(postgres_url).set(drivername=driver), isolation_level="AUTOCOMMIT")
        with open_shop(postgres_url) as shop, Session(engine) as session:
            with pytest.raises(SessionUnsuitable, match="AUTOCOMMIT"):
                Monolith(shop, engine, Session).deduct(session)
            session.close()
        engine.dispose()
