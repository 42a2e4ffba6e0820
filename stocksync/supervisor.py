"""Runs the Procfile's processes side by side: starts them, names their output, restarts them, ends them together."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import selectors
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TextIO

from stocksync.domain.errors import StockSyncError
from stocksync.embedded import die_with_parent

_FIRST_DELAY, _LONGEST_DELAY = 0.5, 10.0
_LIFE_THAT_COUNTS_AS_WELL = 30.0
_LOOK_SECONDS, _KILL_SECONDS = 0.1, 5.0
_CHUNK = 65536
_COLOURS = (36, 33, 32, 35, 34, 31)
_OURSELVES = "system"
_LINE = re.compile(r"(?P<name>[A-Za-z0-9_-]+):\s*(?P<command>\S.*)")


class SupervisorError(StockSyncError):
    """The processes can't be started. The message says why, and what to do."""


class ProcfileInvalid(SupervisorError):
    """The Procfile is missing, or a line of it can't be read."""


class AlreadyRunning(SupervisorError):
    """Another process holds the pid file."""


class PortOccupied(SupervisorError):
    """The port can't be listened on."""


def read_procfile(path: Path, skip: Collection[str] = ("release",)) -> dict[str, str]:
    """Process names and their shell commands, in the file's order, without those in `skip`.

    Raises ProcfileInvalid: no such file, a line that is not `name: command`, a name given twice.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ProcfileInvalid(f"{path} can't be read: {error.strerror}; run this where it is") from error
    commands: dict[str, str] = {}
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise ProcfileInvalid(f"{path}, line {number} is not `name: command`: {line!r}")
        if match["name"] in commands:
            raise ProcfileInvalid(f"{path}, line {number}: there is a process {match['name']} already")
        commands[match["name"]] = match["command"]
    return {name: command for name, command in commands.items() if name not in skip}


def check_port_free(host: str, port: int) -> None:
    """Return if a server could listen on TCP `port` of `host`; raises PortOccupied, which says why, if not."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            # As servers do it, so that the connections of one that has just ended do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        reasons = {errno.EADDRINUSE: "is taken", errno.EACCES: "is not allowed to this user"}
        reason = reasons.get(error.errno or 0, f"can't be listened on ({error.strerror or error})")
        raise PortOccupied(f"port {port} on {host} {reason}; choose another with --port") from error


