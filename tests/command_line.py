"""A command line to test with: a folder of its own, and nothing in the environment but what a test puts there."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stocksync import runtime
from tests.processes import ROOT, Said, run_command
from tests.shop import Shop, open_shop

HEADER = "sku,warehouse,quantity\n"
# All others run on PostgreSQL too.
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


class CommandLine:
    """Runs commands in a folder of their own, with nothing in the environment but what a test puts there."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self.folder = folder
        self.environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "DATABASE_URL": database_url}

    def start(self, command: str) -> subprocess.Popen[str]:
        """A process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "stocksync", *shlex.split(command)],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )

    def run(self, command: str, *, stdin: str = "", **settings: str) -> Said:
        """In this process, with a runtime of its own."""
        self.environment |= settings
        return run_command(shlex.split(command), self.folder, self.environment, stdin)

    def write(self, name: str, content: str | bytes) -> None:
        (self.folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def stocked(database_url: str) -> Iterator[Shop]:
    """A view of the same database from inside: with a schema, ten of A and five of B."""
    with open_shop(database_url) as opened:
        opened.clock.now = datetime.now(UTC)  # the commands have no other clock
        opened.stock(A=10, B=5)
        runtime.use(opened.runtime)
        yield opened
    runtime.use(None)


def on_hand(shop: Shop) -> tuple[int, int]:
    return shop.on_hand("A"), shop.on_hand("B")


def file_of(*orders: object) -> str:
    return "".join(f"{order if isinstance(order, str) else json.dumps(order)}\n" for order in orders)
