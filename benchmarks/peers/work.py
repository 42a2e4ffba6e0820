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

READ = "SELECT order_id, token_id FROM pending_stock_operations WHERE id = {0}"
SETTLE = """UPDATE pending_stock_operations
    SET status = 'completed', completed_at = {0}, updated_at = {0}, next_retry_at = NULL
    WHERE id = {0} AND status = 'pending'"""
LOG = """INSERT INTO stock_synchronization_logs (id, operation_id, action, status, details, timestamp)
    VALUES ({0}, {0}, 'sync_success', 'completed', '{{}}', {0})"""
MANY_CONNECTIONS = "?max_connections=300"
"""For the broker's URL where each job at once takes a connection: redis-py keeps to 100 unless it is told."""
_local = threading.local()


def deliver(operation_id: str) -> None:
    """Deliver one operation."""
    connection, mark = _connection()
    row = connection.execute(READ.format(mark), (operation_id,)).fetchone()
    answer = _session().put(
        address(row[0]),
        json=document(row[1]),
        timeout=8,
    )
    answer.raise_for_status()
    if answer.json()["success"] is not True:
        raise RuntimeError(answer.text)
    now = datetime.now(UTC).isoformat()
    connection.execute("BEGIN IMMEDIATE" if mark == "?" else "BEGIN")
    connection.execute(SETTLE.format(mark), (now, now, operation_id))
    connection.execute(LOG.format(mark), (uuid.uuid4().hex, operation_id, now))
    connection.execute("COMMIT")


def address(order_id: str) -> str:
    """Where the remote is told of the order."""
    return f"{os.environ['ALLEGRO_MICROSERVICE_BASE_URL']}/orders/{order_id}/stock-status"


def document(token_id: str) -> dict[str, object]:
    """What it is told."""
    return {"token_id": token_id, "is_stock_updated": True}


def waiting() -> list[str]:
    """Ids of the operations to deliver."""
    rows = _connection()[0].execute(
        "SELECT id FROM pending_stock_operations WHERE status = 'pending' ORDER BY id"
    )
    return [str(row[0]) for row in rows.fetchall()]


def orders() -> dict[str, str]:
    """Id of a waiting operation -> id of its order."""
    rows = _connection()[0].execute(
        "SELECT id, order_id FROM pending_stock_operations WHERE status = 'pending'"
    )
    return {str(operation_id): order_id for operation_id, order_id in rows.fetchall()}


def is_settled(operation_id: str) -> bool:
    """Whether the operation has been delivered."""
    connection, mark = _connection()
    row = connection.execute(
        f"SELECT status FROM pending_stock_operations WHERE id = {mark}", (operation_id,)
    ).fetchone()
    return bool(row[0] == "completed")


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
