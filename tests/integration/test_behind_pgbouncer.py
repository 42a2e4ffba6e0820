"""What is different behind PgBouncer: sessions that are shared, servers that are few, a middleman that dies alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from stocksync.errors import DatabaseUnavailable
from tests.servers import PgBouncer, PostgresServer
from tests.shop import open_shop


@pytest.fixture
def narrow(
    request: pytest.FixtureRequest, pgbouncer: PgBouncer, postgres_server: PostgresServer
) -> Iterator[PgBouncer]:
    """One that has a single connection to the server; the parameter holds more settings."""
    made = PgBouncer(postgres_server, default_pool_size=1, **getattr(request, "param", {}))
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.mark.parametrize(
    ("database_url", "prepares"), [("postgres", True), ("pgbouncer", False)], indirect=["database_url"]
)
def test_statements_are_prepared_on_a_session_of_our_own_and_on_no_other(
    database_url: str, prepares: bool
) -> None:
    with open_shop(database_url) as shop, shop.runtime.database.scope():
        for number in range(10):
            shop.deduct(f"order-{number}")
        rows = shop.runtime.database.execute_sql("SELECT name FROM pg_prepared_statements").fetchall()

    assert bool(rows) == prepares


def test_nothing_of_a_session_is_left_to_the_next_client(pgbouncer_url: str) -> None:
    with psycopg.connect(pgbouncer_url, prepare_threshold=None) as monolith:
        # The application's name is PgBouncer's to change.
        asked = (
            "SELECT name, setting FROM pg_settings WHERE source = 'session' AND name <> 'application_name'"
        )
        before = monolith.execute(asked).fetchall()
        monolith.commit()
        with open_shop(pgbouncer_url) as shop:
            shop.deduct()
            shop.drain()
            assert shop.broken_promises() == []
        assert monolith.execute(asked).fetchall() == before


def test_a_killed_pgbouncer_costs_waiting_and_no_attempt(pgbouncer: PgBouncer, pgbouncer_url: str) -> None:
    with open_shop(pgbouncer_url) as shop:
        operations = [shop.deduct(f"order-{number}") for number in range(3)]
        killed = threading.Event()

        def kill() -> None:
            pgbouncer.kill()
            killed.set()

        shop.meanwhile(kill)
        with ThreadPoolExecutor(1) as pool:
            drained = pool.submit(shop.drain)
            assert killed.wait(10)
            time.sleep(1)  # it is away for longer than one try
            pgbouncer.start()
            report = drained.result(30)

        assert report.figures["delivered"] == 3
        assert [shop.operation(one)["retry_count"] for one in operations] == [0, 0, 0]
        assert shop.statuses() == ["completed"] * 3
        assert shop.broken_promises() == []


def test_callers_take_turns_on_the_one_connection_that_there_is(narrow: PgBouncer, postgres_url: str) -> None:
    with open_shop(narrow.url(postgres_url.rsplit("/", 1)[1])) as shop, ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda number: shop.deduct(f"order-{number}"), range(40)))
        delivered = sum(pool.map(lambda _: shop.drain().figures["delivered"], range(4)))

        assert (len(set(made)), delivered) == (40, 40)
        assert shop.broken_promises() == []


@pytest.mark.parametrize("narrow", [{"query_wait_timeout": 1}], indirect=True)
def test_no_connection_left_is_said_and_nothing_is_half_done(narrow: PgBouncer, postgres_url: str) -> None:
    url = narrow.url(postgres_url.rsplit("/", 1)[1])
    with open_shop(url) as shop:
        with psycopg.connect(url) as holder:
            holder.execute("SELECT 1")  # in a transaction that goes on
            with pytest.raises(DatabaseUnavailable, match="query_wait_timeout"):
                shop.deduct()
        assert shop.statuses() == []
        shop.deduct()

        assert shop.statuses() == ["pending"]
