"""Fixtures for every test: real servers, one of each a test process, and a fresh database or empty Redis a test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import fakeredis
import pytest
from redis import Redis

from stocksync import runtime
from stocksync.store.database import open_database
from stocksync.store.migrate import migrate
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


@pytest.fixture(scope="session")
def migrated_postgres(postgres_server: PostgresServer) -> str:
    """The name of a database with our tables in it; to copy it is much quicker than to make them in each test."""
    name = postgres_server.create_database()
    _migrate(postgres_server.url(name))
    return name


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with our tables in it."""
    file = tmp_path_factory.mktemp("migrated") / "stocksync.sqlite3"
    _migrate(f"sqlite:///{file}")
    return file


def _migrate(url: str) -> None:
    database = open_database(url)
    migrate(database)
    database.close_all()


def _starts_empty(request: pytest.FixtureRequest) -> bool:
    return request.node.get_closest_marker("starts_empty") is not None


@pytest.fixture
def postgres_url(
    request: pytest.FixtureRequest, postgres_server: PostgresServer, migrated_postgres: str
) -> Iterator[str]:
    """URL of a new PostgreSQL database, dropped afterwards: our tables without a row, or nothing (`starts_empty`)."""
    name = postgres_server.create_database("template0" if _starts_empty(request) else migrated_postgres)
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
    """URL through PgBouncer of a new PostgreSQL database, whatever the test before did to PgBouncer."""
    pgbouncer.start()
    return pgbouncer.url(postgres_url.rsplit("/", 1)[1])


@pytest.fixture
def sqlite_url(request: pytest.FixtureRequest, tmp_path: Path, migrated_sqlite: Path) -> str:
    """URL of an SQLite file: our tables without a row, or not there yet (`starts_empty`)."""
    file = tmp_path / "stocksync.sqlite3"
    if not _starts_empty(request):
        shutil.copy(migrated_sqlite, file)
    return f"sqlite:///{file}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what asks for a database on SQLite and PostgreSQL, and where it is marked `pgbouncer` through that as well."""
    marks = list(metafunc.definition.iter_markers())
    named = [mark for mark in marks if mark.name == "parametrize" and "database_url" in mark.args[0]]
    if "database_url" in metafunc.fixturenames and not named:
        through = ["pgbouncer"] if any(mark.name == "pgbouncer" for mark in marks) else []
        metafunc.parametrize("database_url", ["sqlite", "postgres", *through], indirect=True)


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> Any:
    """URL of a new database of the kind that the test is run on."""
    return request.getfixturevalue(f"{request.param}_url")


def _do_without(missing: ServerMissing) -> NoReturn:
    """Skip, or fail where servers are demanded: a suite that skips half of itself proves nothing there."""
    demanded = os.environ.get("CI", "").lower() not in ("", "0", "false")
    if demanded or os.environ.get("STOCKSYNC_TEST_REQUIRE_SERVERS") == "1":
        pytest.fail(str(missing), pytrace=False)
    pytest.skip(str(missing))
