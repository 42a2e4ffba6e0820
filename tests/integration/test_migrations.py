"""Migrating: once, twice, several at once, and what is said to a schema that is behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from stocksync import StockSyncConfig
from stocksync.errors import SchemaBehind
from stocksync.runtime import Runtime
from stocksync.store.database import open_database
from stocksync.store.migrate import migrate, pending
from tests.processes import ROOT

pytestmark = pytest.mark.starts_empty
APPLIED = ["0001_initial"]


@pytest.mark.pgbouncer
def test_a_second_run_has_nothing_to_do(database_url: str) -> None:
    database = open_database(database_url)

    assert migrate(database) == APPLIED
    assert migrate(database) == []
    assert pending(database) == []
    database.close_all()


def test_a_schema_that_is_behind_is_refused_with_what_to_do(database_url: str) -> None:
    runtime = Runtime(StockSyncConfig.load({"DATABASE_URL": database_url}))

    with pytest.raises(SchemaBehind, match="stocksync migrate"):
        runtime.require_schema()
    runtime.close()


@pytest.mark.pgbouncer
def test_several_that_migrate_at_once_apply_everything_once(database_url: str) -> None:
    command = [sys.executable, "-m", "stocksync", "migrate", "--json"]
    environment = {"DATABASE_URL": database_url, "PYTHONPATH": str(ROOT)}
    started = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    said = [process.communicate(timeout=60) for process in started]

    assert [process.returncode for process in started] == [0] * 4, said
    assert sorted(json.loads(out)["applied"] for out, _ in said) == [[], [], [], APPLIED]


def test_however_many_open_a_new_sqlite_file_at_once_all_succeed(tmp_path: Path) -> None:
    """Of two that switch one file to WAL, SQLite turns one away without waiting."""
    openers = [sys.executable, "-m", "tests.openers", str(tmp_path)]
    said = subprocess.run(openers, cwd=ROOT, capture_output=True, text=True, check=False, timeout=90)

    assert said.stderr == ""
    files = [path.read_bytes() for path in tmp_path.glob("*.sqlite3")]
    assert {file[18:20] for file in files} == {b"\2\2"}, "in WAL mode, see SQLite's file format"
