"""SQL that makes up the history of a shop, for both databases: what stands in each table for order `i`.

`{hex}(expression, width)` and so on are written out by `history`. Every order is `o` (its number, the moment in
milliseconds, its lane, its id, what became of it), every line `l` (with `n`, its number over all orders).
"""

from __future__ import annotations

POPULAR = "POPULAR"
"""The SKU of every tenth line."""
SKUS = 20_000
LANES = 20
WAREHOUSE = "Ирина"

ORDERS = """
    WITH {series}, o AS (
      SELECT i, {start} + i * {span} / {orders} AS at, 'seller-' || (1 + i / 7 % {lanes}) AS lane,
        {order_name} AS name,
        CASE WHEN i % 5003 = 11 THEN 'failed' WHEN i % 10007 = 17 THEN 'pending' WHEN i % 20011 = 13 THEN 'doubt'
             WHEN i % 97 = 7 THEN 'cancelled' ELSE 'completed' END AS what,
        CASE WHEN i % 50 = 3 THEN 1 ELSE 0 END AS returned
      FROM series)"""
LINES = (
    ORDERS
    + """, l AS (
      SELECT o.*, i * 2 + j AS n, j, CASE WHEN what IN ('doubt', 'cancelled') THEN 0 ELSE 1 END AS applied,
        CASE WHEN (i * 2 + j) % 10 = 0 THEN '{popular}' ELSE 'SKU-' || ((i * 2 + j) * 7919 % {skus}) END AS sku,
        {line_name} AS line
      FROM o JOIN (SELECT 0 AS j UNION ALL SELECT 1) AS two ON j <= i % 2)"""
)
_KEY = "'deduct:' || lane || ':' || name || ':' || line"
_RETURN_KEY = "'return:' || lane || ':' || name || ':' || line"
_RETURNS = "FROM l WHERE returned = 1 AND j = 0 AND what = 'completed'"
_OPERATION = """INSERT INTO pending_stock_operations (id, order_ref, order_id, allegro_order_id, token_id,
        operation_type, status, sku, quantity, warehouse, line_item_id, idempotency_key, state_version, applied,
        moves_stock, retry_count, max_retries, next_retry_at, first_failed_at, created_at, updated_at, completed_at,
        error_class, error_message) """
_LOG = "INSERT INTO stock_synchronization_logs (id, operation_id, action, status, details, timestamp, execution_time_ms) "

