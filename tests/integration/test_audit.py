"""The audit: every promise, broken by hand, is found and named; and stock is rebuilt from its movements."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from stocksync import NegativeStock
from stocksync.store.audit import QUESTIONS, audit, per_lane
from tests.shop import SELLER, WAREHOUSE, Shop, form, goods, open_shop

OPERATIONS, LINES, ORDERS = "pending_stock_operations", "stock_sync_order_lines", "stock_sync_orders"
KEPT, GONE = "kept", "gone"
LINE = "d026dd20-7694-11ef-99fc-d3c5743b6101"
OPERATION_COLUMNS = """order_ref, order_id, allegro_order_id, token_id, operation_type, status, sku, quantity,
  warehouse, line_item_id, state_version, applied, moves_stock, retry_count, max_retries, created_at, updated_at,
  completed_at"""


@pytest.fixture
def shop(database_url: str) -> Iterator[Shop]:
    """An order that was cleaned up (`gone`), one that was delivered and given back in part (`kept`), one to come."""
    with open_shop(database_url) as opened:
        opened.stock(A=10, B=5)
        opened.orders.process_order_stock_update(form(GONE, {"1": ("A", 2)}))
        opened.drain()
        opened.clock.advance(31 * 86400)
        opened.runtime.periodic.cleanup()
        opened.orders.process_order_stock_update(form(KEPT, {"1": ("A", 3), "2": ("B", 1)}))
        opened.drain()
        opened.orders.process_return(goods(line="1", quantity=1, order=KEPT))
        opened.drain()
        opened.orders.process_order_stock_update(form("new", {"1": ("B", 1)}))
        yield opened


def damage(shop: Shop, *statements: str) -> None:
    """Past every guard: what the database itself would refuse is done too."""
    database, postgres = shop.runtime.database, shop.runtime.database.dialect.name == "postgresql"
    with database.scope():
        if not postgres:
            database.execute_sql("PRAGMA ignore_check_constraints = 1")
            database.execute_sql("PRAGMA foreign_keys = 0")
        with database.atomic():
            if postgres:
                found = "SELECT conrelid::regclass, conname FROM pg_constraint WHERE contype IN ('c', 'f')"
                ours = f"{found} AND connamespace = 'public'::regnamespace ORDER BY contype"
                for table, name in database.execute_sql(ours).fetchall():
                    database.execute_sql(f'ALTER TABLE {table} DROP CONSTRAINT "{name}"')
            for statement in statements:
                assert database.execute_sql(statement).rowcount != 0, statement


def of(order: str, table: str = OPERATIONS) -> str:
    """A condition: rows that belong to an order."""
    return f"order_ref IN (SELECT id FROM {ORDERS} WHERE order_id = '{order}')"


MOVEMENT = f"operation_id IN (SELECT id FROM {OPERATIONS} WHERE {of('new')})"
PRUNED_MOVEMENT = "operation_id IN (SELECT operation_id FROM stock_sync_pruned)"
AGAIN = f"SELECT '{uuid4().hex}', {OPERATION_COLUMNS} FROM {OPERATIONS} WHERE {of('new')}"
RESURRECTED = f"""
    INSERT INTO {OPERATIONS} (id, order_ref, token_id, operation_type, status, sku, quantity, warehouse, line_item_id,
      state_version, applied, moves_stock, retry_count, max_retries, created_at, updated_at)
    SELECT operation_id, order_ref, '{SELLER}', operation_type, 'cancelled', 'A', quantity, '{WAREHOUSE}', line_item_id,
      1, 'yes', moves_stock, 0, 5, pruned_at, pruned_at FROM stock_sync_pruned"""

BREAKS: list[tuple[str, set[str], list[str]]] = [
    (
        "an operation is lost",
        {"movement_without_operation", "movement_differs_from_operation", "line_differs_from_operations"},
        [f"DELETE FROM {OPERATIONS} WHERE {of('new')}"],
    ),
    (
        "the record of a pruned operation is lost",
        {"movement_without_operation", "movement_differs_from_operation", "line_differs_from_operations"},
        ["DELETE FROM stock_sync_pruned"],
    ),
    (
        "a movement is lost, and its level follows",
        {"movement_differs_from_operation"},
        [
            f"DELETE FROM stock_sync_movements WHERE {MOVEMENT}",
            "UPDATE stock_sync_levels SET on_hand = on_hand + 1 WHERE sku = 'B'",
        ],
    ),
    (
        "the movement of a pruned operation is lost, and its level follows",
        {"movement_differs_from_operation"},
        [
            f"DELETE FROM stock_sync_movements WHERE {PRUNED_MOVEMENT}",
            "UPDATE stock_sync_levels SET on_hand = on_hand + 2 WHERE sku = 'A'",
        ],
    ),
    (
        "a movement has other units",
        {"movement_differs_from_operation", "level_differs_from_movements"},
        [f"UPDATE stock_sync_movements SET delta = delta - 1 WHERE {MOVEMENT}"],
    ),
    (
        "a level was written past us",
        {"level_differs_from_movements"},
        ["UPDATE stock_sync_levels SET on_hand = 77 WHERE sku = 'B'"],
    ),
    ("a level is lost", {"level_differs_from_movements"}, ["DELETE FROM stock_sync_levels WHERE sku = 'B'"]),
    (
        "a level is below zero",
        {"level_below_zero", "level_differs_from_movements"},
        ["UPDATE stock_sync_levels SET on_hand = -1 WHERE sku = 'B'"],
    ),
    (
        "a line counts less than was deducted",
        {"line_differs_from_operations"},
        [f"UPDATE {LINES} SET deducted = 0 WHERE {of('new')}"],
    ),
    (
        "a line of a pruned operation counts more",
        {"line_differs_from_operations", "line_out_of_bounds"},
        [f"UPDATE {LINES} SET deducted = 3 WHERE {of(GONE)}"],
    ),
    (
        "more came back than went out",
        {"line_differs_from_operations", "line_out_of_bounds"},
        [f"UPDATE {LINES} SET refunded = 4 WHERE {of(KEPT)} AND line_id = '1'"],
    ),
    ("a line is lost", {"line_differs_from_operations"}, [f"DELETE FROM {LINES} WHERE {of(GONE)}"]),
    (
        "a line is deducted twice",
        {"movement_differs_from_operation", "line_differs_from_operations"},
        [f"INSERT INTO {OPERATIONS} (id, {OPERATION_COLUMNS}) {AGAIN}"],
    ),
    (
        "a line is deducted twice, and everything follows",
        {"line_out_of_bounds", "key_of_another_operation"},
        [
            "DROP INDEX pending_stock_operations_key",
            f"INSERT INTO {OPERATIONS} (id, idempotency_key, {OPERATION_COLUMNS}) "
            + AGAIN.replace(", order_ref", ", idempotency_key, order_ref", 1),
            f"UPDATE {OPERATIONS} SET moves_stock = FALSE WHERE id = '{AGAIN.split(chr(39))[1]}'",
            f"UPDATE {LINES} SET deducted = deducted * 2 WHERE {of('new')}",
        ],
    ),
    (
        "a key is lost",
        {"key_of_another_operation"},
        [
            f"DELETE FROM stock_sync_keys WHERE operation_id IN (SELECT id FROM {OPERATIONS} WHERE {of('new')})"
        ],
    ),
    (
        "a pruned operation is there again",
        {"pruned_and_still_there", "movement_differs_from_operation", "line_differs_from_operations"},
        [RESURRECTED],
    ),
    (
        "an order is forgotten",
        {"order_never_delivered", "operation_never_delivered"},
        [f"UPDATE {ORDERS} SET due_at = NULL WHERE order_id = 'new'"],
    ),
    (
        "an operation of a delivered order waits",
        {"operation_never_delivered", "tally_differs"},
        [f"UPDATE {OPERATIONS} SET status = 'pending', completed_at = NULL WHERE {of(KEPT)}"],
    ),
    (
        "an operation is processed by nobody",
        {"processing_without_claim"},
        [f"UPDATE {OPERATIONS} SET status = 'processing' WHERE {of('new')}"],
    ),
    (
        "two orders have one line deducted",
        {"line_of_two_orders", "line_differs_from_operations"},
        [f"UPDATE {LINES} SET line_id = '{LINE}' WHERE {of('new')} OR {of(KEPT)} AND line_id = '2'"],
    ),
    ("a figure is lost", {"tally_differs"}, ["DELETE FROM stock_sync_tallies WHERE completed > 0"]),
]


def test_every_check_is_broken_here() -> None:
    assert set().union(*(found for _, found, _ in BREAKS)) == set(QUESTIONS)


@pytest.mark.parametrize(("_name", "found", "statements"), BREAKS, ids=[name for name, _, _ in BREAKS])
def test_what_is_broken_by_hand_is_found_with_its_rows(
    shop: Shop, _name: str, found: set[str], statements: list[str]
) -> None:
    assert audit(shop.runtime.database) == []
    damage(shop, *statements)

    findings = audit(shop.runtime.database)

    assert {finding.check for finding in findings} == found
    assert all(finding.rows and finding.meaning for finding in findings)


def test_offending_rows_are_bounded(shop: Shop) -> None:
    for number in range(5):
        shop.stock(**{f"S{number}": 1})
    damage(shop, "UPDATE stock_sync_levels SET on_hand = 9")

    (finding,) = audit(shop.runtime.database, limit=3)

    assert len(finding.rows) == 3


def test_every_lane_has_its_figures(shop: Shop) -> None:
    shop.service.sync_stock_deduction("seller-2", "theirs", "A", 4)

    lanes = per_lane(shop.runtime.database)

    zero = dict.fromkeys(
        ("pending", "processing", "completed", "failed", "cancelled", "pruned", "refunded"), 0
    )
    assert lanes == {
        "seller-1": zero
        | {"completed": 3, "pending": 1, "pruned": 1, "orders": 3, "orders_waiting": 1, "deducted": 7, "refunded": 1},
        "seller-2": zero | {"pending": 1, "orders": 1, "orders_waiting": 1, "deducted": 4},
    }  # fmt: skip


# Rebuilding stock


def test_what_differs_is_set_to_what_its_movements_say(shop: Shop) -> None:
    inventory = shop.runtime.inventory
    damage(
        shop,
        "UPDATE stock_sync_levels SET on_hand = 77 WHERE sku = 'B'",
        "DELETE FROM stock_sync_levels WHERE sku = 'A'",
    )

    differing = inventory.differing()
    assert [(row["sku"], row["on_hand"], row["moved"]) for row in differing] == [("A", 0, 6), ("B", 77, 3)]
    assert [inventory.rebuild(row["warehouse"], row["sku"]) for row in differing] == [6, 3]
    assert (shop.on_hand("A"), shop.on_hand("B"), inventory.differing()) == (6, 3, [])
    assert shop.broken_promises() == []


def test_less_than_nothing_is_set_only_where_it_may_be(shop: Shop) -> None:
    damage(shop, "UPDATE stock_sync_movements SET delta = -50 WHERE sku = 'B' AND cause = 'deduction'")

    with pytest.raises(NegativeStock, match="B in warehouse Ирина: its movements come to less than nothing"):
        shop.runtime.inventory.rebuild(WAREHOUSE, "B")
    assert shop.on_hand("B") == 3

    damage(shop, "UPDATE stock_sync_levels SET allow_negative = TRUE")
    assert shop.runtime.inventory.rebuild(WAREHOUSE, "B") == -95


def test_a_sale_under_way_is_not_lost_by_a_rebuild(shop: Shop) -> None:
    """Its level is held until it is committed, and summed up after that."""
    damage(shop, "UPDATE stock_sync_levels SET on_hand = 77 WHERE sku = 'B'")
    shop.clock.advance(timedelta(days=1).total_seconds())
    shop.orders.process_order_stock_update(form("another", {"1": ("B", 2)}))

    assert shop.runtime.inventory.rebuild(WAREHOUSE, "B") == 1


def values(shop: Shop, sql: str) -> list[Any]:
    with shop.runtime.database.scope():
        return list(shop.runtime.database.execute_sql(sql).fetchall())


def test_a_rebuild_writes_no_movement(shop: Shop) -> None:
    damage(shop, "UPDATE stock_sync_levels SET on_hand = 77 WHERE sku = 'B'")
    before = values(shop, "SELECT * FROM stock_sync_movements ORDER BY id")
    shop.runtime.inventory.rebuild(WAREHOUSE, "B")

    assert values(shop, "SELECT * FROM stock_sync_movements ORDER BY id") == before
