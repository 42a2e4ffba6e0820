"""The real processes of a shop, each as a child of the test, ended by their ids."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from stocksync.sandbox import Sandbox
from tests.servers import wait_until

ROOT = Path(__file__).parent.parent
SHOP_DATA = ROOT.parent / "shared" / "data" / "france"


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

    def start(self, module: str) -> subprocess.Popen[bytes]:
        """A process that runs until it is ended."""
        with (self.folder / f"{module}-{len(self._running)}.log").open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", module], env=self.environment, cwd=self.folder, stdout=out, stderr=out
            )
        self._running.append(process)
        return process

    def end(self, process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGTERM) -> int:
        """Signal it and wait; answers with its exit code."""
        if process.poll() is None:
            process.send_signal(number)
        return process.wait(15)

    def command(self, *arguments: str, code: int | None = 0, text: str | None = None) -> Any:
        """Run `python -m stocksync ... --json`; answers with the decoded object."""
        done = subprocess.run(
            [sys.executable, "-m", "stocksync", *arguments, "--json"],
            env=self.environment, cwd=self.folder, capture_output=True, timeout=90, check=False,
            input=None if text is None else text.encode(),
        )  # fmt: skip
        assert code is None or done.returncode == code, done.stderr.decode()
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
