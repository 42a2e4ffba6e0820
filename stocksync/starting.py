"""What is looked at before processes are started: the Procfile, the port, whether another one runs already."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from stocksync.domain.errors import StockSyncError

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
        # It sets SO_REUSEADDR, as servers do, so that the connections of one that has just ended do not count.
        socket.create_server((host, port)).close()
    except OSError as error:
        reasons = {errno.EADDRINUSE: "is taken", errno.EACCES: "is not allowed to this user"}
        reason = reasons.get(error.errno or 0, f"can't be listened on ({error.strerror or error})")
        raise PortOccupied(f"port {port} on {host} {reason}; choose another with --port") from error


@contextmanager
def pid_file(path: Path) -> Iterator[None]:
    """Let one process at a time hold `path`, which shows its id meanwhile and is empty afterwards.

    What counts is a lock that the kernel lifts when its holder ends. So the file of a process that was killed
    is taken over, whoever may have its id by now.

    Raises AlreadyRunning, naming the holder's id; SupervisorError when the file can't be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", errors="replace")
    except OSError as error:
        raise SupervisorError(f"{path} can't be written: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            pid = file.read(20).strip()
            held = f"already running as process {pid} (its pid file is {path})"
            raise AlreadyRunning(f"{held}: stop it first, kill {pid}") from error
        file.truncate(0)
        print(os.getpid(), file=file, flush=True)
        try:
            yield
        finally:
            # Emptied, not removed: a name removed here could be one that the next process has just locked.
            file.truncate(0)
