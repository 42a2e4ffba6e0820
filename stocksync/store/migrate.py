"""Bringing the schema up to date with peewee's own runner, safely when two processes start it at once."""

from pathlib import Path

from playhouse.migrations import Runner

from stocksync.store.database import Database

COLUMN_TYPES = {
    "sqlite": {
        "uuid": "TEXT",
        "time": "TEXT",
        "json": "TEXT",
        "bool": "INTEGER",
        "big": "INTEGER",
        "word": "VARCHAR(255)",
    },
    "postgresql": {
        "uuid": "UUID",
        "time": "TIMESTAMPTZ",
        "json": "JSONB",
        "bool": "BOOLEAN",
        "big": "BIGINT",
        "word": "VARCHAR(255)",
    },
}
"""What stands for `{uuid}`, `{time}` and so on in the texts of migrations, by dialect."""


def migrate(database: Database) -> list[str]:
    """Apply what is missing; answers with the names of what was applied, empty when nothing was.

    The runner plans before it locks, so the lock is taken outside of it, and all is one transaction.
    """
    with database.transaction_scope():
        if database.dialect.name == "postgresql":  # on SQLite BEGIN IMMEDIATE keeps the others out
            # Any number of our own; this one spells 'stock'.
            database.execute_sql("SELECT pg_advisory_xact_lock(%s)", (0x73746F636B,))
        return list(_runner(database).up())


def pending(database: Database) -> list[str]:
    """Names of migrations that this version has and the database has not."""
    with database.scope():
        return [migration.name for migration in _runner(database).status() if not migration.applied]


def _runner(database: Database) -> Runner:
    return Runner(
        database, directory=str(Path(__file__).parent / "migrations"), table_name="stock_sync_migrations"
    )
