"""Bringing the schema up to date with peewee's own runner, safely when two processes start it at once."""

from pathlib import Path
from typing import Any

from playhouse.migrations import Runner

from stocksync.errors import SchemaBehind
from stocksync.store.database import Database

_DIRECTORY = Path(__file__).parent / "migrations"
_TABLE = "stock_sync_migrations"


def migrate(database: Database) -> list[str]:
    """Apply what is missing; answers with the names of what was applied, empty when nothing was.

    The runner plans before it locks, so the lock is taken outside of it, and all is one transaction.
    """
    with database.transaction_scope():
        database.wait_for_migration_lock()
        applied: list[str] = _runner(database).up()
    return applied


def pending(database: Database) -> list[str]:
    """Names of migrations that this version has and the database has not."""
    with database.scope():
        return [migration.name for migration in _runner(database).status() if not migration.applied]


def require_current(database: Database) -> None:
    """Raises SchemaBehind when a migration is missing."""
    missing = pending(database)
    if missing:
        raise SchemaBehind(missing)


def types_of(database: Any) -> dict[str, str]:
    """The words for column types that differ, for the texts of migrations."""
    if database.dialect.name == "postgresql":
        return {
            "uuid": "UUID",
            "time": "TIMESTAMPTZ",
            "json": "JSONB",
            "bool": "BOOLEAN",
            "big": "BIGINT",
            "word": "VARCHAR(255)",
        }
    return {
        "uuid": "TEXT",
        "time": "TEXT",
        "json": "TEXT",
        "bool": "INTEGER",
        "big": "INTEGER",
        "word": "VARCHAR(255)",
    }


def _runner(database: Database) -> Runner:
    return Runner(database, directory=str(_DIRECTORY), table_name=_TABLE)
