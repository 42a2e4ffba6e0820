"""The first tables. A frozen text: the models may move on, this does not."""

from __future__ import annotations

from typing import Any

from stocksync.store.migrate import types_of

STATEMENTS = (
    """CREATE TABLE stock_sync_accounts (
        token_id {word} NOT NULL PRIMARY KEY, name {word}, active {bool} NOT NULL,
        paused {bool} NOT NULL, paused_reason TEXT, snoozed_until {time}, created_at {time} NOT NULL)""",
    """CREATE TABLE stock_sync_orders (
        id {uuid} NOT NULL PRIMARY KEY, token_id {word} NOT NULL, order_id {word} NOT NULL,
        has_form {bool} NOT NULL, status {word}, revision {word}, form_updated_at {time},
        is_stock_updated {bool}, state_version INTEGER NOT NULL, delivered_version INTEGER NOT NULL,
        remote_flag {bool}, remote_seen_at {time}, told_true {bool} NOT NULL, due_at {time},
        attempts INTEGER NOT NULL, last_attempt_at {time}, waiting {word}, claim_id {uuid},
        claimed_version INTEGER, lease_until {time}, created_at {time} NOT NULL,
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
    "CREATE INDEX stock_sync_orders_due ON stock_sync_orders (token_id, due_at)"
    " WHERE due_at IS NOT NULL AND claim_id IS NULL",
    "CREATE INDEX stock_sync_orders_claimed ON stock_sync_orders (claim_id, lease_until)"
    " WHERE claim_id IS NOT NULL",
    """CREATE TABLE stock_sync_order_lines (
        id {uuid} NOT NULL PRIMARY KEY, order_ref {uuid} NOT NULL, line_id {word} NOT NULL, sku {word},
        warehouse {word}, quantity {big} NOT NULL, deducted {big} NOT NULL, refunded {big} NOT NULL,
        waived {bool} NOT NULL, created_at {time} NOT NULL,
        FOREIGN KEY (order_ref) REFERENCES stock_sync_orders (id),
        CHECK (quantity >= 0),
        CHECK (deducted >= 0),
        CHECK (refunded >= 0 AND refunded <= deducted),
        CHECK ((sku IS NULL) = (warehouse IS NULL)),
        CHECK (sku IS NOT NULL OR deducted = 0))""",
    "CREATE UNIQUE INDEX stock_sync_order_lines_order_ref_line_id"
    " ON stock_sync_order_lines (order_ref, line_id)",
    """CREATE TABLE pending_stock_operations (
        id {uuid} NOT NULL PRIMARY KEY, order_ref {uuid}, order_id {word}, allegro_order_id {word},
        token_id {word} NOT NULL, operation_type {word} NOT NULL, status {word} NOT NULL,
        sku {word} NOT NULL, quantity {big} NOT NULL, warehouse {word} NOT NULL, line_item_id {word},
        idempotency_key VARCHAR(1024), state_version INTEGER NOT NULL, applied {word} NOT NULL,
        moves_stock {bool} NOT NULL, retry_count INTEGER NOT NULL, max_retries INTEGER NOT NULL,
        next_retry_at {time}, created_at {time} NOT NULL, updated_at {time} NOT NULL,
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
    "CREATE INDEX pending_stock_operations_status_created_at"
    " ON pending_stock_operations (status, created_at)",
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
    "CREATE INDEX stock_sync_keys_created_at ON stock_sync_keys (created_at)",
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
        operation_type {word} NOT NULL, quantity {big} NOT NULL, pruned_at {time} NOT NULL,
        FOREIGN KEY (order_ref) REFERENCES stock_sync_orders (id))""",
    "CREATE INDEX stock_sync_pruned_order_ref ON stock_sync_pruned (order_ref)",
)


def up(_migrator: Any, db: Any) -> None:
    types = types_of(db)
    for statement in STATEMENTS:
        db.execute_sql(statement.format(**types))
