"""The history of a shop, written by the database itself: millions of orders as if they had been sold and delivered.

Indexes are taken away while it is written and made again, word for word, so the end is the migrated schema as it is.
The audit holds on what is written here. `python -m benchmarks.scale` and `python -m benchmarks.soak` stand on it.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from benchmarks.history_statements import COUNTED, LANES, LAST, POPULAR, SKUS, STATEMENTS, WAREHOUSE

DAYS = 45
"""Over which it is spread, up to an hour ago."""
_CHUNK = 200_000
_OF_REFUND = 1 << 48
_INDEXES = {
    "postgresql": "SELECT i.indexname, i.indexdef FROM pg_indexes AS i"
    " WHERE i.schemaname = 'public' AND NOT EXISTS (SELECT 1 FROM pg_constraint AS c WHERE c.conname = i.indexname)",
    "sqlite": "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL",
}
_QUICK = {
    # Rows are consistent as they are made: foreign keys are not looked at row by row. The audit looks afterwards.
    "postgresql": (
        "SET session_replication_role = replica",
        "SET synchronous_commit = off",
        "SET maintenance_work_mem = '1GB'",
        "SET max_parallel_maintenance_workers = 1",
    ),
    "sqlite": ("PRAGMA synchronous = OFF", "PRAGMA cache_size = -500000"),
}


def orders_of(operations: int) -> int:
    """How many orders have about so many operations: every second has two lines, some a refund."""
    return max(operations * 100 // 152, 1)


def write_history(
    url: str,
    operations: int,
    *,
    days: float = DAYS,
    own: bool = True,
    said: Callable[[str], None] = lambda _text: None,
) -> dict[str, float]:
    """Write about so many operations into an empty migrated database; answers with the seconds of each part.

    Args:
        days: over which they are spread.
        own: the units came out of our own stock: with keys and movements.
        said: is told how far it has come.
    """
    dialect = "sqlite" if url.startswith("sqlite") else "postgresql"
    orders = orders_of(operations)
    took: dict[str, float] = {}
    with _connected(dialect, url) as execute:
        for statement in _QUICK[dialect]:
            execute(statement)
        words = _words(dialect, orders, days) | {"own": "TRUE" if own else "FALSE"}
        for lane in range(1, LANES + 1):
            execute(
                "INSERT INTO stock_sync_accounts (token_id, active, paused, created_at)"
                f" VALUES ('seller-{lane}', TRUE, FALSE, {words['time_later']})"
            )
        began = time.monotonic()
        with _without_indexes(dialect, execute, took):
            for first in range(1, orders + 1, _CHUNK):
                last = min(first + _CHUNK - 1, orders)
                execute("BEGIN")
                for statement in STATEMENTS:
                    execute(statement.format(**words, series=_series(dialect, first, last)))
                execute("COMMIT")
                said(f"{last:,} of {orders:,} orders, {time.monotonic() - began:.0f} s")
            for counted, statement in LAST:
                execute(statement.format(**words, series=_series(dialect, 1, COUNTED[counted])))
            _write_tallies(dialect, execute)
            took["rows"] = time.monotonic() - began
            said("rows are there; indexes")
        began = time.monotonic()
        execute("VACUUM (FREEZE, ANALYZE)" if dialect == "postgresql" else "PRAGMA wal_checkpoint(TRUNCATE)")
        if dialect == "postgresql":
            execute("CHECKPOINT")
        took["vacuum"] = time.monotonic() - began
    return took


@contextmanager
def _connected(dialect: str, url: str) -> Iterator[Callable[[str], Any]]:
    """What executes a text on a connection of its own and answers with its cursor."""
    connection: Any
    if dialect == "sqlite":
        connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    else:
        connection = psycopg.connect(url, autocommit=True)
    try:
        yield connection.execute
    finally:
        connection.close()


@contextmanager
def _without_indexes(dialect: str, execute: Callable[[str], Any], took: dict[str, float]) -> Iterator[None]:
    indexes = execute(_INDEXES[dialect]).fetchall()
    for name, _text in indexes:
        execute(f"DROP INDEX {name}")
    yield
    began = time.monotonic()
    for _name, text in indexes:
        execute(text)
    took["indexes"] = time.monotonic() - began


def _write_tallies(dialect: str, execute: Callable[[str], Any]) -> None:
    """A row a day of what was completed, as folding leaves them."""
    day = (
        "substr(completed_at, 1, 10)"
        if dialect == "sqlite"
        else "(completed_at AT TIME ZONE 'UTC')::date::text"
    )
    counted = execute(
        f"SELECT {day}, COUNT(*) FROM pending_stock_operations WHERE status = 'completed' GROUP BY 1 ORDER BY 1"
    ).fetchall()
    for number, (date, completed) in enumerate(counted, 1):
        counts = f'{{"completed": {completed}, "at_once": {completed}, "delivered": {completed},'
        counts += f' "wait_le_1": {completed}, "took_le_25": {completed}}}'
        execute(
            "INSERT INTO stock_sync_tallies (id, at, grain, completed, counts) VALUES"
            f" ('00a00000000070008000{number:012x}', '{date}T00:00:00.000000Z', 86400, {completed}, '{counts}')"
        )


def _series(dialect: str, first: int, last: int) -> str:
    if dialect == "sqlite":
        return f"series(i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM series WHERE i < {last})"
    return f"series(i) AS (SELECT generate_series({first}::bigint, {last}::bigint))"


def _words(dialect: str, orders: int, days: float) -> dict[str, Any]:
    """What the statements fill in: ids that rise with time as the factory's do, moments, texts of 32 digits."""
    sqlite = dialect == "sqlite"
    end = datetime.now(UTC) - timedelta(hours=1)
    start = end - timedelta(days=days)

    def hexadecimal(expression: str, width: int) -> str:
        if sqlite:
            return f"printf('%0{width}x', {expression})"
        return f"lpad(to_hex(({expression})::bigint), {width}, '0')"

    def identifier(kind: str, number: str) -> str:
        text = f"({hexadecimal('at', 12)} || '70008{kind}' || {hexadecimal(number, 14)})"
        return text if sqlite else f"{text}::uuid"

    def moment(milliseconds: str) -> str:
        if sqlite:
            return f"(strftime('%Y-%m-%dT%H:%M:%f', ({milliseconds}) / 1000.0, 'unixepoch') || '000Z')"
        return f"to_timestamp(({milliseconds}) / 1000.0)"

    def name(number: str, group: str) -> str:
        # An odd factor scatters the numbers and keeps them apart, as Allegro's UUIDs are.
        scattered = hexadecimal(f"({number}) * 2654435761 % 4294967296", 8)
        return f"({scattered} || '-{group}-4000-8000-' || {hexadecimal(number, 12)})"

    def document(text: str) -> str:
        text = "'" + text + "'"
        return text if sqlite else f"{text}::jsonb"

    return {
        "order": identifier("a", "i"), "line_id": identifier("b", "n"), "operation": identifier("c", "n"),
        "log": identifier("d", "n"), "log_sent": identifier("e", "n"), "log_done": identifier("f", "n"),
        "refund": identifier("c", f"n + {_OF_REFUND}"), "log_of_refund": identifier("f", f"n + {_OF_REFUND}"),
        "bare_line": identifier("b", f"i + {_OF_REFUND}"), "line_of_run": identifier("b", "i"),
        "order_name": name("i", "1111"), "line_name": name("i * 2 + j", "2222"),
        "revision": hexadecimal("i", 8), "hash": hexadecimal("n", 32),
        "time_at": moment("at"), "time_done": moment("at + 1000"), "no_time": "NULL" if sqlite else "NULL::timestamptz",
        "time_later": moment(str(int((end + timedelta(hours=12)).timestamp() * 1000))),
        "no_number": "NULL" if sqlite else "NULL::int",
        "created": document('{"type": "deduction", "quantity": 1}'),
        "told": document('{"told": true, "version": 1}'), "nothing": document("{}"),
        "error": document('{"class": "Rejected", "message": "HTTP 500: the remote could not write it"}'),
        "equal": document('{"equal": 500}'),
        "start": int(start.timestamp() * 1000), "span": int((end - start).total_seconds() * 1000), "orders": orders,
        "lanes": LANES, "skus": SKUS, "popular": POPULAR, "warehouse": WAREHOUSE, **COUNTED,
    }  # fmt: skip
