"""Tables of the upkeep: tallies, reconciliations, differences, alerts, task runs. Indexes that lists are read along."""

from __future__ import annotations

from typing import Any

from stocksync.store.migrate import types_of

STATEMENTS = (
    "ALTER TABLE pending_stock_operations ADD COLUMN first_failed_at {time}",
    # What failed before this column was there: its first failure in the log.
    """UPDATE pending_stock_operations SET first_failed_at = (
        SELECT MIN(timestamp) FROM stock_synchronization_logs AS e
        WHERE e.operation_id = pending_stock_operations.id AND e.action IN ('sync_failed', 'sync_error'))""",
    "ALTER TABLE stock_sync_pruned ADD COLUMN moves_stock {bool} NOT NULL DEFAULT FALSE",
    "DROP INDEX stock_sync_keys_created_at",
    "CREATE INDEX stock_sync_keys_passing ON stock_sync_keys (operation_id)"
    " WHERE substr(key, 1, 7) NOT IN ('deduct:', 'return:')",
    "DROP INDEX pending_stock_operations_status_created_at",
    "CREATE INDEX pending_stock_operations_status_id ON pending_stock_operations (status, id)",
    "CREATE INDEX pending_stock_operations_sku_id ON pending_stock_operations (sku, id)",
    "CREATE INDEX pending_stock_operations_token_id_id ON pending_stock_operations (token_id, id)",
    "CREATE INDEX pending_stock_operations_error ON pending_stock_operations (error_class, id)"
    " WHERE error_class IS NOT NULL",
    "CREATE INDEX stock_sync_orders_token_id_updated_at ON stock_sync_orders (token_id, updated_at)",
    "CREATE INDEX stock_sync_orders_untold ON stock_sync_orders (waiting)"
    " WHERE due_at IS NULL AND claim_id IS NULL AND delivered_version < state_version",
    """CREATE TABLE stock_sync_tallies (
        id {uuid} NOT NULL PRIMARY KEY, at {time} NOT NULL, grain INTEGER NOT NULL,
        completed {big} NOT NULL, counts {json} NOT NULL)""",
    "CREATE INDEX stock_sync_tallies_at ON stock_sync_tallies (at)",
    "CREATE INDEX stock_sync_tallies_grain_at ON stock_sync_tallies (grain, at)",
    """INSERT INTO stock_sync_tallies (id, at, grain, completed, counts)
        SELECT {some_id}, {long_ago}, 86400, COUNT(*), '{{}}'
        FROM pending_stock_operations WHERE status = 'completed' HAVING COUNT(*) > 0""",
    """CREATE TABLE stock_sync_reconciliations (
        id {uuid} NOT NULL PRIMARY KEY, token_id {word} NOT NULL, status {word} NOT NULL,
        dry_run {bool} NOT NULL, started_at {time} NOT NULL, finished_at {time}, since {time} NOT NULL,
        cursor TEXT, step INTEGER NOT NULL, pages INTEGER NOT NULL, scanned INTEGER NOT NULL, fixed INTEGER NOT NULL,
        buckets {json} NOT NULL, details {json} NOT NULL, actor {word},
        CHECK (status IN ('running', 'complete', 'incomplete', 'suspicious')),
        CHECK ((status = 'running') = (finished_at IS NULL)),
        CHECK (pages >= 0 AND scanned >= 0 AND fixed >= 0))""",
    "CREATE INDEX stock_sync_reconciliations_token_id_started_at"
    " ON stock_sync_reconciliations (token_id, started_at)",
    "CREATE INDEX stock_sync_reconciliations_started_at ON stock_sync_reconciliations (started_at)",
    "CREATE UNIQUE INDEX stock_sync_reconciliations_running ON stock_sync_reconciliations (token_id)"
    " WHERE status = 'running'",
    """CREATE TABLE stock_sync_discrepancies (
        id {uuid} NOT NULL PRIMARY KEY, run_id {uuid} NOT NULL, token_id {word} NOT NULL,
        order_id {word} NOT NULL, kind {word} NOT NULL, status {word} NOT NULL, ours {bool}, remote {bool},
        first_seen_at {time} NOT NULL, last_seen_at {time} NOT NULL, resolved_at {time}, actor {word},
        reason TEXT, FOREIGN KEY (run_id) REFERENCES stock_sync_reconciliations (id),
        CHECK (kind IN ('missing_remote', 'cancel_mismatch', 'extra_remote', 'partial_local', 'missing_order')),
        CHECK (status IN ('open', 'fixed', 'left', 'gone')),
        CHECK ((status = 'open') = (resolved_at IS NULL)))""",
    "CREATE INDEX stock_sync_discrepancies_run_id ON stock_sync_discrepancies (run_id)",
    "CREATE INDEX stock_sync_discrepancies_status_last_seen_at"
    " ON stock_sync_discrepancies (status, last_seen_at)",
    "CREATE INDEX stock_sync_discrepancies_token_id_order_id ON stock_sync_discrepancies (token_id, order_id)",
    "CREATE UNIQUE INDEX stock_sync_discrepancies_open ON stock_sync_discrepancies (token_id, order_id)"
    " WHERE status = 'open'",
    """CREATE TABLE stock_sync_alerts (
        id {uuid} NOT NULL PRIMARY KEY, kind {word} NOT NULL, subject {word} NOT NULL, details {json} NOT NULL,
        raised_at {time} NOT NULL, last_seen_at {time} NOT NULL, resolved_at {time}, acknowledged_at {time},
        acknowledged_by {word}, owed {word}, told_at {time}, tries INTEGER NOT NULL,
        CHECK (owed IN ('raised', 'repeated', 'resolved')),
        CHECK ((acknowledged_at IS NULL) = (acknowledged_by IS NULL)))""",
    "CREATE INDEX stock_sync_alerts_raised_at ON stock_sync_alerts (raised_at)",
    "CREATE UNIQUE INDEX stock_sync_alerts_open ON stock_sync_alerts (kind, subject)"
    " WHERE resolved_at IS NULL",
    """CREATE TABLE stock_sync_task_runs (
        id {uuid} NOT NULL PRIMARY KEY, task {word} NOT NULL, status {word} NOT NULL,
        started_at {time} NOT NULL, lease_until {time}, finished_at {time}, result {json} NOT NULL, error TEXT,
        CHECK (status IN ('running', 'done', 'failed', 'interrupted')),
        CHECK ((status = 'running') = (finished_at IS NULL)),
        CHECK ((status = 'running') = (lease_until IS NOT NULL)))""",
    "CREATE INDEX stock_sync_task_runs_task_started_at ON stock_sync_task_runs (task, started_at)",
    "CREATE INDEX stock_sync_task_runs_started_at ON stock_sync_task_runs (started_at)",
    "CREATE UNIQUE INDEX stock_sync_task_runs_running ON stock_sync_task_runs (task)"
    " WHERE status = 'running'",
)


def up(_migrator: Any, db: Any) -> None:
    types = types_of(db)
    for statement in STATEMENTS:
        db.execute_sql(statement.format(**types))
