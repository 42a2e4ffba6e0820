"""Operations on the caller's SQLAlchemy session: with its rows or not at all, woken after its commit."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlmodel
from sqlalchemy import Engine, create_engine, event, make_url, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from stocksync import IdempotencyConflict, InsufficientStock, SyncResult
from stocksync.contrib.sqlalchemy import SessionSync, with_session
from stocksync.errors import SessionUnsuitable, TablesMissing
from tests.servers import wait_until
from tests.shop import SELLER, WAREHOUSE, Shop, form, open_shop

DRIVERS = ("sqlite+pysqlite", "postgresql+psycopg", "postgresql+psycopg2")
BEHIND_PGBOUNCER = "pgbouncer+psycopg"
ASYNC_DRIVERS = ("sqlite+aiosqlite", "postgresql+psycopg_async")


class Sale(sqlmodel.SQLModel, table=True):
    """A row of the caller's own."""

    id: int | None = sqlmodel.Field(default=None, primary_key=True)
    order_id: str = sqlmodel.Field(unique=True)


@dataclass
class Monolith:
    """Somebody's program with its own engine on the shop's database."""

    shop: Shop
    engine: Engine
    session_class: type[Session]

    def open(self) -> Session:
        return self.session_class(self.engine)

    def sync(self, session: Session) -> SessionSync:
        return with_session(session, self.shop.runtime)

    def deduct(self, session: Session, order_id: str = "order-1", **given: Any) -> SyncResult:
        call: dict[str, Any] = {"sku": "A", "quantity": 1, "line_item_id": "line-1"} | given
        return self.sync(session).service.sync_stock_deduction(SELLER, order_id, **call)

    def sold(self) -> list[str]:
        """The orders of its own rows, as others see them."""
        with self.open() as session:
            return list(session.execute(text("SELECT order_id FROM sale ORDER BY order_id")).scalars())

    def seen(self) -> tuple[list[str], list[str], list[str]]:
        """(its own rows, statuses of operations, lanes woken), after the fact."""
        return self.sold(), self.shop.statuses(), self.shop.wakeups.woken


NOTHING: tuple[list[str], list[str], list[str]] = ([], [], [])
ALL_OF_ONE = (["order-1"], ["pending"], [SELLER])


def url_of(request: pytest.FixtureRequest, driver: str) -> str:
    """The URL of a new, empty database, without a driver."""
    kind = driver.split("+", maxsplit=1)[0].replace("postgresql", "postgres")
    url: str = request.getfixturevalue(f"{kind}_url")
    return url


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


# Atomic with the caller's rows


@pytest.mark.parametrize("session_class", [Session, sqlmodel.Session])
def test_a_commit_brings_both_and_wakes_the_lane_once(
    monolith: Monolith, session_class: type[Session]
) -> None:
    monolith.session_class = session_class
    with monolith.open() as session:
        session.add(Sale(order_id="order-1"))
        result = monolith.deduct(session)
        assert (result.success, result.status, monolith.shop.wakeups.woken) == (True, "pending", [])
        session.commit()

    assert monolith.seen() == ALL_OF_ONE
    assert monolith.shop.actions(result.operation_id) == ["created"]
    assert monolith.shop.broken_promises() == []


@pytest.mark.parametrize("own_rows_first", [True, False])
@pytest.mark.parametrize("how", [Session.rollback, Session.close])
def test_a_rollback_leaves_neither_and_wakes_nobody(
    monolith: Monolith, how: Callable[[Session], None], own_rows_first: bool
) -> None:
    with monolith.open() as session:
        if own_rows_first:
            session.add(Sale(order_id="order-1"))
            session.flush()
        monolith.deduct(session)
        session.add(Sale(order_id="order-2"))
        session.flush()
        how(session)

        # The same session goes on; what was rolled back is not woken with what is committed.
        session.add(Sale(order_id="order-3"))
        session.commit()

    assert monolith.seen() == (["order-3"], [], [])


def test_a_commit_that_fails_wakes_nobody(monolith: Monolith) -> None:
    with monolith.open() as session:
        monolith.deduct(session)
        session.add_all([Sale(order_id="order-1"), Sale(order_id="order-1")])
        with pytest.raises(IntegrityError):
            session.commit()

    assert monolith.seen() == NOTHING


def test_the_callers_unflushed_rows_are_left_unflushed(monolith: Monolith) -> None:
    with monolith.open() as session:
        sale = Sale(order_id="order-1")
        session.add(sale)
        monolith.deduct(session)

        assert sale in session.new


def test_each_transaction_of_one_session_wakes_for_itself(monolith: Monolith) -> None:
    with monolith.open() as session:
        for order_id in ("order-1", "order-2", "order-3"):
            monolith.deduct(session, order_id)
            session.commit()

    assert monolith.shop.wakeups.woken == [SELLER] * 3


def test_a_scoped_session_is_taken_too(monolith: Monolith) -> None:
    session = scoped_session(sessionmaker(monolith.engine))
    with_session(session, monolith.shop.runtime).service.sync_stock_deduction(SELLER, "order-1", "A", 1)
    assert monolith.shop.wakeups.woken == []
    session.commit()
    session.remove()

    assert (monolith.shop.statuses(), monolith.shop.wakeups.woken) == (["pending"], [SELLER])


