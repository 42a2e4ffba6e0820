"""Runs the Procfile's processes side by side: starts them, names their output, restarts them, ends them together."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, TextIO

from stocksync.embedded import die_with_parent

_FIRST_DELAY, _LONGEST_DELAY = 0.5, 10.0
_LIFE_THAT_COUNTS_AS_WELL = 30.0
_LOOK_SECONDS, _KILL_SECONDS, _LAST_WORDS_SECONDS = 0.1, 5.0, 2.0
_LONGEST_LINE = 65536
_COLOURS = (36, 33, 32, 35, 34, 31)
_OURSELVES = "system"


@dataclass
class _Child:
    name: str
    command: str
    colour: int
    start_at: float
    process: subprocess.Popen[bytes] | None = None  # None while it waits for its next start
    reader: threading.Thread | None = None
    started_at: float = 0.0
    failures: int = 0

    def lives(self) -> bool:
        """Whether the process, or another of its group, is still there."""
        return self.process is not None and (self.process.poll() is None or _group_lives(self.process.pid))

    def signal(self, number: signal.Signals) -> None:
        """Send `number` to the whole group, where there is one."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self.process is not None:
                os.killpg(self.process.pid, number)

    def wait_for_its_last_words(self) -> None:
        """Until all it wrote is shown; bounded, because a stranger may hold its output open."""
        if self.reader is not None:
            self.reader.join(_LAST_WORDS_SECONDS)


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
            _Child(name, command, _COLOURS[number % len(_COLOURS)], clock())
            for number, (name, command) in enumerate(commands.items())
        ]
        base = os.environ if env is None else env
        # This Python's folder comes first, so that `python` and `gunicorn` are those of its environment.
        path = os.pathsep.join((os.path.dirname(sys.executable), base.get("PATH", os.defpath)))
        self._env = {**base, "PATH": path, "PYTHONUNBUFFERED": "1"}
        self._stop_grace = stop_grace
        self._out = sys.stdout if out is None else out
        self._speaking = threading.Lock()
        self._clock = clock
        self._width = max(len(name) for name in (*commands, _OURSELVES))
        self._coloured = self._out.isatty() and "NO_COLOR" not in os.environ
        self._stops_asked = 0

    def request_stop(self) -> None:
        """Make `run` end everything and return; from any thread or signal handler. Asked twice: with SIGKILL."""
        self._stops_asked += 1

    def run(self) -> int:
        """Start everything; 0 after `request_stop` or, in the main thread, SIGTERM, SIGINT or SIGHUP. Runs once."""
        with contextlib.ExitStack() as at_end:
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
                    elif child.process is not None and (code := child.process.poll()) is not None:
                        self._plan_restart(child, code)
                time.sleep(_LOOK_SECONDS)
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
        self._say(_OURSELVES, f"{child.name} started, process {process.pid}")
        child.reader = threading.Thread(target=self._pass_on, args=(child, process.stdout), daemon=True)
        child.reader.start()

    def _plan_restart(self, child: _Child, code: int) -> None:
        # What it leaves running would hold its port against its successor.
        child.signal(signal.SIGKILL)
        child.wait_for_its_last_words()
        if self._clock() - child.started_at >= _LIFE_THAT_COUNTS_AS_WELL:
            child.failures = 0
        delay = min(_FIRST_DELAY * 2.0 ** min(child.failures, 10), _LONGEST_DELAY)
        child.failures += 1
        child.process, child.start_at = None, self._clock() + delay
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        self._say(_OURSELVES, f"{child.name} {how}; starting it again in {delay:g} s")

    def _end_all(self, number: signal.Signals, seconds: float) -> None:
        """Signal every group that lives and wait until all are gone, `seconds` at most."""
        living = [child for child in self._children if child.lives()]
        if living:
            names = ", ".join(child.name for child in living)
            self._say(_OURSELVES, f"{'stopping' if number == signal.SIGTERM else 'killing'} {names}")
        for child in living:
            child.signal(number)
        deadline = self._clock() + seconds
        while any(child.lives() for child in living) and self._clock() < deadline:
            if number == signal.SIGTERM and self._stops_asked > 1:
                return
            time.sleep(_LOOK_SECONDS)
        for child in living:
            if not child.lives():
                child.wait_for_its_last_words()

    def _pass_on(self, child: _Child, output: IO[bytes]) -> None:
        """Line by line what a child writes, in a thread of its own, until nobody is left to write."""
        with output:
            while line := output.readline(_LONGEST_LINE):
                self._say(child.name, line.decode("utf-8", "replace").rstrip("\r\n"), child.colour)

    def _say(self, name: str, text: str, colour: int = 0) -> None:
        prefix = f"{name:<{self._width}} |"
        if self._coloured:
            prefix = f"\033[{colour}m{prefix}\033[0m"
        try:
            with self._speaking:
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
