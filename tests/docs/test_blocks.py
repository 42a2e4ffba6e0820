"""Every shell and Python block of the documents does what the page says, page by page."""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stocksync.sandbox import Sandbox
from tests.docs.pages import MISNAMED, ROOT, RUN, Page, markdown_files, read_page, unreadable
from tests.docs.player import Player
from tests.server_programs import find_postgres, find_redis

NOT_YET: tuple[str, ...] = ()
"""Pages whose blocks do not follow the convention yet. To be emptied."""

PAGES = markdown_files()
_RUN = (*RUN, *(name for name, meant in MISNAMED.items() if name and meant in RUN))
PAGES_WITH_BLOCKS = [
    name
    for name in PAGES
    if any(f"```{language}\n" in (ROOT / name).read_text(encoding="utf-8") for language in _RUN)
]
_CLIENTS = ("redis-cli", "psql", "pg_dump", "pg_restore", "createdb", "dropdb")
"""Stubs, but not where the real one lies beside a server that the page is run with."""


def page_of(name: str) -> Page:
    return read_page(name, (ROOT / name).read_text(encoding="utf-8"))


@pytest.fixture
def alone() -> Iterator[None]:
    """One page at a time on this machine: pages name fixed ports, as a reader has them."""
    with (Path(tempfile.gettempdir()) / "stocksync-documents.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    """What a page finds in its environment: an empty Redis, a new database, a running microservice."""
    with Sandbox("sandbox") as sandbox:
        yield {
            "REDIS_URL": redis_url,
            "DATABASE_URL": f"sqlite:///{tmp_path / 'database.sqlite3'}",
            "ALLEGRO_MICROSERVICE_BASE_URL": sandbox.url,
            "ALLEGRO_MICROSERVICE_JWT_TOKEN": "sandbox",
        }


@pytest.mark.parametrize("name", PAGES)
def test_a_page_follows_the_convention(name: str) -> None:
    if name not in NOT_YET:
        assert list(unreadable(page_of(name))) == []


@pytest.mark.pages
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.xdist_group("pages")  # one runner for all: the others would only wait for their turn
@pytest.mark.parametrize("name", [name for name in PAGES_WITH_BLOCKS if name not in NOT_YET])
def test_what_a_page_says_works(
    name: str, settings: dict[str, str], alone: None, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    page, places = page_of(name), [find_redis().parent]
    if page.database == "postgresql":
        server = request.getfixturevalue("postgres_server")
        settings["DATABASE_URL"] = server.url(server.create_database())
        places.append(find_postgres())
    real = {program for program in _CLIENTS for place in places if (place / program).exists()}
    settings["PATH"] = ":".join(map(str, [*places, os.environ["PATH"]]))
    with Player(page, tmp_path / "page", settings, frozenset(real)) as player:
        player.play()


def test_a_page_that_is_not_ready_is_there() -> None:
    assert set(NOT_YET) <= set(PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_a_reader_sees_the_name_of_every_file_that_is_to_be_saved(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    for comment in re.finditer(r"<!-- file: (.+?) -->", text):
        said = text[: comment.start()].rpartition("\n```")[2]  # since the last block
        assert f"{comment[1]}`" in said, f"{comment[1]}: its name stands only in a comment"
