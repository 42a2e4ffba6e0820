"""Fixtures for every test: real servers, one of each a test process, and a fresh database or empty Redis a test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import fakeredis
import pytest
from redis import Redis

from stocksync import runtime
from stocksync.testing import stock_sync  # noqa: F401 (a fixture)
from tests.checkouts import bare_checkout, checkout  # noqa: F401 (fixtures)
from tests.server_programs import ServerMissing
from tests.servers import PgBouncer, PostgresServer, RedisServer

_SETTINGS = ("STOCK_SYNC_", "ALLEGRO_MICROSERVICE_", "DATABASE_URL", "REDIS_URL")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees, or writes to, what a person's environment points at, nor the runtime of a test before it."""
    runtime.use(None)
    for name in [name for name in os.environ if name.startswith(_SETTINGS)]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The real Redis of this test process, to stop, start and kill; most tests want `redis_url`."""
    try:
        server = RedisServer(tmp_path_factory.mktemp("redis"))
    except ServerMissing as error:
        _do_without(error)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """URL of a running, empty Redis, whatever the test before did to it."""
    redis_server.start()
    redis_server.flush()
    return redis_server.url


@pytest.fixture
def fake_redis() -> Redis:
    """An empty Redis in this process, for what needs no server: nothing crashes, nothing blocks, nothing is lost."""
    return fakeredis.FakeRedis(server=fakeredis.FakeServer())


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The real PostgreSQL of this test process; most tests want `postgres_url` or `database_url`."""
    try:
        server = PostgresServer()
    except ServerMissing as error:
        _do_without(error)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """URL of a new, empty PostgreSQL database, dropped afterwards."""
    name = postgres_server.create_database()
    yield postgres_server.url(name)
    postgres_server.drop_database(name)


@pytest.fixture(scope="session")
def pgbouncer(postgres_server: PostgresServer) -> Iterator[PgBouncer]:
    """The real PgBouncer of this test process before its PostgreSQL; most tests want `pgbouncer_url`."""
    try:
        bouncer = PgBouncer(postgres_server)
    except ServerMissing as error:
        _do_without(error)
    try:
        bouncer.start()
        yield bouncer
    finally:
        bouncer.stop()


@pytest.fixture
def pgbouncer_url(pgbouncer: PgBouncer, postgres_url: str) -> str:
    """URL through PgBouncer of a new, empty PostgreSQL database, whatever the test before did to PgBouncer."""
    pgbouncer.start()
    return pgbouncer.url(postgres_url.rsplit("/", 1)[1])


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """URL of an SQLite file that is not there yet."""
    return f"sqlite:///{tmp_path / 'stocksync.sqlite3'}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what asks for a database on SQLite and PostgreSQL, and where it is marked `pgbouncer` through that as well."""
    marks = list(metafunc.definition.iter_markers())
    named = [mark for mark in marks if mark.name == "parametrize" and "database_url" in mark.args[0]]
    if "database_url" in metafunc.fixturenames and not named:
        through = ["pgbouncer"] if any(mark.name == "pgbouncer" for mark in marks) else []
        metafunc.parametrize("database_url", ["sqlite", "postgres", *through], indirect=True)


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> Any:
    """URL of a new, empty database of the kind that the test is run on."""
    return request.getfixturevalue(f"{request.param}_url")


def _do_without(missing: ServerMissing) -> NoReturn:
    """Skip, or fail where servers are demanded: a suite that skips half of itself proves nothing there."""
    demanded = os.environ.get("CI", "").lower() not in ("", "0", "false")
    if demanded or os.environ.get("STOCKSYNC_TEST_REQUIRE_SERVERS") == "1":
        pytest.fail(str(missing), pytrace=False)
    pytest.skip(str(missing))