# Savepoints


def test_a_rolled_back_savepoint_takes_only_its_own_along(monolith: Monolith) -> None:
    with monolith.open() as session:
        session.add(Sale(order_id="order-1"))
        monolith.deduct(session)
        savepoint = session.begin_nested()
        monolith.deduct(session, "order-2")
        session.add(Sale(order_id="order-2"))
        savepoint.rollback()
        session.commit()

    sold, statuses, woken = monolith.seen()
    assert (sold, statuses, set(woken)) == (["order-1"], ["pending"], {SELLER})


def test_a_released_savepoint_goes_with_the_transaction_around_it(monolith: Monolith) -> None:
    with monolith.open() as session:
        session.add(Sale(order_id="order-0"))
        session.flush()
        with session.begin_nested():
            session.add(Sale(order_id="order-1"))
            monolith.deduct(session)
        session.rollback()

    assert monolith.seen() == NOTHING


# Repeats and refusals


def test_a_repeat_in_the_same_uncommitted_session_answers_with_the_first(monolith: Monolith) -> None:
    with monolith.open() as session:
        first = monolith.deduct(session)
        again = monolith.deduct(session)
        session.commit()

    assert again == first
    assert monolith.shop.statuses() == ["pending"]


def test_immediate_inside_a_session_is_only_queued(monolith: Monolith) -> None:
    with monolith.open() as session:
        result = monolith.deduct(session, immediate=True)
        session.commit()

    assert (result.success, result.status, monolith.shop.remote.calls) == (True, "pending", [])
    assert monolith.shop.wakeups.woken == [SELLER]


def test_a_refused_call_leaves_the_session_usable(monolith: Monolith) -> None:
    with monolith.open() as session:
        session.add(Sale(order_id="order-1"))
        monolith.deduct(session)
        with pytest.raises(IdempotencyConflict):
            monolith.deduct(session, quantity=2)
        session.commit()

    assert monolith.seen() == ALL_OF_ONE
    assert monolith.shop.broken_promises() == []


def test_nothing_is_delivered_inside_a_session(monolith: Monolith) -> None:
    with monolith.open() as session, pytest.raises(SessionUnsuitable, match="worker"):
        monolith.sync(session).service.process_pending_operations()


def test_retry_and_cancel_go_with_the_session(monolith: Monolith) -> None:
    with monolith.open() as session:
        first, second = (monolith.deduct(session, id).operation_id for id in ("order-1", "order-2"))
        assert first
        assert second
        session.commit()
        monolith.sync(session).service.retry(first, actor="Anna")
        monolith.sync(session).service.cancel(second, actor="Anna", reason="sold twice")
        session.rollback()
        assert monolith.shop.statuses() == ["pending", "pending"]
        monolith.sync(session).service.cancel(second, actor="Anna", reason="sold twice")
        session.commit()

    assert monolith.shop.statuses() == ["pending", "cancelled"]


# Whole orders


def test_a_whole_order_is_deducted_with_the_callers_rows(monolith: Monolith) -> None:
    monolith.shop.stock(A=10, B=5)
    given = form(lines={"1": ("A", 3), "2": ("B", 2), "3": ("B", 1), "post": (None, 1)})
    with monolith.open() as session:
        session.add(Sale(order_id="order-1"))
        assert monolith.sync(session).orders.process_order_stock_update(given).status == "queued"
        assert monolith.sync(session).inventory.on_hand("A", WAREHOUSE) == 7
        session.rollback()
        assert monolith.seen() == NOTHING
        session.add(Sale(order_id="order-1"))
        monolith.sync(session).orders.process_order_stock_update(given)
        session.commit()

    assert (monolith.shop.on_hand("A"), monolith.shop.on_hand("B")) == (7, 2)
    assert monolith.seen() == (["order-1"], ["pending"] * 3, [SELLER])
    assert monolith.shop.broken_promises() == []


def test_an_order_that_is_short_leaves_the_callers_rows_committable(monolith: Monolith) -> None:
    monolith.shop.stock(A=10, B=1)
    with monolith.open() as session:
        session.add(Sale(order_id="order-1"))
        with pytest.raises(InsufficientStock):
            monolith.sync(session).orders.process_order_stock_update(
                form(lines={"1": ("A", 3), "2": ("B", 2)})
            )
        session.commit()

    assert monolith.seen() == (["order-1"], [], [])
    assert (monolith.shop.on_hand("A"), monolith.shop.broken_promises()) == (10, [])


def test_what_a_session_recorded_the_engine_delivers(monolith: Monolith) -> None:
    with monolith.open() as session:
        operation = monolith.deduct(session).operation_id
        session.commit()
        monolith.shop.drain()

        assert monolith.shop.remote.flags == {(SELLER, "order-1"): True}
        assert monolith.shop.operation(operation)["status"] == "completed"
        assert monolith.deduct(session).status == "completed"
        session.rollback()
    assert monolith.shop.broken_promises() == []


# Several sessions at once


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
