"""The release before, in a worktree of its own, to run beside this one; and where libfaketime is."""

from __future__ import annotations

import glob
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.drill.settings import VICTIM
from benchmarks.drill.stage import Stage
from tests.processes import ROOT

_MIGRATIONS = "stocksync/store/migrations"


def _git(*words: str) -> subprocess.CompletedProcess[str]:
    command = ["git", "-C", str(ROOT), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


class Releases:
    """`wanted`: a revision; None: the last tag, or, without one, the oldest revision with this one's schema."""

    def __init__(self, wanted: str | None, folder: Path) -> None:
        self._folder = folder / "previous"
        self.revision, self.ran, self._missing = "", "", ""
        try:
            found = wanted or _git("describe", "--tags", "--abbrev=0", "HEAD^").stdout.strip()
            found = found or _git("log", "-1", "--format=%h", "--", _MIGRATIONS).stdout.strip()
        except OSError as error:
            self._missing = f"git can't be run: {error}"
            return
        if not found or _git("rev-parse", "--verify", f"{found}^{{commit}}").returncode:
            self._missing = f"there is no revision {found or 'before this one'}"
        elif _git("diff", "--quiet", found, "--", _MIGRATIONS).returncode:
            self._missing = f"the schema of {found} differs from this one's"
        self.revision = found

    def why_not(self, _: Stage) -> str:
        """Why it can't be had; "": it can."""
        return self._missing

    @contextmanager
    def side_by_side(self, stage: Stage) -> Iterator[None]:
        """A deploy: one worker of the release before delivers beside one of this."""
        if not self._folder.exists():
            made = _git("worktree", "add", "--detach", str(self._folder), self.revision)
            if made.returncode:
                raise OSError(f"git worktree: {made.stderr.strip()}")
        self.ran = self.revision
        stage.stop(VICTIM)
        stage.start(VICTIM, {"PYTHONPATH": str(self._folder)})
        yield
        stage.stop(VICTIM)
        stage.start(VICTIM)

    def close(self) -> None:
        """Remove the worktree."""
        if self._folder.exists():
            _git("worktree", "remove", "--force", str(self._folder))


def libfaketime() -> str:
    """The library that a process is started with to have another clock; "" where there is none."""
    places = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib*/faketime/libfaketimeMT.so.1")
    return next((found for place in places for found in glob.glob(place)), "")
