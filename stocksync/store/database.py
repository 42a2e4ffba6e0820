"""Opening the database: one class for each kind, with transactions, scopes and statements beside peewee's own."""

import os
import re
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit
from uuid import UUID

import peewee
from playhouse.pool import PooledPostgresqlDatabase, PooledSqliteDatabase

from stocksync.errors import DatabaseUnavailable, TablesMissing, needs_extra
from stocksync.store.dialects import (
    POSTGRES,
    SQLITE,
    Dialect,
    Statement as Statement,  # noqa: PLC0414 (writers take both from here)
)
from stocksync.store.models import MODELS


class _Executing(peewee.Database):  # type: ignore[misc]
    """What both database classes add to peewee's: statements, and scopes for a connection or a transaction."""

    dialect: Dialect
    _turn = cached_property(lambda _: threading.RLock())
    """To connect: of many that find a server gone, the last would wait for all the others."""

    def run(self, statement: Statement, **parameters: Any) -> Any:
        """Execute `statement`; answers with the cursor (rows of SELECT and RETURNING, `rowcount`)."""
        return self.execute_sql(self.dialect.sql(statement), self.dialect.bound(parameters))

    def execute_sql(self, sql: str, params: Any = None) -> Any:
        """peewee's, which all statements go through. Raises TablesMissing."""
        try:
            return super().execute_sql(sql, params)
        except peewee.DatabaseError as error:
            if lacks_tables(getattr(error, "orig", None)):
                raise TablesMissing(str(self.database)) from error
            raise

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Have a connection for this thread inside the block; give back to the pool what was taken for it."""
        opened = self.is_closed()
        if opened:
            try:
                try:
                    if not self._turn.acquire(timeout=self._wait_timeout):
                        raise ValueError("others have been waiting for it")
                    self.connect()
                finally:
                    with suppress(RuntimeError):  # the turn did not come
                        self._turn.release()
            except (peewee.OperationalError, ValueError) as error:
                raise DatabaseUnavailable(
                    f"the database {self.database} can't be reached: {_first_line(error)}"
                ) from error
        try:
            yield
        finally:
            if opened and not self.in_transaction():
                self.close()

    def begin_anew(self) -> None:
        """In the child of a fork: its parent's connections are kept unused, because closing them would speak for it."""
        self._of_the_parent = self._connections, self._in_use, self._state.conn
        # Who held these is not here any more.
        self._lock, self._pool_lock, self._turn = threading.Lock(), threading.RLock(), threading.RLock()
        self._pool_available = threading.Condition(self._pool_lock)
        self.dispose()

    @contextmanager
    def transaction_scope(self, *kind: str) -> Iterator[None]:
        """A write transaction on a connection of this thread; nested calls become savepoints.

        Args:
            kind: how the transaction begins, in the database's words; nothing: as one that writes.

        Raises:
            DatabaseUnavailable: the database went away, or kept us waiting for too long; nothing was written.
        """
        seen: list[Any] = []
        try:
            with self.scope(), self.atomic(*kind), ExitStack() as stack:
                # What the body raised, a time limit for one: a rollback that fails, too, would hide it.
                stack.push(lambda *raised: seen.append(raised[1]))
                yield
        except (peewee.OperationalError, peewee.InterfaceError, peewee.InternalError) as error:
            if not self.in_transaction() and not self.is_closed():
                self.manual_close()  # whatever ails this connection, the next call begins with another
            raise (
                seen[0]
                if any(seen) and not isinstance(seen[0], peewee.PeeweeException)
                else DatabaseUnavailable(f"a database transaction failed: {_first_line(error)}")
            ) from error

    def snapshot(self) -> AbstractContextManager[None]:
        """A read transaction that sees one moment, and keeps no writer waiting. Raises DatabaseUnavailable."""
        return self.transaction_scope(self.dialect.snapshot)


class SqliteDatabase(_Executing, PooledSqliteDatabase):  # type: ignore[misc]
    """SQLite with WAL, synchronous=FULL, foreign keys, and every write transaction IMMEDIATE."""

    dialect = SQLITE
    unprepared = _Executing.scope

    def _add_conn_hooks(self, conn: Any) -> Any:
        # Of two that switch a new file to WAL, SQLite turns one away at once, whatever its busy_timeout.
        deadline = time.monotonic() + self._wait_timeout
        while True:
            try:
                return super()._add_conn_hooks(conn)
            except sqlite3.OperationalError as error:
                if not error.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() > deadline:
                    raise
            time.sleep(0.01)

    def rollback(self) -> None:
        """Nothing where SQLite did it by itself, as on a full disk: what made it do so is the error to tell."""
        if self.connection().in_transaction:
            super().rollback()


class _Psycopg(peewee.Psycopg3Adapter):  # type: ignore[misc]
    """Connects; names no statement of ours where a pooler may send the next one to another server."""

    def connect(self, db: Any, **params: Any) -> Any:
        connection = super().connect(db, autocommit=True, **params)
        # Asked, not taken from what a pooler announced: that may be of the server before.
        process, read_only, encoding = connection.execute(
            "SELECT pg_backend_pid(), current_setting('transaction_read_only'), current_setting('server_encoding')"
        ).fetchone()
        if read_only == "on" or encoding not in ("UTF8", "SQL_ASCII"):
            connection.close()
            raise ValueError(
                f"it is a standby or read-only, or not in UTF8 (read-only: {read_only}, {encoding})"
            )
        # PgBouncer and its like give each client a made-up process id.
        if process != connection.info.backend_pid:
            connection.prepare_threshold = None
        return connection


