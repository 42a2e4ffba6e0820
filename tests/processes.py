"""The real processes of a shop, each as a child of the test, ended by their ids."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from unittest import mock

import pytest
from click.testing import CliRunner

from stocksync import runtime
from stocksync.cli import main
from stocksync.sandbox import Sandbox
from tests.servers import wait_until

ROOT = Path(__file__).parent.parent
SHOP_DATA = ROOT.parent / "shared" / "data" / "france"


@dataclass(frozen=True)
class Said:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON object that stdout is."""
        document = json.loads(self.out)
        assert isinstance(document, dict)
        return document


class _Stdin(io.BytesIO):
    name = "<stdin>"


def run_command(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str], stdin: str = ""
) -> Said:
    """Run `stocksync ...` in this process, in `folder`, with a runtime of its own."""
    before = runtime.use(None)
    with (
        contextlib.chdir(folder),
        mock.patch.object(sys, "argv", ["stocksync", *arguments]),
        CliRunner().isolation(_Stdin(stdin.encode("utf-8", "surrogatepass")), environment) as (out, err, _),
    ):
        with pytest.raises(SystemExit) as ended:
            main()
        sys.stderr.flush()
    if made := runtime.use(before):
        made.close()
    return Said(int(ended.value.code or 0), out.getvalue().decode(), err.getvalue().decode())


class Processes:
    """Starts `python -m ...` with one environment for all, output into files of `folder`."""

    def __init__(
        self, folder: Path, database_url: str, redis_url: str, sandbox: Sandbox, **settings: str
    ) -> None:
        self.folder = folder
        self.environment = {
            name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")
        } | {
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "ALLEGRO_MICROSERVICE_BASE_URL": sandbox.url,
            "ALLEGRO_MICROSERVICE_JWT_TOKEN": "sandbox",
            **settings,
        }
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self.command("migrate")
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running:
            self.end(process, signal.SIGKILL)

    def start(self, module: str, *words: str) -> subprocess.Popen[bytes]:
        """A process that runs until it is ended."""
        with (self.folder / f"{module}-{len(self._running)}.log").open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *words],
                env=self.environment,
                cwd=self.folder,
                stdout=out,
                stderr=out,
            )
        self._running.append(process)
        return process

    def end(self, process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGTERM) -> int:
        """Signal it and wait; answers with its exit code."""
        if process.poll() is None:
            process.send_signal(number)
        return process.wait(15)

    def command(self, *arguments: str, code: int | None = 0, text: str = "") -> Any:
        """Run `stocksync ... --json` in this process, as a person would beside the others; answers with its object."""
        said = run_command([*arguments, "--json"], self.folder, self.environment, text)
        assert code is None or said.code == code, said.err
        return said.document

    def command_apart(self, *arguments: str) -> Any:
        """The same in a process of its own: several may run at once."""
        done = subprocess.run(
            [sys.executable, "-m", "stocksync", *arguments, "--json"],
            env=self.environment, cwd=self.folder, capture_output=True, timeout=90, check=True,
        )  # fmt: skip
        return json.loads(done.stdout)

    def logs(self) -> str:
        """What all processes said."""
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("*.log")))

    def wait_for_rest(self, timeout: float = 60) -> None:
        """Until no operation waits and no order is claimed."""

        def at_rest() -> bool:
            document = self.command("status")
            return bool(document["operations"]["pending"] + document["operations"]["processing"] == 0)

        try:
            wait_until(at_rest, timeout=timeout, message="every operation to be delivered or given up")
        except AssertionError as late:
            raise AssertionError(f"{late}\n{self.command('status')}\n{self.logs()[-4000:]}") from None
