"""The rooms of the project: who may import whom, who alone may write what, and that importing does nothing.

Each check reads sources, so that a small bad one can prove that it would be found.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.layout import (
    ROOT,
    done_by_importing,
    forbidden_packages,
    foreign_writes,
    project,
    sql_outside_the_store,
    wrong_arrows,
)

# The promises


def test_imports_go_one_way() -> None:
    assert wrong_arrows(project()) == []


def test_every_room_keeps_to_its_packages() -> None:
    assert forbidden_packages(project()) == []


def test_the_store_holds_the_only_sql() -> None:
    assert sql_outside_the_store(project()) == []


def test_delivery_state_and_stock_have_one_writer_each() -> None:
    assert foreign_writes(project()) == []


def test_importing_any_module_neither_writes_nor_connects(tmp_path: Path) -> None:
    modules = [module for module in project() if module != "stocksync.__main__"]  # which is there to run

    assert len(modules) > 50
    assert done_by_importing(modules, ROOT, tmp_path) == []


# That each would be found


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("stocksync.config", "from stocksync.store.models import Order"),
        ("stocksync.errors", "from stocksync.config import StockSyncConfig"),
        ("stocksync.store.queries", "from stocksync.orders.service import SyncResult"),
        ("stocksync.store.queries", "import stocksync.runtime"),
        ("stocksync.store.queries", "from stocksync.delivery.client import OrdersClient"),
        ("stocksync.store.models", "from stocksync.delivery import engine"),
        ("stocksync.queue.wakeups", "from ..delivery.engine import DeliveryEngine"),
        ("stocksync.orders.service", "from stocksync import runtime"),
        ("stocksync.orders.service", "from stocksync import SyncResult"),
        ("stocksync.upkeep.periodic", "def f():\n    from stocksync.runtime import Runtime"),
        ("stocksync.runtime", "from stocksync.cli import main"),
        ("stocksync.runtime", "from jobs.worker import run"),
        ("stocksync.config", "from stocksync.store.database import Database"),
        ("stocksync.orders.whole_orders", "from stocksync.sandbox import Sandbox"),
        ("stocksync.runtime", "if TYPE_CHECKING:\n    from .sandbox import Sandbox"),
        ("stocksync.web.pages", "from stocksync.sandbox import Sandbox"),
        ("stocksync.web.pages", "from jobs.worker import run"),
        ("jobs.worker", "from stocksync.cli import main"),
        ("stocksync.sandbox.demo", "from stocksync.cli.output import table"),
        ("stocksync.somewhere", ""),
    ],
)
def test_an_arrow_the_wrong_way_is_found(module: str, text: str) -> None:
    assert len(wrong_arrows({module: text})) == 1


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("stocksync.cli.orders", "from stocksync.sandbox import Sandbox"),
        ("stocksync.sandbox.server", "from . import supervisor\nfrom .microservice import FaultPlan"),
        ("stocksync.sandbox", "from .server import Sandbox"),
        ("stocksync.queue.tasks", "from stocksync.queue.process import main"),
        ("stocksync.queue.process", "from stocksync.queue.wakeups import RedisWakeups"),
        ("stocksync.store.queries", "from stocksync.config import StockSyncConfig"),
        ("stocksync.web", "from stocksync import runtime\nfrom stocksync.web import pages"),
    ],
)
def test_an_arrow_the_right_way_is_let_through(module: str, text: str) -> None:
    assert wrong_arrows({module: text}) == []


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("stocksync.delivery.answers", "import redis"),
        ("stocksync.delivery.answers", "from peewee import PeeweeException"),
        ("stocksync.runtime", "from flask import Flask"),
        ("stocksync.cli", "import werkzeug.serving"),
        ("stocksync.runtime", "import web"),
        ("stocksync.orders.service", "from rq import Queue"),
        ("stocksync.orders.service", "def f():\n    import rq_scheduler"),
        ("stocksync.orders.whole_orders", "from peewee import PeeweeException"),
        ("stocksync.cli.stock", "from peewee import fn"),
        ("stocksync.store.queries", "import sqlalchemy"),
        ("stocksync.web.pages", "import peewee"),
        ("jobs.worker", "import sqlite3"),
    ],
)
def test_a_package_in_the_wrong_room_is_found(module: str, text: str) -> None:
    assert len(forbidden_packages({module: text})) == 1


@pytest.mark.parametrize(
    "text",
    [
        'QUERY = "SELECT sku FROM stock_sync_levels"',
        'def f(at):\n    """Counts."""\n    at.execute(f"SELECT\\n  COUNT(*)\\nFROM {table}")',
        'QUERY = "UPDATE " "stock_sync_orders SET due_at = NULL"',
        "from stocksync.store.database import Database, Statement",
    ],
)
def test_sql_outside_the_store_is_found(text: str) -> None:
    assert len(sql_outside_the_store({"stocksync.upkeep.cleanup": text})) == 1


@pytest.mark.parametrize(
    "text", ['"""One guarded UPDATE of x SET, then DELETE FROM it."""', 'SAY = "select one from the list"']
)
def test_words_about_sql_are_not_taken_for_it(text: str) -> None:
    assert sql_outside_the_store({"stocksync.upkeep.cleanup": text}) == []


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("stocksync.store.queries", 'X = "UPDATE pending_stock_operations SET status = 1"'),
        ("stocksync.store.queries", 'X = f"UPDATE stock_sync_orders SET {columns}"'),
        ("stocksync.store.queries", 'X = f"UPDATE {table} SET due_at = NULL"'),
        ("stocksync.store.inventory", 'X = "delete from stock_sync_orders"'),
        ("stocksync.store.deliveries", 'X = "INSERT INTO stock_sync_movements (id) VALUES (1)"'),
        ("stocksync.store.operations", 'X = "INSERT OR IGNORE INTO stock_sync_order_lines (id) VALUES (1)"'),
        ("stocksync.upkeep.cleanup", 'X = """\\n  DELETE\\n  FROM pending_stock_operations"""'),
        ("stocksync.store.queries", "from stocksync.store.models import Order\nOrder.update(due_at=None).execute()"),
        ("stocksync.store.queries", "from stocksync.store.models import Level as L\nlevel = L\nlevel.create(sku='A')"),
        ("stocksync.store.deliveries", "from stocksync.store.models import Movement\nMovement.insert_many([])"),
        ("stocksync.web.pages", "from stocksync.store import models\nmodels.PendingStockOperation.delete().execute()"),
    ],
)  # fmt: skip
def test_a_write_outside_its_one_writer_is_found(module: str, text: str) -> None:
    assert len(foreign_writes({module: text})) == 1


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("stocksync.store.deliveries", 'X = "UPDATE stock_sync_orders SET due_at = NULL"'),
        ("stocksync.store.inventory", 'X = "INSERT INTO stock_sync_levels (sku) VALUES (1)"'),
        ("stocksync.store.migrations.0002", 'X = "UPDATE stock_sync_orders SET due_at = NULL"'),
        ("stocksync.store.queries", "from stocksync.store.models import Order\nOrder.select()"),
        ("stocksync.runtime", "from stocksync.store.values import DEFAULT_WAREHOUSE\n{}.update({})"),
    ],
)
def test_a_write_by_its_own_writer_is_let_through(module: str, text: str) -> None:
    assert foreign_writes({module: text}) == []


@pytest.mark.parametrize(
    "text",
    [
        "open('here', 'w')",
        "import os; os.mkdir('here')",
        "import socket; socket.create_connection(('127.0.0.1', 9))",
        "import sqlite3; sqlite3.connect(':memory:')",
        "import subprocess; subprocess.run(['true'], env={'PATH': '/bin:/usr/bin'})",
    ],
)
def test_an_import_that_does_something_is_found(tmp_path: Path, text: str) -> None:
    source, empty = tmp_path / "source", tmp_path / "empty"
    source.mkdir()
    empty.mkdir()
    (source / "busy_module.py").write_text(text)

    assert done_by_importing(["busy_module"], source, empty)
