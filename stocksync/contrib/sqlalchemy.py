"""stocksync on the caller's SQLAlchemy session: operations are written in its transaction, with the caller's own rows.

The tables of stocksync must be in the session's database (`python -m stocksync migrate`, with DATABASE_URL naming it).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cached_property
from typing import Any, cast

from stocksync.delivery.engine import DeliveryEngine
from stocksync.errors import SessionUnsuitable, TablesMissing, needs_extra
from stocksync.runtime import Runtime, current
from stocksync.store.database import Database, lacks_tables
from stocksync.store.dialects import POSTGRES, SQLITE, Statement

with needs_extra("sqlalchemy"):
    from sqlalchemy import CursorResult, event
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.orm import Session, SessionTransaction, scoped_session

# By driver. SQLAlchemy sees to ids.
_DIALECTS = {
    **dict.fromkeys(("pysqlite", "aiosqlite"), SQLITE),
    **dict.fromkeys(("psycopg", "psycopg_async", "psycopg2"), POSTGRES),
}
_HOOKS = "stocksync.after_commit"


class SessionSync(Runtime):
    """The calls of stocksync for the length of one session; see `with_session`.

    Made for `service` (single operations: `immediate=True` only queues, and nothing can be delivered here), `orders`
    (whole orders, deducted from stocksync's own stock), `inventory` (that stock) and `inventory_with_sync` (it is moved
    and recorded in one call).
    """

    def __init__(self, session: Session, runtime: Runtime) -> None:
        super().__init__(runtime.config, clock=runtime.clock, rng=runtime.rng, wakeups=runtime.wakeups)
        self.new_id = runtime.new_id  # one factory: ids of one moment keep their order
        self.database = cast(Database, _SessionDatabase(session))

    @cached_property
    def engine(self) -> DeliveryEngine:
        raise SessionUnsuitable(
            "nothing is delivered inside a session's transaction; deliver with the runtime's own service, "
            "or leave it to the worker"
        )


def with_session(session: Session | scoped_session[Any], runtime: Runtime | None = None) -> SessionSync:
    """The services of `runtime`, reading and writing in the transaction of `session`.

    They never commit: the caller does. Lanes are woken after that commit, and not after a rollback. A refused call
    (IdempotencyConflict, InsufficientStock) has written nothing and leaves the session usable.

    On PostgreSQL a call holds its order's row until the transaction ends: a second session with the same order waits.
    On SQLite it holds the database's one write lock. So keep the transaction short, and take several orders in it
    only in one order everywhere. SQLite's driver has a trap of its own: a savepoint that is opened before the
    transaction has written anything commits when it is released; call this, or flush, before `begin_nested()`.

    Behind PgBouncer in transaction pooling an engine on psycopg 3 must not prepare statements, the caller's own no
    less than ours: `create_engine(url, connect_args={"prepare_threshold": None})`. psycopg2 prepares none.

    Args:
        session: of SQLAlchemy 2 or SQLModel, on SQLite (pysqlite, aiosqlite) or PostgreSQL (psycopg, psycopg2). Of an
            AsyncSession: `await session.run_sync(lambda session: with_session(session).service...)`.
        runtime: supplies clock, ids, settings and wake-ups; None: the process's own, by its environment.

    Raises:
        SessionUnsuitable: another kind of session, database or driver; or it is in autocommit mode.
        TablesMissing: raised by the calls; the database was not migrated.
    """
    if isinstance(session, scoped_session):
        session = session()
    if not isinstance(session, Session):
        raise SessionUnsuitable(
            f"a sqlalchemy.orm.Session is needed, got {type(session).__name__}; "
            "of an AsyncSession, call inside `await session.run_sync(...)`"
        )
    return SessionSync(session, runtime or current())


class _SessionDatabase:
    """A session in the place of the store's `Database`: what its writers use of one."""

    def __init__(self, session: Session) -> None:
        driver = session.get_bind().dialect.driver
        if driver not in _DIALECTS:
            raise SessionUnsuitable(
                f"the session's engine uses the driver {driver}; supported are {', '.join(_DIALECTS)}"
            )
        self._session = session
        self.dialect = _DIALECTS[driver]

    def run(self, statement: Statement, **parameters: Any) -> CursorResult[Any]:
        """Execute `statement` on the session's connection."""
        connection = self._session.connection()
        try:
            return connection.exec_driver_sql(self.dialect.sql(statement), self.dialect.bound(parameters))
        except DBAPIError as error:
            if lacks_tables(error.orig):
                raise TablesMissing(connection.engine.url.render_as_string(hide_password=True)) from error
            raise

    scope = nullcontext  # the session has its connection already

    @contextmanager
    def transaction_scope(self) -> Iterator[None]:
        """A savepoint, so that a refused call leaves the caller's rows as they are."""
        connection = self._session.connection()
        driver_connection = cast(Any, connection.connection.driver_connection)
        if self.dialect.name == "postgresql":
            if driver_connection.autocommit:
                raise SessionUnsuitable(
                    "its engine is in AUTOCOMMIT mode, where nothing is atomic; use another isolation level"
                )
        elif not driver_connection.in_transaction:
            # sqlite3 begins before INSERT, not before SAVEPOINT: releasing a savepoint that stands alone would commit.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        hooks = self._session.info.setdefault(_HOOKS, [])
        before = len(hooks)
        try:
            # Of the connection, not of the session: nothing of the caller's is flushed or expired for it.
            with connection.begin_nested():
                yield
        except BaseException:
            del hooks[before:]
            raise

    def in_transaction(self) -> bool:
        """Always: the session decides when to commit."""
        return True

    def after_commit(self, hook: Callable[[], None]) -> None:
        """Call `hook` once the session has committed; never, when it rolls back or is closed."""
        self._session.info.setdefault(_HOOKS, []).append(hook)
        # Listening again with the same function changes nothing.
        event.listen(self._session, "after_commit", _call_hooks)
        event.listen(self._session, "after_transaction_end", _forget_hooks)


def _call_hooks(session: Session) -> None:
    # The release of a savepoint is told as a commit too.
    if not session.in_nested_transaction():
        for hook in session.info.pop(_HOOKS, ()):
            hook()


def _forget_hooks(session: Session, transaction: SessionTransaction) -> None:
    if transaction.parent is None:
        session.info.pop(_HOOKS, None)
