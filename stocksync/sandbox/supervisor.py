"""Runs the Procfile's processes side by side: checks before the start, names their output, restarts and ends them."""

import contextlib
import errno
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Self, TextIO

import click

from stocksync.errors import StockSyncError
from stocksync.queue.embedded import die_with_parent

_RESTART_SECONDS, _KILL_SECONDS, _LAST_OUTPUT_SECONDS = 1.0, 5.0, 2.0
_POLL_SECONDS = 0.1
_COLOURS = ("cyan", "yellow", "green", "magenta", "blue", "red")


class CannotStart(StockSyncError):
    """The processes can't be started. The message says why, and what to do."""


def read_procfile(path: Path) -> dict[str, str]:
    """Process names and their shell commands, in the file's order, without `release`.

    Raises CannotStart: a line that is not `name: command`, a name given twice; OSError: the file can't be read.
    """
    commands: dict[str, str] = {}
    for number, line in enumerate(map(str.strip, path.read_text(encoding="utf-8").splitlines()), 1):
        if line and not line.startswith("#"):
            match = re.fullmatch(r"([A-Za-z0-9_-]+):\s*(\S.*)", line)
            if match is None:
                raise CannotStart(f"{path}, line {number} is not `name: command`: {line!r}")
            if match[1] in commands:
                raise CannotStart(f"{path}, line {number}: there is a process {match[1]} already")
            commands[match[1]] = match[2]
    commands.pop("release", None)
    return commands


def free_port(host: str, port: int = 0) -> int:
    """`port` of `host` if a server could listen on it; 0 finds one. Raises CannotStart, which says why not."""
    try:
        # It sets SO_REUSEADDR, as servers do, so that the connections of one that has just ended do not count.
        with socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        ) as server:
            return int(server.getsockname()[1])
    except OSError as error:
        trouble = {errno.EADDRINUSE: "is taken", errno.EACCES: "is not allowed to this user"}.get(
            error.errno or 0, f"can't be listened on ({error.strerror or error})"
        )
        raise CannotStart(f"port {port} on {host} {trouble}; choose another with --port") from error


class Supervisor:
    """Keeps shell commands running inside a `with`, each as a process group of its own.

    One that ends is started again after a second.
    """

    def __init__(
        self,
        commands: Mapping[str, str],
        env: Mapping[str, str] = os.environ,
        stop_grace: float = 15.0,
        out: TextIO | None = None,
    ) -> None:
        """`stop_grace`: seconds from SIGTERM to SIGKILL. `out` None: standard output."""
        self._commands = commands
        self._env = {
            **env,
            # This Python's folder comes first, so that `python` and `gunicorn` are those of its environment.
            "PATH": os.pathsep.join((os.path.dirname(sys.executable), env.get("PATH", os.defpath))),
            "PYTHONUNBUFFERED": "1",
        }
        self._stop_grace, self._out = stop_grace, out
        self._stops_asked = 0
        self._starting, self._printing = threading.Lock(), threading.Lock()
        self._alive: dict[str, subprocess.Popen[bytes]] = {}
        self._threads = [
            threading.Thread(
                target=self._keep_running, args=(name, _COLOURS[number % len(_COLOURS)]), daemon=True
            )
            for number, name in enumerate(commands)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stops_asked = max(self._stops_asked, 1)
        for number, verb, seconds in (
            (signal.SIGTERM, "stopping", self._stop_grace),
            (signal.SIGKILL, "killing", _KILL_SECONDS),
        ):
            with self._starting:
                alive = dict(self._alive)
            if alive:
                self._print("system", f"{verb} {', '.join(alive)}")
            for process in alive.values():
                _signal_group(process, number)
            deadline = time.monotonic() + seconds
            while (
                self._alive
                and time.monotonic() < deadline
                and (number == signal.SIGKILL or self._stops_asked < 2)
            ):
                time.sleep(_POLL_SECONDS)

    def request_stop(self) -> None:
        """End `wait`, from any thread or signal handler. Asked twice, the end does not wait for `stop_grace`."""
        self._stops_asked += 1

    def wait(self) -> None:
        """Return when `request_stop` was called."""
        # A thread that is gone met an error of ours: then nothing would restart its process.
        while not self._stops_asked and all(thread.is_alive() for thread in self._threads):
            time.sleep(_POLL_SECONDS)

    def _keep_running(self, name: str, colour: str) -> None:
        # A single command takes the shell's place, because only the process we started learns of our death. It may
        # start with assignments, which `exec` does not know but `env` does.
        prefix = "" if frozenset("();<>|&") & set(self._commands[name]) else "exec env "
        while True:
            with self._starting:
                if self._stops_asked > 0:
                    return
                self._alive[name] = process = subprocess.Popen(
                    ["/bin/sh", "-c", prefix + self._commands[name]],
                    env=self._env,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=die_with_parent(),  # noqa: PLW1509 (it does nothing that needs a lock)
                )
            self._print("system", f"{name} started, process {process.pid}")
            copying = threading.Thread(target=self._copy, args=(name, colour, process.stdout), daemon=True)
            copying.start()
            code = process.wait()
            # At the end, others of its group may still be about to stop in order; they are killed in time.
            copying.join(self._stop_grace + _KILL_SECONDS if self._stops_asked else 0)
            # What it leaves running would hold its port against its successor.
            _signal_group(process, signal.SIGKILL)
            # Bounded, because a process of another group may hold its output open.
            copying.join(_LAST_OUTPUT_SECONDS)
            del self._alive[name]
            if self._stops_asked:
                return
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            self._print("system", f"{name} {how}; starting it again in {_RESTART_SECONDS:g} s")
            time.sleep(_RESTART_SECONDS)

    def _copy(self, name: str, colour: str, output: IO[bytes]) -> None:
        """Print line by line what a child writes, until nobody is left to write."""
        with output:
            while line := output.readline(65536):
                self._print(name, line.decode("utf-8", "replace").rstrip("\r\n"), colour)

    def _print(self, name: str, text: str, colour: str | None = None) -> None:
        width = max(map(len, (*self._commands, "system")))
        try:
            with self._printing:
                prefix = click.style(f"{name:<{width}} |", fg=None if "NO_COLOR" in os.environ else colour)
                click.echo(f"{prefix} {text}", self._out)
        except (OSError, ValueError):
            # Nobody reads any more: the terminal is gone, or `up | head` has seen enough.
            self._stops_asked = max(self._stops_asked, 1)


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
