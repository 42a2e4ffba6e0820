"""SQLite files of these tests lie in memory, as PostgreSQL's do: nothing here is to outlive a crash of the machine."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.memory import quick_folder


@pytest.fixture
def sqlite_url(sqlite_url: str) -> Iterator[str]:
    """The file of everywhere else, moved."""
    made, folder = Path(sqlite_url.removeprefix("sqlite:///")), quick_folder("stocksync-sqlite-")
    if made.exists():
        shutil.move(made, folder)
    yield f"sqlite:///{folder / made.name}"
    shutil.rmtree(folder, ignore_errors=True)
