"""A shop to measure: our runtime on a database that was filled in bulk, far faster than through the service."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from stocksync.config import StockSyncConfig
from stocksync.runtime import Runtime
from stocksync.store.context import Wakeups
from stocksync.store.database import Database
from stocksync.store.migrate import migrate
from stocksync.store.values import to_text

LANE = "seller-1"

# Ids rise as the factory's do (UUID 7) and lie below all that are made today.
_SERIES = {
    "sqlite": "WITH RECURSIVE series(i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM series WHERE i < {last})",
    "postgresql": "WITH series(i) AS (SELECT generate_series({first}, {last}))",
}
_ID = {
    "sqlite": "printf('00{kind}0{era}000000070008000%012x', i)",
    "postgresql": "('00{kind}0{era}000000070008000' || lpad(to_hex(i), 12, '0'))::uuid",
}
_MODULO = "('seller-' || (1 + i - i / {lanes} * {lanes}))"
_FILL = (
    """INSERT INTO stock_sync_orders (id, token_id, order_id, has_form, is_stock_updated, state_version,
         delivered_version, ever_told_true, remote_flag, attempts, due_at, waiting, created_at, updated_at)
       {series} SELECT {order}, {lane}, '{era}order-' || i, FALSE, TRUE, 1, {version}, {done}, {flag}, 0, {due},
         {waiting}, '{now}', '{now}' FROM series""",
    """INSERT INTO stock_sync_order_lines (id, order_ref, line_id, sku, warehouse, quantity, deducted, refunded,
         waived, moves_stock, created_at)
       {series} SELECT {line}, {order}, 'A@Ирина', 'A', 'Ирина', 1, 1, 0, FALSE, {ours}, '{now}' FROM series""",
    """INSERT INTO pending_stock_operations (id, order_ref, order_id, allegro_order_id, token_id, operation_type,
         status, sku, quantity, warehouse, idempotency_key, state_version, applied, moves_stock, retry_count,
         max_retries, next_retry_at, created_at, updated_at, completed_at)
       {series} SELECT {operation}, {order}, '{era}order-' || i, '{era}order-' || i, {lane}, 'deduction', '{status}',
         'A', 1, 'Ирина', {key}, 1, 'yes', {ours}, 0, 5, {due}, '{now}', '{now}', {completed} FROM series""",
    """INSERT INTO stock_synchronization_logs (id, operation_id, action, status, details, timestamp)
       {series} SELECT {log}, {operation}, 'created', 'pending', '{{}}', '{now}' FROM series""",
)
_FILL_DONE = """INSERT INTO stock_synchronization_logs (id, operation_id, action, status, details, timestamp)
       {series} SELECT {said}, {operation}, '{action}', 'completed', '{{}}', '{now}' FROM series"""


# As of orders that took their units out of our own stock.
_FILL_OURS = (
    """INSERT INTO stock_sync_keys (key, content_hash, operation_id, created_at)
       {series} SELECT {key}, 'same', {operation}, '{now}' FROM series""",
    """INSERT INTO stock_sync_movements (id, warehouse, sku, delta, balance_after, cause, cause_key, operation_id,
         created_at)
       {series} SELECT {operation}, 'Ирина', 'A', -1, 0, 'deduction', {key}, {operation}, '{now}' FROM series""",
)


@contextmanager
def open_runtime(url: str, wakeups: Wakeups | None = None, **settings: str) -> Iterator[Runtime]:
    """Our parts on a migrated database; lanes are woken by nobody unless `wakeups` says how."""
    config = StockSyncConfig.load({"DATABASE_URL": url, **settings})
    runtime = Runtime(config, wakeups=wakeups or Wakeups())
    migrate(runtime.database)
    try:
        yield runtime
    finally:
        runtime.close()
        if url.startswith("sqlite"):
            # The file is copied as it is: nothing may be left in its log.
            connection = sqlite3.connect(url.removeprefix("sqlite:///"))
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.close()


def fill(
    database: Database,
    count: int,
    *,
    done: bool = False,
    lanes: int = 1,
    era: str = "a",
    first: int = 1,
    ours: bool = False,
    days_ago: int = 0,
) -> None:
    """`count` orders of one operation each, due now or delivered long ago, with lines and logs.

    Args:
        era: a hexadecimal digit; ids of a later one are above those of an earlier.
        first: number of the first order.
        ours: with keys and movements, out of our own stock; its level is not written.
        days_ago: when all of it was.
    """
    dialect = database.dialect.name
    words: dict[str, Any] = {
        kind: _ID[dialect].format(kind=digit, era=era)
        for kind, digit in (("order", "a"), ("line", "b"), ("operation", "c"), ("log", "d"))
    }
    now = to_text(datetime.now(UTC) - timedelta(days=days_ago))
    words |= _words(dialect, now, done=done, ours=ours, era=era) | {"lane": _MODULO.format(lanes=lanes)}
    statements = [*_FILL, *([_FILL_DONE] * 2 if done else []), *(_FILL_OURS if ours else ())]
    with database.transaction_scope():
        for lane in range(1, lanes + 1):
            database.execute_sql(
                "INSERT INTO stock_sync_accounts (token_id, active, paused, created_at)"
                f" VALUES ('seller-{lane}', TRUE, FALSE, '{now}') ON CONFLICT (token_id) DO NOTHING"
            )
        for start in range(first, first + count, 100_000):
            span = {"first": start, "last": min(start + 100_000, first + count) - 1}
            series = _SERIES[dialect].format(**span)
            for number, statement in enumerate(statements):
                said = _ID[dialect].format(kind="ef"[number % 2], era=era)
                action = ("sync_success", "completed")[number % 2]
                text = statement.format(**words, series=series, said=said, action=action)
                database.execute_sql(_typed(text, dialect, now))
        if done:
            database.execute_sql(_tally(count, era, first, now))
    if dialect == "postgresql" and count >= 1000:
        with database.scope():
            database.execute_sql("VACUUM ANALYZE")


def _words(dialect: str, now: str, *, done: bool, ours: bool, era: str) -> dict[str, Any]:
    """What the statements fill in, but for ids."""
    return {
        "now": now,
        "era": era,
        "done": done,
        "ours": ours,
        "key": f"'deduct:{era}' || i" if ours else "NULL",
        "version": int(done),
        "flag": "TRUE" if done else "NULL",
        "due": "NULL" if done else _moment(dialect, now),
        "completed": _moment(dialect, now) if done else "NULL",
        "waiting": "NULL" if done else "'new'",
        "status": "completed" if done else "pending",
    }


def _tally(count: int, era: str, first: int, now: str) -> str:
    return (
        "INSERT INTO stock_sync_tallies (id, at, grain, completed, counts)"
        f" VALUES ('00a0{era}000000070008000{first:012x}', '{now}', 0, {count},"
        f""" '{{"completed": {count}, "at_once": {count}, "delivered": {count}}}')"""
    )


def _moment(dialect: str, text: str) -> str:
    return f"'{text}'::timestamptz" if dialect == "postgresql" else f"'{text}'"


def _typed(text: str, dialect: str, now: str) -> str:
    """PostgreSQL does not guess the types of literals in a SELECT from where they go."""
    if dialect != "postgresql":
        return text
    text = text.replace(f"'{now}'", f"'{now}'::timestamptz").replace(
        "::timestamptz::timestamptz", "::timestamptz"
    )
    return text.replace("'{}'", "'{}'::jsonb").replace("TRUE, NULL, 0", "TRUE, NULL::boolean, 0")


def drop_orders(database: Database, era: str) -> None:
    """Take away what `fill` made under `era`."""
    like = f"{era}order-%%" if database.dialect.name == "postgresql" else f"{era}order-%"
    orders = f"(SELECT id FROM stock_sync_orders WHERE order_id LIKE '{like}')"
    with database.transaction_scope():
        database.execute_sql(
            "DELETE FROM stock_synchronization_logs WHERE operation_id IN"
            f" (SELECT id FROM pending_stock_operations WHERE order_ref IN {orders})"
        )
        for table in ("pending_stock_operations", "stock_sync_order_lines"):
            database.execute_sql(f"DELETE FROM {table} WHERE order_ref IN {orders}")
        database.execute_sql(f"DELETE FROM stock_sync_orders WHERE order_id LIKE '{like}'")
