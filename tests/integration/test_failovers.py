"""Behind the same address another server takes over, or the connection is lost: the next call finds its way."""

from __future__ import annotations

import contextlib
import multiprocessing
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peewee
import psycopg
import pytest
from redis import Redis

from stocksync import Runtime, StockSyncConfig
from stocksync.errors import DatabaseUnavailable
from stocksync.queue.wakeups import RedisWakeups, connect_redis, make_queue
from stocksync.store.context import Wakeups
from stocksync.store.migrate import migrate
from tests.servers import PostgresServer, RedisServer, free_port
from tests.switch import Switch

QUEUE = "rq:queue:stock-sync"


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[RedisServer, RedisServer]]:
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()
    first, second = map(RedisServer, folders)
    for server in (first, second):
        server.start()
    yield first, second
    for server in (first, second):
        server.stop()


def wakeups_at(port: int) -> RedisWakeups:
    return RedisWakeups(
        make_queue(connect_redis(f"redis://127.0.0.1:{port}/0", timeout=0.25), "stock-sync"), "stock-sync"
    )


def test_callers_and_scheduler_go_on_at_the_new_primary_when_the_old_one_became_a_replica(
    servers: tuple[RedisServer, RedisServer], sqlite_url: str
) -> None:
    old, new = servers
    with (
        Switch(old.port) as address,
        runtime_at(sqlite_url, REDIS_URL=f"redis://127.0.0.1:{address.port}/0") as runtime,
    ):
        wakeups, scheduler = wakeups_at(address.port), runtime.scheduler()
        assert wakeups.wake("seller-1", force=True)
        scheduler.tick()

        address.target = new.port  # those who are connected stay at the old one
        Redis.from_url(old.url).replicaof("127.0.0.1", str(new.port))

        assert wakeups.wake("seller-1", force=True)
        assert not wakeups.outage.lasts
        assert Redis.from_url(new.url).llen(QUEUE) == 1
        scheduler.tick()
        assert Redis.from_url(new.url).exists("stock-sync:scheduler:lock")


def test_a_connection_that_a_nat_has_forgotten_costs_no_wake_up(
    servers: tuple[RedisServer, RedisServer],
) -> None:
    with Switch(servers[0].port) as address:
        wakeups = wakeups_at(address.port)
        assert wakeups.wake("seller-1", force=True)
        address.forget()

        assert wakeups.wake("seller-2", force=True)
        assert not wakeups.outage.lasts


@contextmanager
def runtime_at(url: str, **settings: str) -> Iterator[Runtime]:
    runtime = Runtime(StockSyncConfig.load({"DATABASE_URL": url, **settings}), wakeups=Wakeups())
    yield runtime
    runtime.close()


