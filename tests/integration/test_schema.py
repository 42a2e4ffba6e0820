"""The schema: migrations make the models' columns and every index, the database refuses impossible rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from peewee import IntegrityError

from stocksync.store.database import Database, bind_models, open_database
from stocksync.store.migrate import migrate
from stocksync.store.models import MODELS, Alert, Discrepancy, Reconciliation, TaskRun
from tests.shop import SELLER, START, Shop, form, open_shop

pytestmark = pytest.mark.starts_empty
TABLES = sorted(model._meta.table_name for model in MODELS)
INDEXES = {
    "pending_stock_operations_error": "error_class, id",
    "pending_stock_operations_in_doubt": "order_ref, created_at",
    "pending_stock_operations_key": "idempotency_key",
    "pending_stock_operations_order_ref_state_version": "order_ref, state_version",
    "pending_stock_operations_sku_id": "sku, id",
    "pending_stock_operations_status_id": "status, id",
    "pending_stock_operations_token_id_id": "token_id, id",
    "stock_sync_alerts_open": "kind, subject",
    "stock_sync_alerts_raised_at": "raised_at",
    "stock_sync_discrepancies_open": "token_id, order_id",
    "stock_sync_discrepancies_run_id": "run_id",
    "stock_sync_discrepancies_status_last_seen_at": "status, last_seen_at",
    "stock_sync_discrepancies_token_id_order_id": "token_id, order_id",
    "stock_sync_keys_passing": "operation_id",
    "stock_sync_movements_cause_key": "cause_key",
    "stock_sync_movements_operation_id": "operation_id",
    "stock_sync_movements_warehouse_sku_created_at": "warehouse, sku, created_at",
    "stock_sync_order_lines_carried": "carried",
    "stock_sync_order_lines_order_ref_line_id": "order_ref, line_id",
    "stock_sync_order_lines_without_sku": "created_at",
    "stock_sync_orders_claimed": "claim_id, lease_until",
    "stock_sync_orders_due": "token_id, due_at",
    "stock_sync_orders_token_id_order_id": "token_id, order_id",
    "stock_sync_orders_token_id_updated_at": "token_id, updated_at",
    "stock_sync_orders_untold": "waiting",
    "stock_sync_pruned_order_ref": "order_ref",
    "stock_sync_reconciliations_running": "token_id",
    "stock_sync_reconciliations_started_at": "started_at",
    "stock_sync_reconciliations_token_id_started_at": "token_id, started_at",
    "stock_sync_tallies_at": "at",
    "stock_sync_tallies_grain_at": "grain, at",
    "stock_sync_task_runs_running": "task",
    "stock_sync_task_runs_started_at": "started_at",
    "stock_sync_task_runs_task_started_at": "task, started_at",
    "stock_synchronization_logs_operation_id_timestamp": "operation_id, timestamp",
    "stock_synchronization_logs_timestamp": "timestamp",
}
MOMENT, ID = "'2026-03-01T12:00:00.000000Z'", "'0195512a7c007000800000000000abcd'"
# Changes of good rows; one CHECK or one unique index alone forbids each of them.
IMPOSSIBLE = [
    ("stock_sync_orders", f"lease_until = {MOMENT}"),
    ("stock_sync_orders", "claimed_version = state_version"),
    ("stock_sync_orders", "delivered_version = state_version + 1"),
    (
        "stock_sync_orders",
        f"claim_id = {ID}, lease_until = {MOMENT}, claimed_version = state_version + 1",
    ),
    ("stock_sync_orders", "attempts = -1"),
    ("stock_sync_orders", f"due_at = {MOMENT}, is_stock_updated = NULL"),
    ("stock_sync_orders", "waiting = 'x'"),
    ("stock_sync_orders", "order_id = 'x'"),
    ("stock_sync_order_lines", "quantity = -1"),
    ("stock_sync_order_lines", "refunded = deducted + 1"),
    ("stock_sync_order_lines", "warehouse = NULL WHERE sku IS NOT NULL"),
    ("stock_sync_order_lines", "sku = NULL, warehouse = NULL WHERE deducted > 0"),
    ("stock_sync_order_lines", "moved_to = 'x' WHERE deducted > 0"),
    ("stock_sync_order_lines", "line_id = 'x'"),
    ("stock_sync_order_lines", "carried = 'x'"),
    ("pending_stock_operations", "operation_type = 'x'"),
    ("pending_stock_operations", "status = 'x', completed_at = NULL"),
    ("pending_stock_operations", "applied = 'x'"),
    ("pending_stock_operations", "quantity = 0"),
    ("pending_stock_operations", "quantity = -1"),
    ("pending_stock_operations", "retry_count = -1"),
    ("pending_stock_operations", "max_retries = 0"),
    ("pending_stock_operations", "completed_at = NULL"),
    ("pending_stock_operations", "order_id = NULL"),
    ("pending_stock_operations", "order_ref = NULL, order_id = NULL"),
    ("pending_stock_operations", "idempotency_key = 'x'"),
    ("stock_sync_levels", "on_hand = -1"),
    ("stock_sync_movements", "delta = 0"),
    ("stock_sync_movements", "cause = 'x', operation_id = NULL"),
    ("stock_sync_movements", "operation_id = NULL WHERE cause = 'deduction'"),
    ("stock_sync_movements", f"operation_id = {ID} WHERE cause = 'count'"),
    ("stock_sync_movements", "cause_key = 'x'"),
    ("stock_sync_reconciliations", "status = 'x'"),
    ("stock_sync_reconciliations", "finished_at = NULL"),
    ("stock_sync_reconciliations", "pages = -1"),
    ("stock_sync_reconciliations", "scanned = -1"),
    ("stock_sync_reconciliations", "fixed = -1"),
    ("stock_sync_reconciliations", "status = 'running', finished_at = NULL"),
    ("stock_sync_discrepancies", "kind = 'x'"),
    ("stock_sync_discrepancies", "status = 'x'"),
    ("stock_sync_discrepancies", "resolved_at = NULL"),
    ("stock_sync_discrepancies", "status = 'open', resolved_at = NULL"),
    ("stock_sync_alerts", "pending_notification = 'x'"),
    ("stock_sync_alerts", f"acknowledged_at = {MOMENT}"),
    ("stock_sync_alerts", "resolved_at = NULL"),
    ("stock_sync_task_runs", "status = 'x'"),
    ("stock_sync_task_runs", "finished_at = NULL"),
    ("stock_sync_task_runs", f"lease_until = {MOMENT}"),
    ("stock_sync_task_runs", f"status = 'running', finished_at = NULL, lease_until = {MOMENT}"),
]
# Another CHECK of the same table says it too: what was refunded is not below 0 and not above what was deducted.
SAID_TWICE = {"stock_sync_order_lines_deducted_check"}
PEEWEES_OWN = {"stock_sync_migrations_name"}
FORBIDS = """
    SELECT conname FROM pg_constraint WHERE contype = 'c' AND connamespace = 'public'::regnamespace
    UNION SELECT relname FROM pg_class JOIN pg_index ON indexrelid = pg_class.oid
    WHERE indisunique AND NOT indisprimary AND relnamespace = 'public'::regnamespace"""


def described(database: Database) -> dict[str, object]:
    """Every table with its columns and foreign keys, in words that compare."""
    with database.scope():
        return {
            table: (
                sorted(
                    (c.name, c.data_type.lower(), c.null, c.primary_key) for c in database.get_columns(table)
                ),
                sorted((f.column, f.dest_table, f.dest_column) for f in database.get_foreign_keys(table)),
            )
            for table in TABLES
        }


def two_of_each(shop: Shop) -> None:
    """Good rows in every table that refuses something, two where only together they can be wrong."""
    shop.stock(A=10, B=10)
    for order_id in ("order-1", "order-2"):
        shop.orders.process_order_stock_update(form(order_id, {"1": ("A", 2), "2": ("B", 1)}))
    shop.drain()
    new, over = shop.runtime.new_id, {"started_at": START, "finished_at": START}
    seen = {"first_seen_at": START, "last_seen_at": START, "resolved_at": START}
    alert: dict[str, Any] = {"kind": "x", "details": {}, "raised_at": START, "last_seen_at": START}
    counts: dict[str, Any] = {"since": START, "buckets": {}, "details": {}}
    with shop.runtime.database.transaction_scope():
        for _ in range(2):
            run = Reconciliation.create(id=new(), token_id=SELLER, status="complete", **over, **counts)
            Discrepancy.create(
                id=new(),
                run_id=run,
                token_id=SELLER,
                order_id="x",
                kind="extra_remote",
                status="gone",
                **seen,
            )
            Alert.create(id=new(), resolved_at=START, **alert)
            TaskRun.create(id=new(), task="sweep", status="done", result={}, **over)


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
    finally:
        models.close_all()
        migrated.close_all()
        for name in names:
            postgres_server.drop_database(name)  # type: ignore[attr-defined]


def test_the_migrated_database_has_every_index(database_url: str) -> None:
    database = from_migrations(database_url)
    with database.scope():
        found = [index for table in TABLES for index in database.get_indexes(table)]
    database.close_all()

    made_for_keys = ("_pkey", "autoindex")
    assert {
        index.name: ", ".join(index.columns)
        for index in found
        if not any(mark in index.name for mark in made_for_keys)
    } == INDEXES


def test_the_database_itself_refuses_impossible_rows(database_url: str) -> None:
    refusals = []
    with open_shop(database_url) as shop, shop.runtime.database.scope():
        two_of_each(shop)
        database = shop.runtime.database
        for table, change in IMPOSSIBLE:
            try:
                with database.atomic():
                    database.execute_sql(f"UPDATE {table} SET {change}")
            except IntegrityError as error:
                refusals.append(error.orig)
            else:
                pytest.fail(f"{table} takes {change}")
        if database.dialect.name == "postgresql":
            known = {row[0] for row in database.execute_sql(FORBIDS).fetchall()}
            assert {error.diag.constraint_name for error in refusals} == known - SAID_TWICE - PEEWEES_OWN


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
