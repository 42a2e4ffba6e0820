"""One database for all processes of a world: the product's own class on SQLite in memory, with places to die.

A transaction holds the one connection until its end, as BEGIN IMMEDIATE keeps other writers out of a file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from benchmarks.simulation.world import Broken
from stocksync.errors import DatabaseUnavailable
from stocksync.store import deliveries
from stocksync.store.database import SqliteDatabase, bind_models
from stocksync.store.dialects import Statement
from stocksync.store.migrate import migrate

if TYPE_CHECKING:
    from benchmarks.simulation.world import World

_CLAIMS = """
    SELECT id, claim_id, is_stock_updated, claimed_version FROM stock_sync_orders WHERE claim_id IS NOT NULL"""
_STRANDED = "SELECT token_id, order_id FROM stock_sync_orders WHERE claim_id IS NOT NULL AND lease_until < ?"


class SimulatedDatabase(SqliteDatabase):
    """Answers like a file that many processes have open."""

    def __init__(self) -> None:
        super().__init__(
            ":memory:",
            pragmas={"foreign_keys": 1, "cache_size": -8000},
            lock_type="IMMEDIATE",
            check_same_thread=False,
            timeout=1.0,
            field_types={"UTCTIME": "TEXT"},
        )
        self.world: World | None = None
        self.away = False
        self.claims: dict[str, str] = {}
        self.first_true: dict[str, int] = {}
        """Order (its row) -> the first version of it that the remote may have heard True of."""
        self.on_rescue: Callable[[tuple[str, str]], object] | None = None
        """Told of each order whose lease ran out."""
        self._shared: sqlite3.Connection | None = None
        self._empty = sqlite3.connect(":memory:")
        migrate(self)
        self.connection_in_memory.backup(self._empty)

    @property
    def connection_in_memory(self) -> sqlite3.Connection:
        if self._shared is None:
            self._shared = super()._connect()
        return self._shared

    def begin_anew(self) -> None:
        """Forget all rows. What models ask, they ask here."""
        self.away, self.claims, self.first_true = False, {}, {}
        if self.in_sqlite_transaction():
            self.undo()
        self._empty.backup(self.connection_in_memory)
        bind_models(self)

    def in_sqlite_transaction(self) -> bool:
        """Whether a process is inside a transaction."""
        return self.connection_in_memory.in_transaction

    def undo(self) -> None:
        """As a file does with the transaction of a process that died."""
        self.connection_in_memory.rollback()
        self._clear_commit_callbacks()

    def look(self, sql: str, *given: Any) -> list[Any]:
        """Rows as they are, for whoever watches the world."""
        return self.connection_in_memory.execute(sql, given).fetchall()

    # What peewee asks

    def _connect(self) -> sqlite3.Connection:
        return self.connection_in_memory

    def _close(self, conn: Any, close_conn: bool = False) -> None:
        pass

    def manual_close(self) -> None:
        self.close()

    def begin(self, lock_type: str | None = None) -> None:
        if (world := self.world) and (process := world.current):
            process.point("before a transaction")
            if process.stalls and world.rng.random() < process.stalls:
                seconds = world.rng.uniform(1, 200)
                world.tell(f"stands still for {seconds:.0f} s before a transaction")
                process.sleep(seconds)
            if self.away:
                raise DatabaseUnavailable("the database is away")
        super().begin(lock_type)

    def execute_sql(self, sql: str, params: Any = None) -> Any:
        if self.world and self.world.current:
            self.world.current.point("a statement")
        return super().execute_sql(sql, params)

    def run(self, statement: Statement, **parameters: Any) -> Any:
        if self.world and self.on_rescue and statement is deliveries._RESCUE:
            for name in self.look(_STRANDED, *self.dialect.bound({"now": parameters["now"]}).values()):
                self.on_rescue(name)
        return super().run(statement, **parameters)

    def commit(self) -> None:
        world = self.world
        process = world.current if world else None
        if process is None:
            super().commit()
            return
        process.point("before a commit")
        super().commit()
        claims = {}
        for order, claim, flag, version in self.look(_CLAIMS):
            if self.claims.get(order, claim) != claim:
                raise Broken("an order was claimed while another claim of it held")
            if flag and order not in self.claims:
                self.first_true.setdefault(order, version)
            claims[order] = claim
        self.claims = claims
        if process.effects:
            process.effects.pop(0)()
        process.point("after a commit")

    def rollback(self) -> None:
        if self.in_sqlite_transaction():
            super().rollback()