def alter(url: str, words: str) -> None:
    """Change what the database gives each new session."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {url.rpartition('/')[2]} {words}")


def deduct(runtime: Runtime, order: str = "order-1") -> Any:
    return runtime.service.sync_stock_deduction("seller-1", order, "A", 1, line_item_id=f"line of {order}")


def test_a_standby_counts_as_unreachable_until_it_has_taken_over(postgres_url: str) -> None:
    alter(postgres_url, "SET default_transaction_read_only = on")
    with runtime_at(postgres_url) as runtime:
        with pytest.raises(DatabaseUnavailable, match="can't be reached"):
            deduct(runtime)
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute("SET default_transaction_read_only = off")
            name = postgres_url.rpartition("/")[2]
            connection.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")

        assert deduct(runtime)


def test_of_several_hosts_in_the_url_the_one_that_is_there_is_taken(postgres_url: str) -> None:
    login, _, place = postgres_url.removeprefix("postgresql://").rpartition("@")
    host, _, port = place.partition("/")[0].partition(":")
    name = postgres_url.rpartition("/")[2]

    with runtime_at(f"postgresql://{login}@/{name}?host={host},{host}&port={free_port()},{port}") as runtime:
        assert deduct(runtime)


def test_transactions_are_read_committed_whatever_the_server_says(postgres_url: str) -> None:
    alter(postgres_url, "SET default_transaction_isolation = 'repeatable read'")
    with runtime_at(postgres_url) as runtime, runtime.database.transaction_scope():
        assert runtime.database.execute_sql("SHOW transaction_isolation").fetchone() == ("read committed",)


@pytest.mark.parametrize(("encoding", "works"), [("SQL_ASCII", True), ("LATIN2", False)])
def test_a_database_that_can_not_hold_every_letter_is_refused_in_words(
    postgres_server: PostgresServer, encoding: str, works: bool
) -> None:
    name = f"in_{encoding.lower()}"
    with psycopg.connect(postgres_server.url("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    try:
        with runtime_at(postgres_server.url(name)) as runtime:
            if works:
                migrate(runtime.database)
                runtime.inventory.set_on_hand({"Будильник": 3}, "Ирина")
                assert runtime.inventory.on_hand("Будильник", "Ирина") == 3
            else:
                with pytest.raises(DatabaseUnavailable, match=r"not in UTF8 .*LATIN2"):
                    migrate(runtime.database)
    finally:
        postgres_server.drop_database(name)


def _record_in_a_child(runtime: Runtime, number: int, said: Any) -> None:
    try:
        for sale in range(20):
            deduct(runtime, f"order-{number}-{sale}")
        said.put(None)
    except BaseException as error:
        said.put(repr(error))
        raise


def test_a_runtime_that_was_used_before_a_fork_works_in_parent_and_children(database_url: str) -> None:
    forking = multiprocessing.get_context("fork")
    said = forking.Queue()
    with runtime_at(database_url) as runtime:
        runtime.require_schema()  # so the pool holds a connection that every child inherits
        deduct(runtime, "order-of-the-parent")
        children = [
            forking.Process(target=_record_in_a_child, args=(runtime, number, said)) for number in range(3)
        ]
        with runtime.database._lock:  # as a thread has it that connects: in the child there is no such thread
            for child in children:
                child.start()
        try:
            assert [said.get(timeout=60) for _ in children] == [None, None, None]
        finally:
            for child in children:
                child.join(10)
                child.kill()
        deduct(runtime, "another-of-the-parent")

        assert runtime.operation_lists.by_status()["pending"] == 62


def _deduct_somehow(runtime: Runtime) -> None:
    with contextlib.suppress(Exception):
        deduct(runtime)


def test_of_many_that_find_a_database_gone_nobody_waits_for_all_the_others(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with runtime_at(sqlite_url) as runtime:
        database, asked, told = runtime.database, threading.Event(), threading.Event()

        def connect() -> None:  # to a host that does not answer
            asked.set()
            told.wait(60)

        monkeypatch.setattr(database, "_wait_timeout", 0.05)
        monkeypatch.setattr(database, "_connect", connect)
        first = threading.Thread(target=_deduct_somehow, args=(runtime,))
        first.start()
        assert asked.wait(60)

        with pytest.raises(DatabaseUnavailable, match="others have been waiting"):
            deduct(runtime)
        assert first.is_alive()
        told.set()
        first.join(60)


class TimeLimit(Exception):
    """As RQ and Celery raise it from a signal, in the middle of anything."""


def test_a_time_limit_inside_a_transaction_is_not_hidden_by_a_rollback_that_fails(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise peewee.OperationalError("another command is already in progress")

    with runtime_at(sqlite_url) as runtime:
        monkeypatch.setattr(runtime.database, "rollback", fail)
        with pytest.raises(TimeLimit), runtime.database.transaction_scope():
            raise TimeLimit

        monkeypatch.undo()
        assert deduct(runtime)


def test_an_interrupt_while_a_connection_is_made_keeps_nobody_out(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with runtime_at(sqlite_url) as runtime:
        monkeypatch.setattr(runtime.database, "_connect", interrupt)
        with pytest.raises(KeyboardInterrupt):
            deduct(runtime)
        monkeypatch.undo()
        sold: list[Any] = []
        other = threading.Thread(target=lambda: sold.append(deduct(runtime)))
        other.start()
        other.join(30)

        assert sold
