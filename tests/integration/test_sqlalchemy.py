"""Operations on the caller's SQLAlchemy session: with its rows or not at all, woken after its commit."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import sqlmodel
from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from stocksync import IdempotencyConflict, InsufficientStock
from stocksync.contrib.sqlalchemy import with_session
from stocksync.errors import SessionUnsuitable
from tests.monolith import ALL_OF_ONE, BEHIND_PGBOUNCER, DRIVERS, NOTHING, Monolith, Sale, url_of
from tests.shop import SELLER, WAREHOUSE, Shop, form, open_shop


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
