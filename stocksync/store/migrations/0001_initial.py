"""Every table with its invariants and indexes. A frozen text: the models may move on, this does not."""

from typing import Any

from stocksync.store.migrate import COLUMN_TYPES

STATEMENTS = (
    """CREATE TABLE stock_sync_accounts (
        token_id {word} NOT NULL PRIMARY KEY, name {word}, active {bool} NOT NULL,
        paused {bool} NOT NULL, paused_reason TEXT, snoozed_until {time}, created_at {time} NOT NULL)""",
    """CREATE TABLE stock_sync_orders (
        id {uuid} NOT NULL PRIMARY KEY, token_id {word} NOT NULL, order_id {word} NOT NULL,
        has_form {bool} NOT NULL, status {word}, revision {word}, form_updated_at {time},
        is_stock_updated {bool}, state_version INTEGER NOT NULL, delivered_version INTEGER NOT NULL,
        remote_flag {bool}, remote_seen_at {time}, ever_told_true {bool} NOT NULL, due_at {time},
        attempts INTEGER NOT NULL, last_attempt_at {time}, waiting {word}, claim_id {uuid},
        claimed_version INTEGER, lease_until {time}, traceparent {word}, created_at {time} NOT NULL,
        updated_at {time} NOT NULL, FOREIGN KEY (token_id) REFERENCES stock_sync_accounts (token_id),
        CHECK ((claim_id IS NULL) = (lease_until IS NULL)),
        CHECK ((claim_id IS NULL) = (claimed_version IS NULL)),
        CHECK (delivered_version >= 0 AND delivered_version <= state_version),
        CHECK (claimed_version IS NULL OR claimed_version <= state_version),
        CHECK (attempts >= 0),
        CHECK (due_at IS NULL OR is_stock_updated IS NOT NULL),
        CHECK (waiting IN ('new', 'retry', 'rescued', 'snoozed', 'outage', 'not_ready', 'failed',
            'cancelled', 'manual', 'reconciled')))""",
    "CREATE UNIQUE INDEX stock_sync_orders_token_id_order_id ON stock_sync_orders (token_id, order_id)",
    # A claim looks only at what is due and free, a rescue only at what is claimed: a million delivered orders are in neither
    # of these two indexes.
    "CREATE INDEX stock_sync_orders_due ON stock_sync_orders (token_id, due_at)"
    " WHERE due_at IS NOT NULL AND claim_id IS NULL",
    "CREATE INDEX stock_sync_orders_claimed ON stock_sync_orders (claim_id, lease_until)"
    " WHERE claim_id IS NOT NULL",
    "CREATE INDEX stock_sync_orders_token_id_updated_at ON stock_sync_orders (token_id, updated_at)",
    # What has something to tell and is not on its way: given up, cancelled, or lost.
    "CREATE INDEX stock_sync_orders_untold ON stock_sync_orders (waiting)"
    " WHERE due_at IS NULL AND claim_id IS NULL AND delivered_version < state_version",
    """CREATE TABLE stock_sync_order_lines (
        id {uuid} NOT NULL PRIMARY KEY, order_ref {uuid} NOT NULL, line_id {word} NOT NULL, sku {word},
        warehouse {word}, quantity {big} NOT NULL, deducted {big} NOT NULL, refunded {big} NOT NULL,
        waived {bool} NOT NULL, moves_stock {bool} NOT NULL, carried {word}, moved_to {word},
        created_at {time} NOT NULL,
        FOREIGN KEY (order_ref) REFERENCES stock_sync_orders (id),
        CHECK (moved_to IS NULL OR carried IS NULL AND deducted = refunded),
        CHECK (quantity >= 0),
        CHECK (deducted >= 0),
        CHECK (refunded >= 0 AND refunded <= deducted),
        CHECK ((sku IS NULL) = (warehouse IS NULL)),
        CHECK (sku IS NOT NULL OR deducted = 0))""",
    "CREATE UNIQUE INDEX stock_sync_order_lines_order_ref_line_id"
    " ON stock_sync_order_lines (order_ref, line_id)",
    "CREATE UNIQUE INDEX stock_sync_order_lines_carried ON stock_sync_order_lines (carried)",
    # What was sold without an external id; stock lines are not in it.
    "CREATE INDEX stock_sync_order_lines_without_sku ON stock_sync_order_lines (created_at) WHERE sku IS NULL",
    """CREATE TABLE pending_stock_operations (
        id {uuid} NOT NULL PRIMARY KEY, order_ref {uuid}, order_id {word}, allegro_order_id {word},
        token_id {word} NOT NULL, operation_type {word} NOT NULL, status {word} NOT NULL,
        sku {word} NOT NULL, quantity {big} NOT NULL, warehouse {word} NOT NULL, line_item_id {word},
        idempotency_key VARCHAR(1024), state_version INTEGER NOT NULL, applied {word} NOT NULL,
        moves_stock {bool} NOT NULL, retry_count INTEGER NOT NULL, max_retries INTEGER NOT NULL,
        next_retry_at {time}, first_failed_at {time}, created_at {time} NOT NULL, updated_at {time} NOT NULL,
        completed_at {time}, error_message TEXT, error_class {word}, actor {word}, reason TEXT,
        FOREIGN KEY (order_ref) REFERENCES stock_sync_orders (id),
        CHECK (operation_type IN ('deduction', 'refund', 'adjustment')),
        CHECK (status IN ('pending', 'processing', 'completed', 'failed', 'cancelled')),
        CHECK (applied IN ('yes', 'unknown', 'no')),
        CHECK (quantity <> 0 AND (quantity > 0 OR operation_type = 'adjustment')),
        CHECK (retry_count >= 0 AND max_retries >= 1),
        CHECK ((status = 'completed') = (completed_at IS NOT NULL)),
        CHECK ((order_ref IS NULL) = (order_id IS NULL)),
        CHECK (order_ref IS NOT NULL OR operation_type = 'adjustment'))""",
    "CREATE INDEX pending_stock_operations_order_ref_state_version"
    " ON pending_stock_operations (order_ref, state_version)",
    # Ids rise with time: every list is read along an index that ends in them.
    "CREATE INDEX pending_stock_operations_status_id ON pending_stock_operations (status, id)",
    "CREATE INDEX pending_stock_operations_sku_id ON pending_stock_operations (sku, id)",
    "CREATE INDEX pending_stock_operations_token_id_id ON pending_stock_operations (token_id, id)",
    "CREATE INDEX pending_stock_operations_error ON pending_stock_operations (error_class, id)"
    " WHERE error_class IS NOT NULL",
    "CREATE INDEX pending_stock_operations_in_doubt ON pending_stock_operations (order_ref, created_at)"
    " WHERE applied = 'unknown'",
    "CREATE UNIQUE INDEX pending_stock_operations_key ON pending_stock_operations (idempotency_key)"
    " WHERE idempotency_key IS NOT NULL",
    """CREATE TABLE stock_synchronization_logs (
        id {uuid} NOT NULL PRIMARY KEY, operation_id {uuid} NOT NULL, action {word} NOT NULL,
        status {word} NOT NULL, details {json} NOT NULL, timestamp {time} NOT NULL,
        execution_time_ms INTEGER,
        FOREIGN KEY (operation_id) REFERENCES pending_stock_operations (id))""",
    "CREATE INDEX stock_synchronization_logs_operation_id_timestamp"
    " ON stock_synchronization_logs (operation_id, timestamp)",
    "CREATE INDEX stock_synchronization_logs_timestamp ON stock_synchronization_logs (timestamp)",
    """CREATE TABLE stock_sync_keys (
        key VARCHAR(1024) NOT NULL PRIMARY KEY, content_hash {word} NOT NULL,
        operation_id {uuid} NOT NULL, created_at {time} NOT NULL)""",
    # What clean-up looks at.
    "CREATE INDEX stock_sync_keys_passing ON stock_sync_keys (operation_id)"
    " WHERE substr(key, 1, 7) NOT IN ('deduct:', 'return:')",
    """CREATE TABLE stock_sync_levels (
        warehouse {word} NOT NULL, sku {word} NOT NULL, on_hand {big} NOT NULL,
        allow_negative {bool} NOT NULL, updated_at {time} NOT NULL, PRIMARY KEY (warehouse, sku),
        CHECK (on_hand >= 0 OR allow_negative))""",
    """CREATE TABLE stock_sync_movements (
        id {uuid} NOT NULL PRIMARY KEY, warehouse {word} NOT NULL, sku {word} NOT NULL,
        delta {big} NOT NULL, balance_after {big} NOT NULL, cause {word} NOT NULL,
        cause_key VARCHAR(1024) NOT NULL, operation_id {uuid}, actor {word}, reason TEXT,
        created_at {time} NOT NULL, CHECK (delta <> 0),
        CHECK (cause IN ('deduction', 'refund', 'rollback', 'receipt', 'issue', 'count')),
        CHECK ((cause IN ('deduction', 'refund', 'rollback')) = (operation_id IS NOT NULL)))""",
    "CREATE UNIQUE INDEX stock_sync_movements_cause_key ON stock_sync_movements (cause_key)",
    "CREATE INDEX stock_sync_movements_operation_id ON stock_sync_movements (operation_id)",
    "CREATE INDEX stock_sync_movements_warehouse_sku_created_at"
    " ON stock_sync_movements (warehouse, sku, created_at)",
    """CREATE TABLE stock_sync_pruned (
        operation_id {uuid} NOT NULL PRIMARY KEY, order_ref {uuid}, line_item_id {word},
        operation_type {word} NOT NULL, quantity {big} NOT NULL, moves_stock {bool} NOT NULL, pruned_at {time} NOT NULL,
        FOREIGN KEY (order_ref) REFERENCES stock_sync_orders (id))""",
    "CREATE INDEX stock_sync_pruned_order_ref ON stock_sync_pruned (order_ref)",
    """CREATE TABLE stock_sync_tallies (
        id {uuid} NOT NULL PRIMARY KEY, at {time} NOT NULL, grain INTEGER NOT NULL,
        completed {big} NOT NULL, counts {json} NOT NULL)""",
    "CREATE INDEX stock_sync_tallies_at ON stock_sync_tallies (at)",
    "CREATE INDEX stock_sync_tallies_grain_at ON stock_sync_tallies (grain, at)",
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
        acknowledged_by {word}, pending_notification {word}, notified_at {time}, tries INTEGER NOT NULL,
        CHECK (pending_notification IN ('raised', 'repeated', 'resolved')),
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
    for statement in STATEMENTS:
        db.execute_sql(statement.format(**COLUMN_TYPES[db.dialect.name]))
