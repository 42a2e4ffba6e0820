"""Servers that the drill may hurt: a PostgreSQL that comes back with its data, a Redis with a password, a small disk."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from stocksync.credentials import hash_key, hash_password
from stocksync.queue.embedded import die_with_parent
from tests.servers import PostgresServer, RedisServer, wait_until

_MEGABYTE = 2**20
# The tests' server keeps nothing safe; here what was committed must be there after a crash.
_DURABLE = """
fsync = on
synchronous_commit = on
full_page_writes = on
listen_addresses = '{addresses}'
log_connections = on
"""


@dataclass(frozen=True)
class Secrets:
    """What no log may hold. Made anew for every drill."""

    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    redis: str = field(default_factory=lambda: secrets.token_urlsafe(18))
    database: str = field(default_factory=lambda: secrets.token_urlsafe(18))
    api_key: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    secret_key: str = field(default_factory=lambda: secrets.token_hex(24))
    password: str = field(default_factory=lambda: secrets.token_urlsafe(12))

    def named(self) -> dict[str, str]:
        """Name -> what is searched for."""
        return dict(vars(self))

    def settings(self) -> dict[str, str]:
        """Those that are settings of their own."""
        return {
            "ALLEGRO_MICROSERVICE_JWT_TOKEN": self.token,
            "STOCK_SYNC_API_KEYS": f"drill:operator:{hash_key(self.api_key)}",
            "STOCK_SYNC_USERS": f"anna:operator:{hash_password(self.password)}",
            "STOCK_SYNC_SECRET_KEY": self.secret_key,
        }


class SmallDisk:
    """A folder on a tmpfs of its own, inside a `with`, that can be filled. `why_not`: it is an ordinary folder instead."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.folder, self._megabytes = folder, megabytes
        self.why_not = ""

    def __enter__(self) -> SmallDisk:
        self.folder.mkdir(parents=True, exist_ok=True)
        size = f"size={self._megabytes}m"
        try:
            command = ["mount", "-t", "tmpfs", "-o", size, "stocksync-drill", str(self.folder)]
            mounted = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        except OSError as error:
            self.why_not = f"a small disk can't be mounted here: {error}"
        else:
            if mounted.returncode:
                self.why_not = f"a small disk can't be mounted here: {mounted.stderr.strip()}"
        return self

    def __exit__(self, *_: object) -> None:
        if not self.why_not:
            # Lazily: whoever still has a file open does not keep it from going.
            subprocess.run(["umount", "-l", self.folder], capture_output=True, timeout=10, check=False)

    @contextmanager
    def full(self) -> Iterator[None]:
        """Not a byte is free."""
        ballast = self.folder / "ballast"
        with ballast.open("wb") as file:
            at, step = 0, _MEGABYTE
            while step >= 1024:
                try:
                    os.posix_fallocate(file.fileno(), at, step)
                    at += step
                except OSError:
                    step //= 2
        try:
            yield
        finally:
            ballast.unlink()


class DrillPostgres(PostgresServer):
    """On a small disk, durable; it can be ended in several ways and started again with what it held."""

    def __init__(self, megabytes: int) -> None:
        super().__init__(max_connections=200)
        self.disk = SmallDisk(self._folder, megabytes)

    @property
    def log(self) -> Path:
        """What it says."""
        return self._base / "log"

    def open(self, addresses: str, network: str) -> None:
        """Start it for good: durable, listening at `addresses`, trusting `network` too."""
        self.disk.__enter__()
        self.start()
        data = self._folder / "data"
        with (data / "postgresql.conf").open("a") as file:
            file.write(_DURABLE.format(addresses=addresses))
        with (data / "pg_hba.conf").open("a") as file:
            file.write(f"host all all {network} trust\n")
        self.end(signal.SIGINT)
        self.revive()

    def end(self, number: signal.Signals) -> None:
        """SIGINT: in order; SIGQUIT: at once, as a crash."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def revive(self) -> None:
        """Start it with the data that is there, unless it runs; return once it takes connections."""
        wait_until(self._revived, 60.0, lambda: self.log.read_text(errors="replace")[-2000:])

    def _revived(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    [self._programs / "postgres", "-D", self._folder / "data"],
                    **self._as_account(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    preexec_fn=die_with_parent(signal.SIGINT),  # noqa: PLW1509 (it does nothing that needs a lock)
                )
        try:
            return self._takes_connections()
        except AssertionError:
            return False  # it ended at once, and is started again

    def execute(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        """One statement as the superuser, past PgBouncer."""
        with psycopg.connect(self.url("postgres"), autocommit=True, connect_timeout=5) as connection:
            found = connection.execute(statement, values or None)
            return found.fetchall() if found.description else []

    def press(self) -> None:
        """Have it need room for its write-ahead log, until it has none: it ends in a panic, as PostgreSQL does."""
        with contextlib.suppress(psycopg.Error):
            self.execute(
                "SELECT pg_logical_emit_message(true, 'drill', repeat('x', 1000000)) FROM generate_series(1, 1000)"
            )

    def stop(self) -> None:
        """End it and remove its files."""
        process, self._process = self._process, None
        if process is not None:
            self._process = process
            self.end(signal.SIGINT)
        self.disk.__exit__()
        super().stop()


class DrillRedis(RedisServer):
    """With a user who has a password, for all but the drill itself."""

    def __init__(self, folder: Path, settings: Path, password: str, addresses: str) -> None:
        """`settings`: a file to write the password to, out of the folder whose files are searched."""
        settings.write_text(
            f"user drill on >{password} ~* &* +@all\nprotected-mode no\nbind {addresses.replace(',', ' ')}\n"
        )
        super().__init__(folder, settings)

    def limit(self, memory: str) -> None:
        """`maxmemory`, which refuses whatever needs more; 0: none."""
        for command in (b"CONFIG SET maxmemory-policy noeviction", f"CONFIG SET maxmemory {memory}".encode()):
            if not self._command(command).startswith(b"+OK"):
                raise AssertionError(f"Redis refused {command.decode()}")
