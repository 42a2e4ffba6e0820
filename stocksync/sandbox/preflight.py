"""Checks before processes are started: the Procfile, the port, and whether another one runs already."""

import errno
import fcntl
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stocksync.errors import StockSyncError

_LINE = re.compile(r"(?P<name>[A-Za-z0-9_-]+):\s*(?P<command>\S.*)")
_PORT_TROUBLES = {errno.EADDRINUSE: "is taken", errno.EACCES: "is not allowed to this user"}


class CannotStart(StockSyncError):
    """The processes can't be started. The message says why, and what to do."""


def read_procfile(path: Path) -> dict[str, str]:
    """Process names and their shell commands, in the file's order, without `release`.

    Raises CannotStart: a line that is not `name: command`, a name given twice; OSError: the file can't be read.
    """
    commands: dict[str, str] = {}
    for number, line in enumerate(map(str.strip, path.read_text(encoding="utf-8").splitlines()), 1):
        if line and not line.startswith("#"):
            match = _LINE.fullmatch(line)
            if match is None:
                raise CannotStart(f"{path}, line {number} is not `name: command`: {line!r}")
            if match["name"] in commands:
                raise CannotStart(f"{path}, line {number}: there is a process {match['name']} already")
            commands[match["name"]] = match["command"]
    commands.pop("release", None)
    return commands


def free_port(host: str, port: int = 0) -> int:
    """`port` of `host` if a server could listen on it; 0 finds one. Raises CannotStart, which says why not."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # It sets SO_REUSEADDR, as servers do, so that the connections of one that has just ended do not count.
        with socket.create_server((host, port), family=family) as server:
            return int(server.getsockname()[1])
    except OSError as error:
        trouble = _PORT_TROUBLES.get(error.errno or 0, f"can't be listened on ({error.strerror or error})")
        raise CannotStart(f"port {port} on {host} {trouble}; choose another with --port") from error


@contextmanager
def pid_file(path: Path) -> Iterator[None]:
    """Let one process at a time hold `path`, which shows its id meanwhile and is empty afterwards.

    What counts is a lock that the kernel lifts when its holder ends. So the file of a process that was killed
    is taken over, whoever may have its id by now.

    Raises CannotStart: another process holds it, the message names its id; OSError: the file can't be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", errors="replace") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            pid = file.read(20).strip()
            held = f"already running as process {pid} (its pid file is {path})"
            raise CannotStart(f"{held}: stop it first, kill {pid}") from error
        file.truncate(0)
        print(os.getpid(), file=file, flush=True)
        try:
            yield
        finally:
            # Emptied, not removed: a name removed here could be one that the next process has just locked.
            file.truncate(0)