STATEMENTS = (
    f"""INSERT INTO stock_sync_orders (id, token_id, order_id, has_form, status, revision, form_updated_at,
        is_stock_updated, state_version, delivered_version, remote_flag, remote_seen_at, ever_told_true, due_at,
        attempts, last_attempt_at, waiting, created_at, updated_at) {ORDERS}
      SELECT {{order}}, lane, name, TRUE, 'READY_FOR_PROCESSING', {{revision}}, {{time_at}},
        CASE WHEN what IN ('doubt', 'cancelled') THEN NULL ELSE TRUE END,
        CASE WHEN what IN ('doubt', 'cancelled') THEN 0 WHEN what = 'completed' THEN 1 + returned ELSE 1 END,
        CASE WHEN what = 'completed' THEN 1 + returned ELSE 0 END, CASE WHEN what = 'completed' THEN TRUE END,
        CASE WHEN what = 'completed' THEN {{time_done}} END, what NOT IN ('doubt', 'cancelled'),
        CASE WHEN what = 'pending' THEN {{time_later}} END,
        CASE what WHEN 'failed' THEN 5 WHEN 'pending' THEN 1 ELSE 0 END,
        CASE WHEN what NOT IN ('doubt', 'cancelled') THEN {{time_done}} END,
        CASE what WHEN 'failed' THEN 'failed' WHEN 'pending' THEN 'retry' WHEN 'completed' THEN NULL
             ELSE 'not_ready' END, {{time_at}}, {{time_done}} FROM o""",
    f"""INSERT INTO stock_sync_order_lines (id, order_ref, line_id, sku, warehouse, quantity, deducted, refunded, waived,
        moves_stock, carried, created_at) {LINES}
      SELECT {{line_id}}, {{order}}, line, sku, '{{warehouse}}', 1, applied,
        CASE WHEN j = 0 AND what = 'completed' THEN returned ELSE 0 END, FALSE, {{own}} AND what <> 'doubt',
        lane || ':' || line, {{time_at}} FROM l""",
    # Lines that nobody linked to a SKU.
    f"""INSERT INTO stock_sync_order_lines (id, order_ref, line_id, quantity, deducted, refunded, waived, moves_stock,
        created_at) {ORDERS}
      SELECT {{bare_line}}, {{order}}, 'bare', 1, 0, 0, FALSE, FALSE, {{time_at}} FROM o WHERE i % 200 = 9""",
    f"""{_OPERATION} {LINES}
      SELECT {{operation}}, {{order}}, name, name, lane, 'deduction',
        CASE what WHEN 'doubt' THEN 'pending' ELSE what END, sku, 1, '{{warehouse}}', line,
        CASE WHEN {{own}} AND what <> 'cancelled' THEN {_KEY} END, CASE WHEN applied = 1 THEN 1 ELSE 0 END,
        CASE what WHEN 'doubt' THEN 'unknown' WHEN 'cancelled' THEN 'no' ELSE 'yes' END, {{own}} AND applied = 1,
        CASE what WHEN 'failed' THEN 5 WHEN 'pending' THEN 1 ELSE 0 END, 5,
        CASE WHEN what = 'pending' THEN {{time_later}} END,
        CASE WHEN what IN ('failed', 'pending') THEN {{time_done}} END, {{time_at}}, {{time_done}},
        CASE WHEN what = 'completed' THEN {{time_done}} END,
        CASE what WHEN 'failed' THEN 'Rejected' WHEN 'pending' THEN 'ServerError' END,
        CASE WHEN what IN ('failed', 'pending') THEN 'HTTP 500: the remote could not write it' END FROM l""",
    f"""{_OPERATION} {LINES}
      SELECT {{refund}}, {{order}}, name, name, lane, 'refund', 'completed', sku, 1, '{{warehouse}}', line,
        CASE WHEN {{own}} THEN {_RETURN_KEY} END, 2, 'yes', {{own}}, 0, 5, {{no_time}}, {{no_time}}, {{time_at}}, {{time_done}}, {{time_done}},
        NULL, NULL {_RETURNS}""",
    f"""{_LOG} {LINES} SELECT {{log}}, {{operation}}, 'created', 'pending',
        {{created}}, {{time_at}}, {{no_number}} FROM l""",
    f"""{_LOG} {LINES} SELECT {{log_sent}}, {{operation}}, 'sync_success', 'processing', {{told}}, {{time_done}}, 12
        FROM l WHERE what = 'completed'""",
    f"""{_LOG} {LINES} SELECT {{log_done}}, {{operation}}, 'completed', 'completed', {{nothing}}, {{time_done}},
        {{no_number}} FROM l WHERE what = 'completed'""",
    f"""{_LOG} {LINES} SELECT {{log_sent}}, {{operation}}, 'sync_failed', 'processing', {{error}}, {{time_done}}, 12
        FROM l WHERE what IN ('failed', 'pending')""",
    f"""{_LOG} {LINES} SELECT {{log_of_refund}}, {{refund}}, 'completed', 'completed', {{nothing}}, {{time_done}},
        {{no_number}} {_RETURNS}""",
    f"""INSERT INTO stock_sync_keys (key, content_hash, operation_id, created_at) {LINES}
      SELECT {_KEY}, {{hash}}, {{operation}}, {{time_at}} FROM l WHERE {{own}} AND what <> 'cancelled'""",
    f"""INSERT INTO stock_sync_keys (key, content_hash, operation_id, created_at) {LINES}
      SELECT {_RETURN_KEY}, {{hash}}, {{refund}}, {{time_at}} {_RETURNS} AND {{own}}""",
    f"""INSERT INTO stock_sync_movements (id, warehouse, sku, delta, balance_after, cause, cause_key, operation_id,
        created_at) {LINES}
      SELECT {{operation}}, '{{warehouse}}', sku, -1, 0, 'deduction', {_KEY}, {{operation}}, {{time_at}}
      FROM l WHERE {{own}} AND applied = 1""",
    f"""INSERT INTO stock_sync_movements (id, warehouse, sku, delta, balance_after, cause, cause_key, operation_id,
        created_at) {LINES}
      SELECT {{refund}}, '{{warehouse}}', sku, 1, 0, 'refund', {_RETURN_KEY}, {{refund}}, {{time_at}} {_RETURNS} AND {{own}}""",
)

# Once, behind all orders; `series` counts what the second word says.
LAST = (
    (
        "lanes",
        """INSERT INTO stock_sync_levels (warehouse, sku, on_hand, allow_negative, updated_at)
      SELECT warehouse, sku, SUM(delta), TRUE, MAX(created_at) FROM stock_sync_movements GROUP BY warehouse, sku""",
    ),
    (
        "runs",
        """INSERT INTO stock_sync_reconciliations (id, token_id, status, dry_run, started_at, finished_at, since,
        step, pages, scanned, fixed, buckets, details)
      WITH {series}, o AS (SELECT i, {start} + i * {span} / {runs} AS at FROM series)
      SELECT {order}, 'seller-' || (1 + i % {lanes}), 'complete', FALSE, {time_at}, {time_done}, {time_at}, 3, 3, 500,
        0, {equal}, {nothing} FROM o""",
    ),
    (
        "differences",
        """INSERT INTO stock_sync_discrepancies (id, run_id, token_id, order_id, kind, status, ours, remote,
        first_seen_at, last_seen_at, resolved_at)
      WITH {series}, o AS (
        SELECT i, {start} + i * {span} / {runs} AS at, 'seller-' || (1 + i / 7 % {lanes}) AS lane,
          {order_name} AS name FROM series)
      SELECT {line_of_run}, {order}, lane, name, 'missing_remote', CASE WHEN i % 50 = 0 THEN 'open' ELSE 'gone' END,
        TRUE, FALSE, {time_at}, {time_done}, CASE WHEN i % 50 <> 0 THEN {time_done} END FROM o""",
    ),
    (
        "tasks",
        """INSERT INTO stock_sync_task_runs (id, task, status, started_at, finished_at, result)
      WITH {series}, o AS (SELECT i, {start} + i * {span} / {tasks} AS at FROM series)
      SELECT {order}, 'sweep', 'done', {time_at}, {time_done}, {nothing} FROM o""",
    ),
)
COUNTED = {"lanes": 1, "runs": 40_000, "differences": 5_000, "tasks": 65_000}
"""Twenty sellers compared every half hour, and a sweep each minute, for 45 days."""
