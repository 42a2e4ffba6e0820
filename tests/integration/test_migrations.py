"""Several that migrate at once, and what is said to a schema that is behind."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stocksync import StockSyncConfig
from stocksync.errors import SchemaBehind, TablesMissing
from stocksync.runtime import Runtime
from stocksync.store.context import Wakeups
from stocksync.store.database import open_database
from stocksync.store.migrate import migrate
from tests.processes import ROOT

pytestmark = pytest.mark.starts_empty
APPLIED = sorted(path.stem for path in (ROOT / "stocksync/store/migrations").glob("*.py"))


def test_a_schema_that_is_behind_is_refused_with_what_to_do(database_url: str) -> None:
    runtime = Runtime(StockSyncConfig.load({"DATABASE_URL": database_url}))

    with pytest.raises(SchemaBehind, match="stocksync migrate"):
        runtime.require_schema()
    runtime.close()


@pytest.mark.parametrize(
    "call",
    [
        lambda runtime: runtime.inventory.on_hand("A", "Ирина"),
        lambda runtime: runtime.inventory.set_on_hand({"A": 1}, "Ирина"),
        lambda runtime: runtime.service.sync_stock_deduction("seller", "order", "A", 1),
        lambda runtime: runtime.queries.lanes(),
    ],
    ids=["read", "write", "record", "query"],
)
def test_a_call_before_the_first_migration_says_what_to_do(
    database_url: str, call: Callable[[Runtime], object]
) -> None:
    runtime = Runtime(StockSyncConfig.load({"DATABASE_URL": database_url}), wakeups=Wakeups())

    with pytest.raises(TablesMissing, match="python -m stocksync migrate") as missing:
        call(runtime)

    assert missing.value.database in database_url
    runtime.close()


@pytest.mark.pgbouncer
def test_several_that_migrate_at_once_apply_everything_once(database_url: str) -> None:
    migrate_together = [sys.executable, "-m", "tests.openers", database_url]
    said = subprocess.run(migrate_together, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)

    assert said.stderr == ""
    assert sorted(map(json.loads, said.stdout.splitlines())) == [[], [], [], APPLIED]


def test_however_many_open_a_new_sqlite_file_at_once_all_succeed(tmp_path: Path) -> None:
    """Of two that switch one file to WAL, SQLite turns one away without waiting."""
    openers = [sys.executable, "-m", "tests.openers", str(tmp_path)]
    said = subprocess.run(openers, cwd=ROOT, capture_output=True, text=True, check=False, timeout=90)

    assert said.stderr == ""
    files = [path.read_bytes() for path in tmp_path.glob("*.sqlite3")]
    assert {file[18:20] for file in files} == {b"\2\2"}, "in WAL mode, see SQLite's file format"


def test_a_folder_that_is_made_for_sqlite_is_closed_to_others(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path}/new/stocksync.db")
    migrate(database)
    database.close_all()
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
