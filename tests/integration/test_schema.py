"""The schema: migrations make what the models say, on both databases, also when two start at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from peewee import IntegrityError

from stocksync import StockSyncConfig
from stocksync.errors import SchemaBehind
from stocksync.runtime import Runtime
from stocksync.store.database import Database, Statement, bind_models, open_database, rows_of
from stocksync.store.migrate import migrate, pending
from stocksync.store.models import MODELS
from tests.processes import ROOT
from tests.shop import SELLER, open_shop

pytestmark = pytest.mark.starts_empty
APPLIED = ["0001_initial"]
TABLES = sorted(model._meta.table_name for model in MODELS)


def described(database: Database) -> dict[str, object]:
    """Every table with its columns, indexes and foreign keys, in words that compare."""
    with database.scope():
        return {
            table: (
                sorted(
                    (c.name, c.data_type.lower(), c.null, c.primary_key) for c in database.get_columns(table)
                ),
                sorted(
                    (i.name, tuple(i.columns), i.unique)
                    for i in database.get_indexes(table)
                    if "autoindex" not in i.name
                ),
                sorted((f.column, f.dest_table, f.dest_column) for f in database.get_foreign_keys(table)),
            )
            for table in TABLES
        }


def checks(database: Database) -> list[str]:
    """Every CHECK as PostgreSQL itself puts it."""
    with database.scope():
        rows = rows_of(database.run(Statement(
            "SELECT conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'c'"
        )))  # fmt: skip
        return sorted(f"{table}: {text}" for table, text in rows)


def from_models(url: str) -> Database:
    database = open_database(url)
    bind_models(database)
    with database.transaction_scope():
        database.create_tables(MODELS)
    return database


def from_migrations(url: str) -> Database:
    database = open_database(url)
    migrate(database)
    return database


def test_migrations_make_what_the_models_say_on_sqlite(tmp_path: Path) -> None:
    models = from_models(f"sqlite:///{tmp_path / 'models.db'}")
    migrated = from_migrations(f"sqlite:///{tmp_path / 'migrated.db'}")

    assert described(migrated) == described(models)


def test_migrations_make_what_the_models_say_on_postgresql(postgres_server: object) -> None:
    names = [postgres_server.create_database() for _ in range(2)]  # type: ignore[attr-defined]
    models, migrated = (
        make(postgres_server.url(name))  # type: ignore[attr-defined]
        for make, name in zip((from_models, from_migrations), names, strict=True)
    )
    try:
        assert described(migrated) == described(models)
        assert checks(migrated) == checks(models)
    finally:
        models.close_all()
        migrated.close_all()
        for name in names:
            postgres_server.drop_database(name)  # type: ignore[attr-defined]


@pytest.mark.pgbouncer
def test_a_second_run_has_nothing_to_do(database_url: str) -> None:
    database = open_database(database_url)

    assert migrate(database) == APPLIED
    assert migrate(database) == []
    assert pending(database) == []
    database.close_all()


def test_a_schema_that_is_behind_is_refused_with_what_to_do(database_url: str) -> None:
    runtime = Runtime(StockSyncConfig.load({"DATABASE_URL": database_url}))

    with pytest.raises(SchemaBehind, match="stocksync migrate"):
        runtime.require_schema()
    runtime.close()


@pytest.mark.pgbouncer
def test_several_that_migrate_at_once_apply_everything_once(database_url: str) -> None:
    command = [sys.executable, "-m", "stocksync", "migrate", "--json"]
    environment = {"DATABASE_URL": database_url, "PYTHONPATH": str(ROOT)}
    started = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    said = [process.communicate(timeout=60) for process in started]

    assert [process.returncode for process in started] == [0] * 4, said
    assert sorted(json.loads(out)["applied"] for out, _ in said) == [[], [], [], APPLIED]


def test_however_many_open_a_new_sqlite_file_at_once_all_succeed(tmp_path: Path) -> None:
    """Of two that switch one file to WAL, SQLite turns one away without waiting."""
    openers = [sys.executable, "-m", "tests.openers", str(tmp_path)]
    said = subprocess.run(openers, cwd=ROOT, capture_output=True, text=True, check=False, timeout=90)

    assert said.stderr == ""
    files = [path.read_bytes() for path in tmp_path.glob("*.sqlite3")]
    assert {file[18:20] for file in files} == {b"\2\2"}, "in WAL mode, see SQLite's file format"


def test_our_tables_stay_out_of_the_monoliths_way(database_url: str) -> None:
    database = from_migrations(database_url)
    with database.scope():
        tables = set(database.get_tables())
    database.close_all()

    plan = {"pending_stock_operations", "stock_synchronization_logs"}
    assert all(name.startswith("stock_sync_") for name in tables - plan - {"sqlite_sequence"})


def test_the_database_refuses_a_line_in_two_orders(database_url: str) -> None:
    line = "d026dd20-7694-11ef-99fc-d3c5743b6101"
    with open_shop(database_url) as shop:
        shop.deduct("old", line_item_id=line)
        shop.deduct("new", line_item_id="L")
        with pytest.raises(IntegrityError), shop.runtime.database.transaction_scope():
            shop.runtime.database.execute_sql(
                f"UPDATE stock_sync_order_lines SET carried = '{SELLER}:{line}' WHERE line_id = 'L'"
            )


def test_sqlite_syncs_every_commit_and_holds_foreign_keys(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'shop.db'}")
    with database.scope():
        found = {
            name: database.execute_sql(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    database.close_all()

    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
