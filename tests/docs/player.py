"""Runs the blocks of a page as a reader would: one bash, one Python, one folder."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import psutil

from stocksync.queue.embedded import die_with_parent
from tests.docs.pages import Block, Page, PageError, matches
from tests.docs.stubs import make_checkout, read_calls, write_programs, wrong_calls

BLOCK_SECONDS = 120.0

# Each reads names of block files from descriptor 3 and says `done` on 4 when one went well. A block's own output, and
# that of the processes it leaves behind, goes to the file beside it.
_BASH = r"""
set -eu
trap 'echo "line $LINENO: this failed: $BASH_COMMAND" >&2' ERR
while IFS= read -r -u 3 __block; do
    source "$__block" </dev/null >"$__block.out" 2>&1 3<&- 4>&-
    echo done >&4
done
"""
_PYTHON = """
import os, sys
sys.path.insert(0, "")
def play(ask, answer):
    names = {"__name__": "__main__"}
    for path in os.fdopen(ask):
        path = path.rstrip("\\n")
        out = os.open(path + ".out", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1), os.dup2(out, 2), os.close(out)
        exec(compile(open(path, encoding="utf-8").read(), path, "exec"), names)
        sys.stdout.flush(), sys.stderr.flush()
        os.write(answer, b"done\\n")
play(3, 4)
"""


class Interpreter:
    """A bash or a Python that runs one block after the other and keeps its variables between them."""

    def __init__(self, command: list[str], folder: Path, environment: Mapping[str, str], log: Path) -> None:
        ask, self._ask = os.pipe()
        self._answer, answer = os.pipe()
        self._log = log
        # 3 and 4 are the numbers that the programs know; the shell in between gives them.
        words = ["/bin/bash", "-c", f'exec "$@" 3<&{ask} 4>&{answer} {ask}<&- {answer}>&-', "bash", *command]
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                words, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                pass_fds=(ask, answer), start_new_session=True,
                preexec_fn=die_with_parent(),  # noqa: PLW1509 (it does nothing that needs a lock)
            )  # fmt: skip
        os.close(ask)
        os.close(answer)

    def run(self, file: Path, seconds: float) -> tuple[str | None, str]:
        """Run the block in `file`: what went wrong, or None, and what it printed."""
        os.write(self._ask, f"{file}\n".encode())
        fault = None
        os.set_blocking(self._answer, False)
        end = time.monotonic() + seconds
        while True:
            with contextlib.suppress(BlockingIOError):
                if os.read(self._answer, 64):
                    break
                fault = f"ended with exit code {self._process.wait(10)}"
                break
            if time.monotonic() > end:
                fault = f"did not end within {seconds:g} s"
                break
            time.sleep(0.01)
        out = file.with_name(f"{file.name}.out")
        printed = out.read_text(encoding="utf-8", errors="replace") if out.exists() else ""
        return fault, printed if fault is None else printed + self._log.read_text(errors="replace")

    def end(self) -> None:
        """End it and every process that its blocks have left behind."""
        group = self._process.pid
        left = [one for one in psutil.process_iter() if _group_of(one.pid) == group]
        for number in (signal.SIGTERM, signal.SIGKILL):
            for one in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.send_signal(number)
            left = psutil.wait_procs(left, timeout=5)[1]
        self._process.wait()
        os.close(self._ask)
        os.close(self._answer)


def _group_of(pid: int) -> int | None:
    with contextlib.suppress(OSError):
        return os.getpgid(pid)
    return None


class Player:
    """One page at work in `base`: its folder, its programs, its interpreters. Ends what it started on leaving."""

    def __init__(
        self, page: Page, base: Path, environment: Mapping[str, str], real: frozenset[str] = frozenset()
    ) -> None:
        """`environment`: on top of a bare one. `real`: the stubs that are not put in the way of the real program."""
        self.page, self.base, self.folder = page, base, base / "folder"
        for name in ("blocks", "home"):
            (base / name).mkdir(parents=True)
        checkout = base / "checkout"
        write_programs(base / "bin", base / "calls", checkout, real)
        make_checkout(checkout, base / "bin")
        if page.folder == "checkout":
            self.folder = checkout
        else:
            self.folder.mkdir()
        path = [
            str(base / "bin"),
            str(Path(sys.executable).parent),
            environment.get("PATH", os.environ["PATH"]),
        ]
        self.environment = {
            **environment,
            "PATH": ":".join(path), "HOME": str(base / "home"), "LANG": "C.UTF-8", "USER": "reader",
            "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip
        self._running: dict[str, Interpreter] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for interpreter in self._running.values():
            interpreter.end()

    def play(self, seconds: float = BLOCK_SECONDS) -> None:
        """Run every block. Raises PageError at the first that fails, with its place and what was printed."""
        for block in self.page.blocks:
            if block.skip is not None:
                continue
            if block.file is not None:
                file = self.folder / block.file
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(block.text, encoding="utf-8")
            elif block.is_run:
                self._run(block, seconds)
        if wrong := list(wrong_calls(read_calls(self.base / "calls"), self.folder)):
            raise PageError(f"{self.page.name}: " + "; ".join(wrong))

    def _run(self, block: Block, seconds: float) -> None:
        # As many empty lines as the page has above it: what the interpreter says of a line is true of the page.
        number = len(list((self.base / "blocks").iterdir()))
        file = self.base / "blocks" / f"{number:03}-{Path(self.page.name).name}"
        file.write_text("\n" * (block.line - 1) + block.text, encoding="utf-8")
        place = f"{self.page.name}:{block.line}"
        fault, printed = self._interpreter(block.language).run(file, seconds)
        if fault:
            raise PageError(f"{place}: the {block.language} block {fault}; it printed:\n{printed}")
        if block.prints is not None and not matches(block.prints, printed):
            raise PageError(
                f"{place}: the {block.language} block is said to print:\n{block.prints}\nit printed:\n{printed}"
            )

    def _interpreter(self, language: str) -> Interpreter:
        if language not in self._running:
            if language == "python":
                self._migrate()
            command = {"sh": ["/bin/bash", "-c", _BASH], "python": [sys.executable, "-c", _PYTHON]}[language]
            log = self.base / f"{language}.log"
            self._running[language] = Interpreter(command, self.folder, self.environment, log)
        return self._running[language]

    def _migrate(self) -> None:
        """Python blocks find the tables, whether the page has said `stocksync migrate` or not."""
        done = subprocess.run(
            [sys.executable, "-m", "stocksync", "migrate", "--json"],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        if done.returncode or "applied" not in json.loads(done.stdout):
            raise PageError(f"{self.page.name}: stocksync migrate failed: {done.stderr}")
