"""Real Redis, PostgreSQL and PgBouncer servers for the tests: found, started on free loopback ports, ended again."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from psycopg import sql

from stocksync.queue.embedded import die_with_parent
from tests.memory import quick_folder
from tests.server_programs import (
    find_pgbouncer,
    find_postgres,
    find_redis,
    running_as,
    unprivileged_account,
    within_reach,
)

_START_SECONDS, _STOP_SECONDS = 30.0, 10.0
_LOOPBACK = "127.0.0.1"

Result = TypeVar("Result")


def free_port() -> int:
    """A TCP port of the loopback address that nothing listens on just now."""
    with socket.socket() as probe:
        probe.bind((_LOOPBACK, 0))
        return int(probe.getsockname()[1])


def wait_until(
    predicate: Callable[[], Result], timeout: float = 10.0, message: str | Callable[[], object] = ""
) -> Result:
    """The first true answer of `predicate`, asked again and again for `timeout` seconds.

    Raises AssertionError with `message` (text, or what makes one at that time) when there is none.
    """
    deadline = time.monotonic() + timeout
    while True:
        if answer := predicate():
            return answer
        if time.monotonic() >= deadline:
            said = message() if callable(message) else message
            raise AssertionError(f"not within {timeout:g} s: {said or predicate}")
        time.sleep(0.02)


class RedisServer:
    """A redis-server of our own on one loopback port that stays the same over stops and starts. It keeps nothing."""

    def __init__(self, directory: Path, include: Path | None = None) -> None:
        """`include`: a file of more settings, which win over ours."""
        self._program = find_redis()
        self._more = {"--include": str(include)} if include else {}
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        """`redis://` URL of database 0."""
        return f"redis://{_LOOPBACK}:{self.port}/0"

    def start(self) -> None:
        """Return once it answers on `port`, empty. Does nothing when it runs."""
        if self._process is not None and self._process.poll() is None:
            return
        log = self._directory / "redis.log"
        options = {"--port": str(self.port), "--bind": _LOOPBACK, "--save": "", "--appendonly": "no"}
        options |= {"--dir": str(self._directory), "--logfile": str(log)} | self._more
        self._process = subprocess.Popen(
            [self._program, *(word for option in options.items() for word in option)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent(),  # noqa: PLW1509
        )
        wait_until(self._answers, message=lambda: f"Redis answers\n{log.read_text() if log.exists() else ''}")

    def stop(self) -> None:
        """End it in order; clients see their connections closed. Does nothing when it does not run."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash would."""
        self._end(signal.SIGKILL)

    def flush(self) -> None:
        """Empty all its databases."""
        if not self._command(b"FLUSHALL").startswith(b"+OK"):
            raise AssertionError(f"the Redis on port {self.port} refused FLUSHALL")

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            _end_process(process, number)

    def _answers(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise AssertionError(f"redis-server ended at once with exit code {self._process.returncode}")
        try:
            return self._command(b"PING").startswith(b"+PONG")
        except OSError:
            return False

    def _command(self, command: bytes) -> bytes:
        with socket.create_connection((_LOOPBACK, self.port), timeout=5) as connection:
            connection.sendall(command + b"\r\n")
            return connection.recv(64)


class PostgresServer:
    """A PostgreSQL of our own on a loopback port: user `postgres`, no password, nothing kept safe on disk."""

    def __init__(self, max_connections: int = 100, folder: Path | None = None, settings: str = "") -> None:
        """`folder`: for its files, else in memory; `settings`: lines of postgresql.conf, the last word."""
        self._max_connections, self._settings = max_connections, settings
        self._programs, self._account = find_postgres(), unprivileged_account()
        self._numbers = count(1)
        self._process: subprocess.Popen[bytes] | None = None
        # Not a folder of pytest's: those are closed to the account that PostgreSQL runs under.
        self._base = Path(tempfile.mkdtemp(prefix="stocksync-postgres-"))
        self._folder = Path(tempfile.mkdtemp(dir=folder)) if folder else quick_folder("stocksync-postgres-")
        self.port = free_port()

    def start(self) -> None:
        """Make a new cluster and return once it takes connections."""
        if self._account:
            for folder in (self._base, self._folder):
                os.chown(folder, self._account.pw_uid, self._account.pw_gid)
            self._programs = within_reach(self._programs, self._base, self._account)
        data = self._folder / "data"
        # Letters as a real server knows them, Cyrillic ones too; sorted by bytes, as SQLite does.
        letters = "C.UTF-8" if sys.platform.startswith("linux") else "en_US.UTF-8"
        options = ["--locale=C", f"--lc-ctype={letters}", "--encoding=UTF8", "--auth=trust"]
        made = subprocess.run(
            [self._programs / "initdb", *options, "--username=postgres", "--no-sync", f"--pgdata={data}"],
            **self._as_account(),
            capture_output=True,
            check=False,
            timeout=120,
        )
        if made.returncode:
            raise AssertionError(f"initdb failed:\n{made.stderr.decode(errors='replace')}")
        # Sockets are off: the folder's path may be too long for one, and loopback does.
        settings = f"""
            listen_addresses = '{_LOOPBACK}'
            port = {self.port}
            unix_socket_directories = ''
            max_connections = {self._max_connections}
            shared_buffers = 32MB
            fsync = off
            synchronous_commit = off
            full_page_writes = off
            max_wal_size = 64MB
            timezone = Asia/Kathmandu
            {self._settings}
        """  # a time zone that nobody expects, as somebody else's server may have
        with (data / "postgresql.conf").open("a") as file:
            file.write(re.sub(r"(?m)^ +", "", settings))
        with (self._base / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", data],
                **self._as_account(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent(signal.SIGINT),  # noqa: PLW1509 (it does nothing that needs a lock)
            )
        log_text = (self._base / "log").read_text
        wait_until(self._takes_connections, _START_SECONDS, lambda: f"PostgreSQL starts\n{log_text()}")

    def stop(self) -> None:
        """End it without waiting for its clients, and remove its files."""
        process, self._process = self._process, None
        if process is not None:
            _end_process(process, signal.SIGINT)
        for folder in (self._base, self._folder):
            shutil.rmtree(folder, ignore_errors=True)

    def url(self, database: str) -> str:
        """`postgresql://` URL of a database of this server."""
        return f"postgresql://postgres@{_LOOPBACK}:{self.port}/{database}"

    def create_database(self, template: str = "template0") -> str:
        """The name of a new database, `test_<n>`, a copy of `template` (which must have no connections)."""
        name = f"test_{next(self._numbers)}"
        self._execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        )
        return name

    def drop_database(self, name: str) -> None:
        """Remove the database, ending the connections to it."""
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True, connect_timeout=10) as connection:
            connection.execute(statement)

    def _takes_connections(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            log = (self._base / "log").read_text(errors="replace")
            raise AssertionError(f"postgres ended at once with exit code {self._process.returncode}\n{log}")
        try:
            psycopg.connect(self.url("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _as_account(self) -> dict[str, Any]:
        return running_as(self._account, self._base)


class PgBouncer:
    """A PgBouncer of our own before one PostgreSQL, on a loopback port that stays the same over stops and starts.

    It pools by transaction; `settings` come on top. All else is as the program has it by default.
    """

    def __init__(self, server: PostgresServer, **settings: object) -> None:
        self._program = find_pgbouncer()
        self._account = unprivileged_account()
        self._process: subprocess.Popen[bytes] | None = None
        self._base = Path(tempfile.mkdtemp(prefix="stocksync-pgbouncer-"))
        self.port = free_port()
        places = {"listen_addr": _LOOPBACK, "listen_port": self.port, "unix_socket_dir": ""}
        # After a failed login at the server it would refuse everybody for 15 s.
        usual = {"auth_type": "any", "pool_mode": "transaction", "server_login_retry": 1}
        lines = [f"{name} = {value}" for name, value in (places | usual | settings).items()]
        self._file = self._base / "pgbouncer.ini"
        self._file.write_text(
            f"[databases]\n* = host={_LOOPBACK} port={server.port} user=postgres\n[pgbouncer]\n"
            + "\n".join(lines)
        )
        if self._account:
            os.chown(self._base, self._account.pw_uid, self._account.pw_gid)

    def start(self) -> None:
        """Return once it listens. Does nothing when it runs."""
        if self._process is not None and self._process.poll() is None:
            return
        with (self._base / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, self._file],
                **running_as(self._account, self._base),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent(),  # noqa: PLW1509 (it does nothing that needs a lock)
            )
        log_text = (self._base / "log").read_text
        wait_until(self._listens, _START_SECONDS, lambda: f"PgBouncer starts\n{log_text()}")

    def kill(self) -> None:
        """End it as a crash would; its clients and its servers see their connections closed."""
        process, self._process = self._process, None
        if process is not None:
            _end_process(process, signal.SIGKILL)

    def stop(self) -> None:
        """End it and remove its files."""
        self.kill()
        shutil.rmtree(self._base, ignore_errors=True)

    def url(self, database: str) -> str:
        """`postgresql://` URL of a database of the server, through here."""
        return f"postgresql://postgres@{_LOOPBACK}:{self.port}/{database}"

    def _listens(self) -> bool:
        try:
            socket.create_connection((_LOOPBACK, self.port), timeout=2).close()
        except OSError:
            return False
        return True


def _end_process(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    process.send_signal(number)
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
