"""A database that is away, callers that hold on, clients that hang: what is known is neither lost nor counted twice."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from stocksync.delivery.answers import Answer, Verdict, understand
from stocksync.delivery.client import ForeignClient
from stocksync.errors import DatabaseUnavailable
from tests.shop import DELIVERED, NO_ANSWER, SELLER, START, Shop, open_shop


@pytest.fixture
def shop(database_url: str) -> Iterator[Shop]:
    with open_shop(database_url, STOCK_SYNC_DATABASE_BUSY_TIMEOUT="0.2") as opened:
        yield opened


class Trouble:
    """Keeps the database from taking changes, from the first request on and for a while."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.ended = threading.Event()
        self.timer = threading.Timer(1.0, self.end)
        self.begun = False

    def begin(self) -> None:
        if self.begun:
            return
        self.begun = True
        if self.url.startswith("sqlite"):
            self.holder: Any = sqlite3.connect(
                self.url.removeprefix("sqlite:///"), isolation_level=None, check_same_thread=False
            )
            self.holder.execute("BEGIN IMMEDIATE")
        else:
            server, self.name = self.url.rsplit("/", 1)
            self.holder = psycopg.connect(f"{server}/postgres", autocommit=True)
            self.holder.execute(f"ALTER DATABASE {self.name} ALLOW_CONNECTIONS false")
            self.holder.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (self.name,)
            )
        self.timer.start()

    def end(self) -> None:
        if self.url.startswith("sqlite"):
            self.holder.execute("ROLLBACK")
        else:
            self.holder.execute(f"ALTER DATABASE {self.name} ALLOW_CONNECTIONS true")
        self.holder.close()
        self.ended.set()


@pytest.fixture
def trouble(database_url: str) -> Iterator[Trouble]:
    made = Trouble(database_url)
    yield made
    if made.begun:
        assert made.ended.wait(10)


@pytest.mark.pgbouncer
def test_an_answer_is_written_once_the_database_is_back_and_costs_no_attempt(
    shop: Shop, trouble: Trouble
) -> None:
    operations = [shop.deduct(f"order-{number}") for number in range(3)]
    shop.remote.takes_time = trouble.begin
    report = shop.drain()

    assert trouble.ended.is_set()
    assert report.figures["delivered"] == 3
    assert len(shop.remote.calls) == 3
    assert all(shop.actions(id) == ["created", "sync_success", "completed"] for id in operations)
    assert shop.broken_promises() == []


def test_told_to_stop_it_does_not_wait_for_the_database_and_a_later_drain_writes_the_answer(
    shop: Shop, trouble: Trouble
) -> None:
    operation = shop.deduct()
    shop.remote.takes_time = trouble.begin
    with pytest.raises(DatabaseUnavailable):
        shop.runtime.engine.drain(SELLER, lambda: trouble.begun)
    assert trouble.ended.wait(10)

    assert shop.drain().figures["delivered"] == 1
    assert len(shop.remote.calls) == 1
    assert shop.actions(operation) == ["created", "sync_success", "completed"]


def test_what_was_claimed_and_not_sent_when_the_database_went_is_given_back_without_an_attempt(
    shop: Shop, trouble: Trouble
) -> None:
    with shop.runtime.database.transaction_scope():
        operations = [shop.deduct(f"order-{number}") for number in range(150)]

    def answer(_: str) -> Answer:
        trouble.begin()
        time.sleep(0.01)  # the remote's latency, so that most of the claim waits
        return DELIVERED

    shop.remote.answer = answer
    with pytest.raises(DatabaseUnavailable):
        shop.runtime.engine.drain(SELLER, lambda: trouble.begun)
    assert trouble.ended.wait(10)
    shop.drain()

    assert {shop.operation(id)["status"] for id in operations} == {"completed"}
    assert {shop.operation(id)["retry_count"] for id in operations} == {0}
    assert len(shop.remote.calls) == 150