class PidFile:
    """Lets one process at a time hold `path`, which shows its id meanwhile and is empty afterwards.

    What counts is a lock that the kernel lifts when its holder ends. So the file of a process that was killed
    is taken over, whoever may have its id by now.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._held = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Raises AlreadyRunning, naming the holder's id; SupervisorError when the file can't be written."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = self._held.enter_context(self.path.open("a+", errors="replace"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            pid = file.read(20).strip()
            self._held.close()
            raise AlreadyRunning(
                f"already running as process {pid} (its pid file is {self.path}): stop it first, kill {pid}"
            ) from error
        except OSError as error:
            raise SupervisorError(f"{self.path} can't be written: {error.strerror}") from error
        # Emptied, not removed: a name removed here could be one that the next process has just locked.
        self._held.callback(file.truncate, 0)
        file.truncate(0)
        print(os.getpid(), file=file, flush=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()


@dataclass
class _Child:
    name: str
    command: str
    colour: int
    process: subprocess.Popen[bytes] | None = None  # None while it waits for its next start
    started_at: float = 0.0
    start_at: float = 0.0
    failures: int = 0
    unfinished: bytes = b""

    def lives(self) -> bool:
        """Whether the process, or another of its group, is still there."""
        return self.process is not None and (self.process.poll() is None or _group_lives(self.process.pid))


class Supervisor:
    """Keeps shell commands running, each as a process group of its own, until it is asked to stop.

    One that ends is started again after 0.5 s, doubling to 10 s; after a life of 30 s from 0.5 s again.
    """

    def __init__(
        self,
        commands: Mapping[str, str],
        env: Mapping[str, str] | None = None,
        stop_grace: float = 15.0,
        out: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`env` None: our own. `stop_grace`: seconds from SIGTERM to SIGKILL. `out` None: standard output."""
        self._children = [
            _Child(name, command, _COLOURS[number % len(_COLOURS)], start_at=clock())
            for number, (name, command) in enumerate(commands.items())
        ]
        base = os.environ if env is None else env
        # This Python's folder comes first, so that `python` and `gunicorn` are those of its environment.
        path = os.pathsep.join((os.path.dirname(sys.executable), base.get("PATH", os.defpath)))
        self._env = {**base, "PATH": path, "PYTHONUNBUFFERED": "1"}
        self._stop_grace = stop_grace
        self._out = sys.stdout if out is None else out
        self._clock = clock
        self._width = max(len(name) for name in (*commands, _OURSELVES))
        self._coloured = self._out.isatty() and "NO_COLOR" not in os.environ
        self._selector = selectors.DefaultSelector()
        self._stops_asked = 0

    def request_stop(self) -> None:
        """Make `run` end everything and return; from any thread or signal handler. Asked twice: with SIGKILL."""
        self._stops_asked += 1

    def run(self) -> int:
        """Start everything; 0 after `request_stop` or, in the main thread, SIGTERM, SIGINT or SIGHUP. Runs once."""
        with contextlib.ExitStack() as at_end:
            at_end.callback(self._selector.close)
            if threading.current_thread() is threading.main_thread():
                for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                    before = signal.signal(number, lambda *_: self.request_stop())
                    at_end.callback(signal.signal, number, before)
            # Also the way out of an error: no process outlives us.
            at_end.callback(self._end_all, signal.SIGKILL, _KILL_SECONDS)
            while not self._stops_asked:
                for child in self._children:
                    if child.process is None and child.start_at <= self._clock():
                        self._start(child)
                self._pass_on_output()
                for child in self._children:
                    if child.process is not None and child.process.poll() is not None:
                        self._plan_restart(child, child.process)
            self._end_all(signal.SIGTERM, self._stop_grace)
        return 0

    def _start(self, child: _Child) -> None:
        child.started_at = self._clock()
        child.process = process = subprocess.Popen(
            ["/bin/sh", "-c", _as_one_process(child.command)],
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent(),  # noqa: PLW1509 (it does nothing that needs a lock)
        )
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        self._selector.register(process.stdout, selectors.EVENT_READ, child)
        self._say(_OURSELVES, f"{child.name} started, process {process.pid}")

    def _plan_restart(self, child: _Child, process: subprocess.Popen[bytes]) -> None:
        # What it leaves running would hold its port against its successor.
        _signal_group(process.pid, signal.SIGKILL)
        lived = self._clock() - child.started_at
        child.failures = 0 if lived >= _LIFE_THAT_COUNTS_AS_WELL else child.failures
        delay = min(_FIRST_DELAY * 2.0 ** min(child.failures, 10), _LONGEST_DELAY)
        child.failures += 1
        child.start_at = self._clock() + delay
        self._forget(child, process)
        code = process.returncode
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        self._say(_OURSELVES, f"{child.name} {how}; starting it again in {delay:g} s")

    def _end_all(self, number: signal.Signals, seconds: float) -> None:
        """Signal every group that lives and wait until all are gone, `seconds` at most."""
        living = [child for child in self._children if child.lives()]
        if living:
            names = ", ".join(child.name for child in living)
            self._say(_OURSELVES, f"{'stopping' if number == signal.SIGTERM else 'killing'} {names}")
        for child in living:
            if child.process is not None:
                _signal_group(child.process.pid, number)
        deadline = self._clock() + seconds
        while any(child.lives() for child in living) and self._clock() < deadline:
            if number == signal.SIGTERM and self._stops_asked > 1:
                break
            self._pass_on_output()
        for child in self._children:
            if child.process is not None and not child.lives():
                self._forget(child, child.process)

    def _forget(self, child: _Child, process: subprocess.Popen[bytes]) -> None:
        # A pipe holds 64 KiB, rarely 1 MiB; the bound is for one that a stranger goes on filling.
        for _ in range(16):
            if self._read(child) <= 0:
                break
        if process.stdout:
            with contextlib.suppress(KeyError):
                self._selector.unregister(process.stdout)
            process.stdout.close()
        child.process = None

    def _pass_on_output(self) -> None:
        for key, _ in self._selector.select(_LOOK_SECONDS):
            if self._read(key.data) == 0:
                self._selector.unregister(key.fileobj)

    def _read(self, child: _Child) -> int:
        """Pass on what a child has written: the count of bytes, 0 at its end, -1 when there is nothing yet."""
        if child.process is None or child.process.stdout is None:
            return 0
        try:
            data = os.read(child.process.stdout.fileno(), _CHUNK)
        except BlockingIOError:
            return -1
        *lines, child.unfinished = (child.unfinished + data).split(b"\n")
        if child.unfinished and (not data or len(child.unfinished) > _CHUNK):
            lines.append(child.unfinished)
            child.unfinished = b""
        for line in lines:
            self._say(child.name, line.decode("utf-8", "replace").rstrip("\r"), child.colour)
        return len(data)

    def _say(self, name: str, text: str, colour: int = 0) -> None:
        prefix = f"{name:<{self._width}} |"
        if self._coloured:
            prefix = f"\033[{colour}m{prefix}\033[0m"
        try:
            print(prefix, text, file=self._out, flush=True)
        except (OSError, ValueError):
            # Nobody reads any more: the terminal is gone, or `up | head` has seen enough.
            self.request_stop()


def _as_one_process(command: str) -> str:
    """`command` so that the shell becomes it where it is a single command, and is no process beside it."""
    try:
        words = list(shlex.shlex(command, posix=True, punctuation_chars=True))
    except ValueError:
        return command
    if any(set(word) <= set("();<>|&") for word in words):
        return command
    # A command may start with assignments, which `exec` does not know but `env` does.
    return f"exec env {command}"


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _group_lives(pid: int) -> bool:
    """Whether any process of the group is left, its leader having been waited for."""
    with contextlib.suppress(ChildProcessError):
        # As process 1 of a container we inherit grandchildren, and must wait for them too.
        while os.waitpid(-pid, os.WNOHANG)[0]:
            pass
    try:
        os.killpg(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True
