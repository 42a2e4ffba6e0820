"""Copies of the project to run its scripts in, on a machine where Python's pip is a stand-in."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parents[1]
SCRIPTS = (
    "bin/setup",
    "bin/demo",
    "bin/test",
    "bin/lock",
    "bin/release",
    "bin/check-machines",
    "bin/audit",
    "bin/docs",
    ".ci/run",
)
TOOLS = (
    "bash",
    "cat",
    "cut",
    "dirname",
    "find",
    "flock",
    "grep",
    "id",
    "ls",
    "mkdir",
    "rm",
    "sed",
    "sh",
    "tail",
)

# A Python that makes environments without waiting for pip: theirs notes each call in pip.calls of the project,
# and fails with many lines when there is a file pip.fails.
STAND_IN_PYTHON = """#!/bin/sh
if [ "$2 $3" = "-m venv" ]; then
    "{python}" -I -m venv --without-pip "$4" || exit 1
    for packages in "$4"/lib/python3*/site-packages; do cp -R "{pip}" "$packages/pip"; done
    echo "#!$PWD/$4/bin/python" >"$4/bin/pip"
else
    exec "{python}" "$@"
fi
"""
STAND_IN_PIP = """
import pathlib, sys, time
with open("pip.calls", "a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\\n")
if pathlib.Path("pip.slow").exists():
    time.sleep(1)
if pathlib.Path("pip.fails").exists():
    print("\\n".join(f"line {number} of pip" for number in range(200)), flush=True)
    sys.exit("ERROR: No matching distribution found for click")
"""

STAND_IN_SERVERS = """
import sys
print("setup: Redis from here", *sys.argv[1:])
"""


@dataclass
class Checkout:
    """A copy of the project's scripts in a folder of its own, run with little on PATH."""

    root: Path
    path: Path

    def run(self, *command: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.root,
            env={"PATH": str(self.path), "CI": "true"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            **options,
        )

    def setup(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("bin/setup", *arguments)

    def pip_calls(self) -> list[str]:
        calls = self.root / "pip.calls"
        return calls.read_text().splitlines() if calls.exists() else []

    def replace(self, name: str, script: str) -> None:
        """Put a shell script in the place of a file."""
        write_program(self.root / name, f"#!/bin/sh\n{script}\n")


@pytest.fixture
def bare_checkout() -> Iterator[Checkout]:
    """A checkout on a machine without Python. Its folder can be entered by every user."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        checkout = Checkout(Path(folder, "my project"), Path(folder, "path"))
        checkout.path.mkdir()
        for tool in TOOLS:
            if found := shutil.which(tool):
                (checkout.path / tool).symlink_to(found)
        for name in (*SCRIPTS, "requirements.txt", "requirements-dev.txt", "pyproject.toml"):
            (checkout.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, checkout.root / name)
        (checkout.root / "bin" / "servers.py").write_text(STAND_IN_SERVERS)
        yield checkout


@pytest.fixture
def checkout(bare_checkout: Checkout) -> Checkout:
    """A checkout on a machine with Python, pip being the stand-in."""
    pip = bare_checkout.path / "stand-in-pip"
    pip.mkdir()
    (pip / "__init__.py").touch()
    (pip / "__main__.py").write_text(STAND_IN_PIP)
    cp = shutil.which("cp")
    assert cp is not None
    (bare_checkout.path / "cp").symlink_to(cp)
    write_program(bare_checkout.path / "python3.11", STAND_IN_PYTHON.format(python=sys.executable, pip=pip))
    return bare_checkout


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
