"""What every measurement stands on: servers, databases filled beforehand, child processes, rounds in turn."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.report import Figure
from stocksync.queue.embedded import EmbeddedServerError, die_with_parent
from tests.server_programs import ServerMissing
from tests.servers import PostgresServer, RedisServer

ROOT = Path(__file__).parent.parent
ROUND_SECONDS = 60.0
"""No round of a contender lasts longer."""

# The tests' server keeps nothing safe; here a commit must cost what it costs.
_DURABLE = ("fsync = on", "synchronous_commit = on", "full_page_writes = on")


class Missing(Exception):
    """Something that a benchmark needs is not on this machine."""


@dataclass
class Bench:
    """One run: a folder, the servers as they are asked for, and how much is to be measured.

    Args:
        orders: that each contender beside peers delivers; 0: as many as usual.
        peers: names of those to measure; empty: all.
        on_disk: PostgreSQL keeps its files beside the folder, else in memory where there is room.
        postgres_settings: lines of postgresql.conf.
    """

    folder: Path
    rounds: int = 5
    quick: bool = False
    orders: int = 0
    peers: Sequence[str] = ()
    on_disk: bool = False
    postgres_settings: str = ""
    _processes: list[subprocess.Popen[str]] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    @cached_property
    def redis(self) -> RedisServer:
        """A running Redis. Raises Missing."""
        try:
            server = RedisServer(self.folder)
            server.start()
        except (ServerMissing, EmbeddedServerError) as error:
            raise Missing(str(error)) from error
        return server

    @cached_property
    def postgres(self) -> PostgresServer:
        """A running PostgreSQL with durable commits. Raises Missing."""
        try:
            # A peer's thread has a connection of its own.
            # On disk beside the folder: into it goes only who made it, and PostgreSQL is somebody else.
            server = PostgresServer(300, self.folder.parent if self.on_disk else None, self.postgres_settings)
        except ServerMissing as error:
            raise Missing(str(error)) from error
        self.__dict__["_postgres_started"] = server
        server.start()
        with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
            for setting in _DURABLE:
                connection.execute(f"ALTER SYSTEM SET {setting}")
            connection.execute("SELECT pg_reload_conf()")
        return server

    def count(self, usual: int, quick: int) -> int:
        """How many orders a contender beside peers delivers."""
        return self.orders or (quick if self.quick else usual)

    def databases(self) -> dict[str, str]:
        """Kind of database -> empty, or why it can't be had."""
        try:
            _ = self.postgres
        except Missing as error:
            return {"SQLite": "", "PostgreSQL": str(error)}
        return {"SQLite": "", "PostgreSQL": ""}

    @contextmanager
    def database(self, kind: str, template: str | None = None) -> Iterator[str]:
        """URL of a new database, a copy of `template` (an URL from here, with no connection to it)."""
        if kind == "SQLite":
            file = self.folder / f"shop-{next(self._numbers)}.sqlite3"
            if template:
                shutil.copyfile(template.removeprefix("sqlite:///"), file)
            try:
                yield f"sqlite:///{file}"
            finally:
                for path in self.folder.glob(f"{file.name}*"):
                    path.unlink()
            return
        name = self.postgres.create_database(*([template.rsplit("/", 1)[1]] if template else []))
        try:
            yield self.postgres.url(name)
        finally:
            self.postgres.drop_database(name)

    @contextmanager
    def stub(
        self, latency: float = 0.0, note: str = "", journal: Path | None = None
    ) -> Iterator[StubProcess]:
        """The remote in a process of its own; `note`, `journal`: see the stub."""
        kept = ["--journal", str(journal)] if journal else []
        process = self.start("benchmarks.stub", "--latency", str(latency), "--note", note, *kept)
        assert process.stdout is not None
        try:
            yield StubProcess(int(process.stdout.readline()))
        finally:
            self.end(process)

    def start(
        self, *words: str, environment: Mapping[str, str] | None = None, log: Path | None = None
    ) -> subprocess.Popen[str]:
        """`python -m words...` as a child; stdout is ours unless it goes to `log`."""
        inherited = {
            name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")
        }
        with (log or Path(os.devnull)).open("w") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", *words],
                env=inherited | {"PYTHONPATH": str(ROOT)} | dict(environment or {}),
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=out if log else subprocess.PIPE,
                stderr=subprocess.STDOUT if log else None,
                text=True,
                preexec_fn=die_with_parent(),  # noqa: PLW1509 (it does nothing that needs a lock)
            )
        self._processes.append(process)
        return process

    def run(self, *words: str, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
        """A child that works and prints one JSON object last."""
        process = self.start(*words, environment=environment)
        out, _ = process.communicate(timeout=2 * ROUND_SECONDS)
        if process.returncode:
            raise RuntimeError(f"{' '.join(words)} ended with exit code {process.returncode}")
        answer: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
        return answer

    def end(self, process: subprocess.Popen[str]) -> None:
        """SIGTERM, then SIGKILL after a while."""
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def close(self) -> None:
        """End what was started."""
        for process in self._processes:
            self.end(process)
        if "redis" in self.__dict__:
            self.redis.stop()
        if "_postgres_started" in self.__dict__:
            self.__dict__["_postgres_started"].stop()

    def in_turn(
        self, unit: str, contenders: Mapping[str, Callable[[], float]], failed: list[str] | None = None
    ) -> dict[str, Figure]:
        """Every contender once a round, A B C A B C.

        With `failed`, one that fails is left out from then on, and its fault is added there.
        """
        values: dict[str, list[float]] = {name: [] for name in contenders}
        for number in range(self.rounds):
            for name, measure in contenders.items():
                if name not in values:
                    continue
                try:
                    values[name].append(measure())
                except (RuntimeError, TimeoutError, subprocess.TimeoutExpired) as error:
                    if failed is None:
                        raise
                    failed.append(f"{name}: {error}")
                    del values[name]
                    continue
                said = f"  round {number + 1}/{self.rounds}  {name}: {values[name][-1]:,.4g} {unit}"
                print(said, file=sys.stderr, flush=True)
        return {name: Figure(name, unit, measured) for name, measured in values.items()}


@dataclass(frozen=True)
class StubProcess:
    """The remote as its users see it."""

    port: int

    @property
    def url(self) -> str:
        """Its base."""
        return f"http://127.0.0.1:{self.port}"

    def stats(self, *, reset: bool = False) -> dict[str, Any]:
        """What it saw; with `reset` it forgets that (and answers with nothing seen)."""
        return self._get("/reset" if reset else "/stats")

    def arrivals(self) -> dict[str, float]:
        """When it heard first of each order that it notes."""
        return self._get("/arrivals")

    def _get(self, path: str) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
            return answer
        finally:
            connection.close()


def wait_for(predicate: Callable[[], bool], seconds: float = ROUND_SECONDS, pause: float = 0.01) -> None:
    """Ask until it is so. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not predicate():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s")
        time.sleep(pause)