class PostgresDatabase(_Executing, PooledPostgresqlDatabase):  # type: ignore[misc]
    """PostgreSQL through psycopg 3, directly or through a pooler of transactions, so no session is set up."""

    psycopg3_adapter = _Psycopg
    dialect = POSTGRES

    @contextmanager
    def unprepared(self) -> Iterator[None]:
        """A scope whose statements are planned for their own values: one SKU has three rows, another a million."""
        with self.scope():
            connection = self.connection()
            before, connection.prepare_threshold = connection.prepare_threshold, None
            try:
                yield
            finally:
                connection.prepare_threshold = before


Database = SqliteDatabase | PostgresDatabase


def open_database(url: str, *, busy_timeout: float = 10.0, max_connections: int = 20) -> Database:
    """A database for `sqlite:///relative`, `sqlite:////absolute` or `postgresql://...`; connects at first use.

    Args:
        busy_timeout: seconds a writer waits for another one (SQLite), or for a connection (both).
        max_connections: of one process.

    Raises:
        DatabaseUnavailable: the file of SQLite has no name, or its folder can't be made.
    """
    parts = urlsplit(url)
    pool = {"timeout": busy_timeout, "max_connections": max_connections}
    is_file = parts.scheme == "sqlite"
    database = _open_sqlite(unquote(parts.path)[1:], pool) if is_file else _open_postgresql(parts, pool)
    anew = weakref.WeakMethod(database.begin_anew)
    # It may be gone by the time of a fork; then there is nothing to do.
    os.register_at_fork(after_in_child=lambda: (anew() or bool)())  # noqa: PLW0108 (asked then, not now)
    return database


def _open_sqlite(path: str, pool: dict[str, Any]) -> SqliteDatabase:
    if not path:
        raise DatabaseUnavailable(
            "DATABASE_URL: sqlite:///FILE needs a file (a shared in-memory one can't be lost safely)"
        )
    try:
        Path(path).parent.mkdir(0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise DatabaseUnavailable(
            f"the folder of the database {path} can't be made: {error.strerror}; choose a writable one"
        ) from error
    return SqliteDatabase(
        path,
        pragmas={
            # The pool keeps `timeout` for itself.
            "busy_timeout": int(pool["timeout"] * 1000),
            "journal_mode": "wal",
            "synchronous": "full",
            "foreign_keys": 1,
            "cache_size": -8000,
        },
        lock_type="IMMEDIATE",
        check_same_thread=False,
        field_types={"UTCTIME": "TEXT"},
        **pool,
    )


def _open_postgresql(parts: SplitResult, pool: dict[str, Any]) -> PostgresDatabase:
    with needs_extra("postgresql"):
        import psycopg  # noqa: F401 (peewee takes what is there, and would say less)
    usual = {
        "connect_timeout": "5",
        "application_name": "stocksync",
        "client_encoding": "utf8",
        # A server that is gone without a word is noticed within half a minute, not after two hours.
        "keepalives_idle": "10",
        "keepalives_interval": "5",
        "keepalives_count": "3",
        "tcp_user_timeout": "30000",
    }
    # What the URL does not say is left to libpq (PGHOST, PGPORT, its socket folder, a password file).
    said = {
        name: unquote(str(value))
        for name, value in (
            ("host", parts.hostname),
            ("port", parts.port),
            ("user", parts.username),
            ("password", parts.password),
        )
        if value
    }
    return PostgresDatabase(
        unquote(parts.path.lstrip("/")) or "postgres",
        stale_timeout=300,
        prefer_psycopg3=True,
        isolation_level="READ COMMITTED",  # whatever the server's own default is
        field_types={"UTCTIME": "TIMESTAMPTZ"},
        **pool,
        **usual | said | dict(parse_qsl(parts.query)),
    )


def bind_models(database: Database) -> None:
    """Have the models query `database`. Called by the composition root alone."""
    database.bind(MODELS, bind_refs=False, bind_backrefs=False)


def lacks_tables(error: Any) -> bool:
    """Whether a driver's `error` says that a table or a column is not there."""
    # psycopg 3 and psycopg2 name the state differently; SQLite has words alone.
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    return state in ("42P01", "42703") or (
        isinstance(error, sqlite3.OperationalError)
        and re.search("no such (?:table|column): |has no column named ", str(error)) is not None
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def among(values: Iterable[str]) -> str:
    """A list of our own words for `IN`, as SQL text."""
    return "(" + ", ".join(f"'{value}'" for value in values) + ")"


def in_order(query: Any, order: str, columns: Mapping[str, tuple[Any, ...]]) -> Any:
    """`query` sorted by the columns of that name, falling with `-` in front."""
    return query.order_by(
        *(by.desc() if order.startswith("-") else by.asc() for by in columns[order.removeprefix("-")])
    )


def uuid_of(value: Any) -> UUID:
    """An id as either driver returned it."""
    return value if isinstance(value, UUID) else UUID(value)
