"""What tables and their indexes take in the database."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import psycopg

_POSTGRES = """SELECT relname, reltuples::bigint, pg_table_size(oid), pg_indexes_size(oid) FROM pg_class
    WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY pg_total_relation_size(oid) DESC"""
_SQLITE = """SELECT m.tbl_name, SUM(CASE WHEN m.type = 'table' THEN s.pgsize ELSE 0 END),
      SUM(CASE WHEN m.type = 'index' THEN s.pgsize ELSE 0 END)
    FROM dbstat AS s JOIN sqlite_master AS m ON m.name = s.name WHERE s.aggregate = TRUE
    GROUP BY m.tbl_name ORDER BY SUM(s.pgsize) DESC"""


def sizes(kind: str, url: str) -> list[dict[str, Any]]:
    """Every table with rows: its name, its rows, and bytes of it and of its indexes, the largest first.

    On PostgreSQL the rows are those of the last ANALYZE. An SQLite without `dbstat` tells of the whole file alone.
    """
    if kind == "SQLite":
        return _of_file(Path(url.removeprefix("sqlite:///")))
    with psycopg.connect(url) as connection:
        found = connection.execute(_POSTGRES).fetchall()
    return [
        {"name": name, "rows": rows, "table": table, "indexes": indexes}
        for name, rows, table, indexes in found
        if rows > 0
    ]


def _of_file(file: Path) -> list[dict[str, Any]]:
    connection = sqlite3.connect(file)
    try:
        found = connection.execute(_SQLITE).fetchall()
        return [
            {
                "name": name,
                "rows": connection.execute(f"SELECT COUNT(*) FROM {name}").fetchone()[0],
                "table": table,
                "indexes": indexes,
            }
            for name, table, indexes in found
            if name.startswith(("stock", "pending"))
        ]
    except sqlite3.OperationalError:  # built without it
        return [{"name": "the whole file", "rows": 1, "table": file.stat().st_size, "indexes": 0}]
    finally:
        connection.close()


def size(kind: str, url: str) -> int:
    """Bytes of the whole database, what is not yet in its file included."""
    if kind == "SQLite":
        file = Path(url.removeprefix("sqlite:///"))
        return sum(path.stat().st_size for path in file.parent.glob(f"{file.name}*"))
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    assert row is not None
    return int(row[0])
