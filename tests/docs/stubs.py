"""Programs that a page may call but a test must not: each notes its call; what a call names must exist."""

from __future__ import annotations

import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from tests.checkouts import write_program
from tests.docs.pages import ROOT

STUBS = (
    "pip", "pip3", "pipx", "uv", "git", "docker", "docker-compose", "systemctl", "systemd-analyze", "journalctl",
    "loginctl", "heroku", "dokku", "apt-get", "apt", "sudo", "ssh", "scp", "rsync", "useradd", "adduser", "su",
    "promtool", "certbot", "nginx", "psql", "pg_dump", "pg_restore", "pg_basebackup", "createdb", "dropdb",
    "redis-cli", "pre-commit", "twine", "npm", "gh",
)  # fmt: skip

# `git clone` leaves a checkout behind, because the next line of every page goes into it.
_STUB = """#!{bash}
{{ printf '%q ' {name} "$@"; echo; }} >>{calls}
if [ "{name} ${{1-}}" = "git clone" ]; then
    to=${{*: -1}} && to=${{to##*/}} && cp -RP {checkout} "${{to%.git}}"
fi
"""
_PYTHON = '#!{bash}\nexec {python} "$@"\n'
_MODULE = '#!{bash}\nexec {python} -m {module} "$@"\n'


def write_programs(folder: Path, calls: Path, checkout: Path, real: frozenset[str] = frozenset()) -> None:
    """Fill `folder`, to be first on PATH: the project's Python and command, and the stubs that are not `real`."""
    python = shlex.quote(sys.executable)
    for name in ("python", "python3"):
        write_program(folder / name, _PYTHON.format(bash="/bin/bash", python=python))
    for module in ("stocksync", "pytest"):
        write_program(folder / module, _MODULE.format(bash="/bin/bash", python=python, module=module))
    for name in set(STUBS) - real:
        text = _STUB.format(
            bash="/bin/bash", name=name, calls=shlex.quote(str(calls)), checkout=shlex.quote(str(checkout))
        )
        write_program(folder / name, text)
    calls.touch()


def make_checkout(folder: Path, programs: Path) -> None:
    """A checkout of the project that is set up: links to all its files, but no `bin/setup` that would install."""
    folder.mkdir()
    hidden = (".git", ".venv", ".venv-newest", ".stocksync", ".env", "bin")
    for entry in ROOT.iterdir():
        if entry.name not in hidden and not entry.name.endswith("_cache"):
            (folder / entry.name).symlink_to(entry)
    for entry in (ROOT / "bin").iterdir():
        if entry.is_file():
            write_program(folder / "bin" / entry.name, entry.read_text(encoding="utf-8"))
    write_program(folder / "bin" / "setup", "#!/bin/sh\n")
    (folder / ".venv" / "bin").mkdir(parents=True)
    for name in ("python", "pytest", "stocksync"):
        (folder / ".venv" / "bin" / name).symlink_to(programs / name)


def read_calls(calls: Path) -> list[list[str]]:
    """The noted calls in order, each as its words."""
    return [shlex.split(line.replace("$'", "'")) for line in calls.read_text(encoding="utf-8").splitlines()]


def wrong_calls(calls: list[list[str]], folder: Path) -> Iterator[str]:
    """A sentence for each thing that a call names and that is not there."""
    for call in map(_without_sudo, calls):
        shown = shlex.join(call)
        program = call[0] if call else ""
        if program in ("pip", "pip3", "pipx", "uv"):
            yield from (f"{shown}: there is no extra {extra}" for extra in _missing_extras(call))
            yield from (f"{shown}: there is no file {name}" for name in _missing(call, ("-r", "-c"), folder))
        elif program in ("docker", "docker-compose", "promtool", "systemd-analyze", "cp", "install"):
            named = [word for word in call[1:] if word.startswith("deploy/")]
            yield from (f"{shown}: there is no file {name}" for name in named if not _is_there(name, folder))
            yield from (
                f"{shown}: there is no file {name}" for name in _missing(call, ("-f", "--file"), folder)
            )
        elif program == "systemctl":
            yield from (f"{shown}: deploy/ has no unit {unit}" for unit in _missing_units(call))


def _without_sudo(call: list[str]) -> list[str]:
    while call and call[0] == "sudo":
        call = call[1:]
        while call and (call[0].startswith("-") or "=" in call[0]):
            call = call[2:] if call[0] in ("-u", "-g") else call[1:]
    return call


def _missing_extras(call: list[str]) -> list[str]:
    known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    named = [found[1] for word in call if (found := re.match(r"(?:stocksync|\.)\[([^\]]*)\]", word))]
    return [extra for extras in named for extra in extras.replace(" ", "").split(",") if extra not in known]


def _missing(call: list[str], options: tuple[str, ...], folder: Path) -> list[str]:
    named = [value for option, value in pairwise(call) if option in options]
    return [name for name in named if name != "-" and not _is_there(name, folder)]


def _is_there(name: str, folder: Path) -> bool:
    return any((place / name).exists() for place in (folder, ROOT, ROOT / "deploy"))


def _missing_units(call: list[str]) -> list[str]:
    there = {path.name for path in (ROOT / "deploy").rglob("*.*")}
    units = [word for word in call[1:] if re.match(r"stocksync[\w@.{},-]*$", word)]
    names = [re.sub(r"@[^.]*", "@", unit) for unit in units]
    return [name for name in names if name not in there and f"{name}.service" not in there]
