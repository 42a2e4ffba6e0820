"""A shop with its page, unless a module has its own. SQLite files lie in memory, as PostgreSQL's do."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from stocksync.web import create_app
from tests.memory import quick_folder
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
def page(shop: Shop) -> FlaskClient:
    """A browser on the machine that the page runs on."""
    client = create_app(shop.runtime).test_client()
    client.environ_base["HTTP_ACCEPT_LANGUAGE"] = "en"
    return client
