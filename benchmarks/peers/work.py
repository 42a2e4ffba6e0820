"""The work of one job, as a team would write it: read the row, tell the remote, settle the row with a log row.

Plain drivers and one kept-alive session a thread, no ORM: what is measured is the queue, not this.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import uuid
from datetime import UTC, datetime
from typing import Any

import psycopg
import requests

_READ = "SELECT order_id, token_id FROM pending_stock_operations WHERE id = {0}"
_SETTLE = """UPDATE pending_stock_operations
    SET status = 'completed', completed_at = {0}, updated_at = {0}, next_retry_at = NULL
    WHERE id = {0} AND status = 'pending'"""
_LOG = """INSERT INTO stock_synchronization_logs (id, operation_id, action, status, details, timestamp)
    VALUES ({0}, {0}, 'sync_success', 'completed', '{{}}', {0})"""
_local = threading.local()


def deliver(operation_id: str) -> None:
    """Deliver one operation."""
    connection, mark = _connection()
    row = connection.execute(_READ.format(mark), (operation_id,)).fetchone()
    answer = _session().put(
        f"{os.environ['ALLEGRO_MICROSERVICE_BASE_URL']}/orders/{row[0]}/stock-status",
        json={"token_id": row[1], "is_stock_updated": True},
        timeout=8,
    )
    answer.raise_for_status()
    if answer.json()["success"] is not True:
        raise RuntimeError(answer.text)
    now = datetime.now(UTC).isoformat()
    connection.execute("BEGIN IMMEDIATE" if mark == "?" else "BEGIN")
    connection.execute(_SETTLE.format(mark), (now, now, operation_id))
    connection.execute(_LOG.format(mark), (uuid.uuid4().hex, operation_id, now))
    connection.execute("COMMIT")


def waiting() -> list[str]:
    """Ids of the operations to deliver."""
    rows = _connection()[0].execute(
        "SELECT id FROM pending_stock_operations WHERE status = 'pending' ORDER BY id"
    )
    return [str(row[0]) for row in rows.fetchall()]


def redis_url() -> str:
    """Of the broker."""
    return os.environ["REDIS_URL"]


def _session() -> requests.Session:
    if not hasattr(_local, "session"):
        _local.session = requests.Session()
    session: requests.Session = _local.session
    return session


def _connection() -> tuple[Any, str]:
    if not hasattr(_local, "connection"):
        url = os.environ["DATABASE_URL"]
        if url.startswith("sqlite"):
            made: Any = sqlite3.connect(url.removeprefix("sqlite:///"), timeout=30, isolation_level=None)
            for pragma in ("journal_mode = wal", "synchronous = full", "foreign_keys = 1"):
                made.execute(f"PRAGMA {pragma}")
            _local.connection = made, "?"
        else:
            _local.connection = psycopg.connect(url, autocommit=True), "%s"
    kept: tuple[Any, str] = _local.connection
    return kept
