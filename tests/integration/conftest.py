"""A shop with its page, or as processes, unless a module has its own. SQLite files lie in memory, as PostgreSQL's do."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from stocksync.sandbox import Sandbox
from stocksync.web import create_app
from tests.memory import quick_folder
from tests.processes import Processes
from tests.quick_processes import QUICK
from tests.shop import Shop, open_shop


@pytest.fixture
def sqlite_url(sqlite_url: str) -> Iterator[str]:
    """The file of everywhere else, moved."""
    made, folder = Path(sqlite_url.removeprefix("sqlite:///")), quick_folder("stocksync-sqlite-")
    if made.exists():
        shutil.move(made, folder)
    yield f"sqlite:///{folder / made.name}"
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def shop(database_url: str) -> Iterator[Shop]:
    with open_shop(database_url) as opened:
        yield opened


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(token="sandbox") as running:
        yield running


@pytest.fixture
def quick_shop(tmp_path: Path, database_url: str, redis_url: str, sandbox: Sandbox) -> Iterator[Processes]:
    """Whose processes have short intervals."""
    with Processes(tmp_path, database_url, redis_url, sandbox, **QUICK) as processes:
        processes.command("stock", "import", "-", text="sku,warehouse,quantity\nA,Ирина,100000\n")
        yield processes


@pytest.fixture
def page(shop: Shop) -> FlaskClient:
    """A browser on the machine that the page runs on."""
    client = create_app(shop.runtime).test_client()
    client.environ_base["HTTP_ACCEPT_LANGUAGE"] = "en"
    return client