def test_a_caller_that_holds_an_order_for_long_holds_up_no_slice(postgres_url: str) -> None:
    with open_shop(postgres_url) as shop:
        for name in ("held", "free"):
            shop.deduct(name)
        caller = psycopg.connect(postgres_url)
        taken: list[str] = []

        def hold(order_id: str) -> Answer:
            if not taken:
                taken.append(order_id)
                caller.execute("SELECT id FROM stock_sync_orders WHERE order_id = 'held' FOR UPDATE")
            return DELIVERED

        shop.remote.answer = hold
        first = shop.drain()
        assert shop.wakeups.planned[SELLER] == shop.clock.now + timedelta(seconds=1)
        second = shop.drain()
        caller.rollback()  # closing alone lets go some time later
        caller.close()
        third = shop.drain()

        assert [report.figures["delivered"] for report in (first, second, third)] == [1, 0, 1]
        assert len(shop.remote.calls) == 2
        assert shop.wakeups.planned[SELLER] is None
        assert (shop.order("held").delivered_version, shop.order("held").attempts) == (1, 0)


class Interrupted(Exception):
    """As RQ raises its job timeout: anywhere."""


def test_a_job_that_is_interrupted_loses_no_answer_and_uses_up_no_attempt(shop: Shop) -> None:
    with shop.runtime.database.transaction_scope():
        operations = [shop.deduct(f"order-{number}") for number in range(400)]
    looks = 0

    def interrupt() -> bool:
        nonlocal looks
        looks += 1
        if looks == 3:
            raise Interrupted
        return False

    with pytest.raises(Interrupted), shop.runtime.database.scope():
        shop.runtime.engine.drain(SELLER, interrupt)
    assert shop.wakeups.planned[SELLER] is not None
    for _ in range(3):
        shop.drain()

    assert {shop.operation(id)["status"] for id in operations[::20]} == {"completed"}
    assert len(shop.remote.calls) == 400
    assert shop.broken_promises() == []


# A monolith's own client


def foreign(call: Any, timeout: float = 0.2) -> ForeignClient:
    return ForeignClient(SimpleNamespace(update_stock_status=call), timeout)


def told(client: ForeignClient) -> Answer:
    return client.update_stock_status(token_id="t", order_id="o", is_stock_updated=True)


def test_a_foreign_client_that_hangs_is_a_timeout_and_not_a_stuck_worker() -> None:
    released = threading.Event()
    client = foreign(lambda **_: released.wait(30))
    started = time.monotonic()
    answer = told(client)

    assert (answer.verdict, answer.error_class) == (Verdict.UNCLEAR, "Timeout")
    assert time.monotonic() - started < 5
    released.set()


def test_a_foreign_client_that_hangs_for_ever_takes_a_bounded_number_of_threads() -> None:
    released = threading.Event()
    client = foreign(lambda **_: released.wait(30), 0.01)
    with ThreadPoolExecutor(50) as callers:
        answers = list(callers.map(lambda _: told(client), range(50)))
    hanging = [thread for thread in threading.enumerate() if thread.name == "foreign-client"]

    assert {answer.error_class for answer in answers} == {"Timeout"}
    assert len(hanging) <= 32
    released.set()
    for thread in hanging:
        thread.join(5)
    assert told(foreign(lambda **_: SimpleNamespace(success=True))).success


def test_a_remote_that_fails_more_than_half_of_the_time_opens_the_breaker(sqlite_url: str) -> None:
    with open_shop(sqlite_url) as shop:
        for number in range(40):
            shop.deduct(f"order-{number:02}")
        shop.remote.answer = lambda order_id: DELIVERED if order_id.endswith(("3", "6", "9")) else NO_ANSWER
        shop.remote.healthy = False
        report = shop.drain()

        assert report.held_back == "outage"
        assert shop.runtime.breaker.open_until() is not None


def test_refused_credentials_of_many_orders_are_one_word_to_the_breaker(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(shop.runtime.breaker, "failed", said.append)
    shop.remote.answer = lambda _: understand(401, {"success": False, "error": "who are you"})
    with shop.runtime.database.transaction_scope():
        for number in range(40):
            shop.deduct(f"order-{number}")
    shop.drain()

    assert set(said) == {"credentials"}
    assert len(shop.remote.calls) > len(said)


def test_what_another_worker_finds_out_holds_back_the_next_batch_though_nobody_could_be_woken(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shop.wakeups, "wake", lambda *_, **__: False)
    with shop.runtime.database.transaction_scope():
        for number in range(450):
            shop.deduct(f"order-{number}")
    monkeypatch.setattr(shop.runtime.breaker, "admit", lambda: "closed")
    monkeypatch.setattr(shop.runtime.breaker, "open_until", lambda: START + timedelta(seconds=5))
    report = shop.drain()

    assert report.held_back == "outage"
    assert len(shop.remote.calls) <= shop.runtime.config.delivery_batch_size
