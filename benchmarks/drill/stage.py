"""What the drill is played on: one database, one Redis, one remote, and the processes of a shop, each with its log."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import urllib3

from benchmarks.drill.caller import SKUS, WAREHOUSE
from benchmarks.drill.hosts import Network, join
from benchmarks.drill.servers import DrillPostgres, DrillRedis, Secrets, SmallDisk
from benchmarks.drill.settings import IN_STOCK, SETTINGS, SURVIVOR, USUAL, VICTIM
from benchmarks.drill.visitor import Visitor
from stocksync.queue.embedded import die_with_parent
from tests.processes import ROOT, Said, run_command
from tests.servers import PgBouncer, free_port, wait_until


@dataclass
class Part:
    """One process of ours: how it is started, on which host; None: with the servers."""

    words: Sequence[str]
    host: int | None = None
    process: subprocess.Popen[bytes] | None = None
    wanted: bool = False
    """It should run."""


class Stage:
    """Everything runs inside the `with`."""

    def __init__(
        self, folder: Path, database: str, *, callers: int, rate: float, seed: int, namespaces: bool
    ) -> None:
        self.folder, self.kind = folder, database
        self.secrets = Secrets()
        self.ended_by_themselves: list[tuple[float, str]] = []
        self.journals = [folder / f"caller-{number}.jsonl" for number in range(1, callers + 1)]
        self.told = folder / "remote.jsonl"
        self.remote_port, self.web_port = free_port(), free_port()
        self.visitor = Visitor(self.web_port, self.secrets.api_key)
        self.faults: dict[str, Any] = dict(USUAL)
        self.hangs_until = 0.0  # monotonic: what the remote was asked before may be applied until then
        self._rate, self._seed = rate / callers, seed
        self._namespaces = namespaces
        self._made = ExitStack()
        self.bouncer: PgBouncer | None = None
        self.postgres: DrillPostgres | None = None

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self._made.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._made.close()

    def _open(self) -> None:
        self.network: Network = join(namespaces=self._namespaces)
        self._made.callback(self.network.close)
        self._open_servers()
        self.parts = self._cast()
        self._made.callback(self._end_all)
        self.start("remote")
        self._stock()
        for name in self.parts:
            self.start(name)
        wait_until(self.visitor.is_served, 30.0, "the page answers")
        self._made.enter_context(self.visitor)

    def _open_servers(self) -> None:
        addresses, outside = self.network.addresses, self._made.enter_context(_closed_folder())
        self.redis = DrillRedis(self.folder, outside / "redis.conf", self.secrets.redis, addresses)
        self._made.callback(self.redis.stop)
        self.redis.start()
        if self.kind == "sqlite":
            self.disk = self._made.enter_context(SmallDisk(self.folder / "data", 96))
            self._made.callback(self._save_database)
            return
        self.postgres = DrillPostgres(384)
        self._made.callback(self.postgres.stop)
        self.disk = self.postgres.disk
        self.postgres.open(addresses, self.network.range)
        self._made.callback(shutil.copy, self.postgres.log, self.folder / "postgresql.log")
        self.database_name = self.postgres.create_database()
        if self.kind == "pgbouncer":
            self.bouncer = PgBouncer(self.postgres, listen_addr=addresses)
            self._made.callback(self.bouncer.stop)
            self._made.callback(shutil.copy, self.bouncer._base / "log", self.folder / "pgbouncer.log")
            self.bouncer.start()

    def _cast(self) -> dict[str, Part]:
        host = "127.0.0.1" if self.network.addresses == "127.0.0.1" else "0.0.0.0"
        remote = ["benchmarks.drill.remote", "--host", host, "--port", str(self.remote_port), "--journal"]
        web = ["stocksync", "web", "--host", "127.0.0.1", "--port", str(self.web_port)]
        calling = ["benchmarks.drill.caller", "--seed", str(self._seed), "--rate", f"{self._rate:g}"]
        return {
            "remote": Part([*remote, str(self.told)]),
            SURVIVOR: Part(["jobs.worker"], 0),
            VICTIM: Part(["jobs.worker"], 1),
            "scheduler": Part(["jobs.scheduler"]),
            "web": Part(web),
            **{
                path.stem: Part([*calling, "--name", path.stem, "--journal", str(path)])
                for path in self.journals
            },
        }

    def _stock(self) -> None:
        self.command("migrate")
        rows = "".join(f"{sku},{WAREHOUSE},{IN_STOCK}\n" for sku in SKUS)
        said = self.command("stock", "import", "-", text=f"sku,warehouse,quantity\n{rows}")
        assert said.code == 0, said.err

    # Processes

    def environment(self, host: int | None = None) -> dict[str, str]:
        """Of a process on that host."""

        def way(port: int) -> str:
            address, port = ("127.0.0.1", port) if host is None else self.network.host(host).way(port)
            return f"{address}:{port}"

        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        url = f"sqlite:///{self.folder / 'data' / 'shop.sqlite3'}"
        if self.postgres:
            port = (self.bouncer or self.postgres).port
            url = f"postgresql://postgres:{self.secrets.database}@{way(port)}/{self.database_name}"
        return {
            **inherited,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "DATABASE_URL": url,
            "REDIS_URL": f"redis://drill:{self.secrets.redis}@{way(self.redis.port)}/0",
            "ALLEGRO_MICROSERVICE_BASE_URL": f"http://{way(self.remote_port)}",
            **self.secrets.settings(),
            **SETTINGS,
        }

    def start(self, name: str, more: Mapping[str, str] | None = None, *, wait: bool = True) -> None:
        """Start a process unless it runs. With `wait` a worker listens before this returns, or 20 seconds have passed.

        `more`: variables of its environment.
        """
        part, path = self.parts[name], self.folder / f"{name}.log"
        if part.process is not None and part.process.poll() is None:
            return
        said = path.stat().st_size if path.exists() else 0
        prefix = () if part.host is None else self.network.host(part.host).prefix
        words = [*part.words, "--faults", json.dumps(self.faults)] if name == "remote" else part.words
        with path.open("ab") as log:
            part.process = subprocess.Popen(
                [*prefix, sys.executable, "-m", *words],
                env={**self.environment(part.host), **(more or {})},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent(),  # noqa: PLW1509 (it does nothing that needs a lock)
            )
        part.wanted = True
        if name == "remote":
            wait_until(lambda: self._ask_remote("stats"), 20.0, "the remote listens")
        if wait and name in (SURVIVOR, VICTIM):
            self.wait(20.0, lambda: b"*** Listening on" in path.read_bytes()[said:])

    def send(self, name: str, number: signal.Signals) -> None:
        """Send it a signal."""
        process = self.parts[name].process
        assert process is not None
        process.send_signal(number)

    def end(self, name: str, number: signal.Signals = signal.SIGTERM, seconds: float = 20.0) -> int:
        """Signal it and wait; answers with its exit code. One that does not end in time is killed.

        SIGKILL takes what it started with it, as a platform that ends a container does.
        """
        part = self.parts[name]
        part.wanted = False
        if part.process is None:
            return 0
        process, whole = part.process, number == signal.SIGKILL
        if process.poll() is None:
            os.killpg(process.pid, number) if whole else process.send_signal(number)
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return process.wait()

    def _end_all(self) -> None:
        for part in self.parts.values():
            part.wanted = False
            if part.process is not None and part.process.poll() is None:
                part.process.send_signal(signal.SIGCONT)
                part.process.terminate()
        for name in self.parts:
            self.end(name, signal.SIGTERM, 5.0)

    def stop(self, name: str) -> None:
        """Have a process end by SIGTERM, and remember if it did not end with exit code 0 within 15 seconds."""
        if code := self.end(name, signal.SIGTERM, 15.0):
            self.ended_by_themselves.append((-1.0, f"{name}, told to stop, ended with exit code {code}"))

    def look_after(self) -> None:
        """Start what ended by itself, as a platform does, and note it."""
        for name, part in self.parts.items():
            if part.wanted and part.process is not None and (code := part.process.poll()) is not None:
                now = time.monotonic()
                self.ended_by_themselves.append((now, f"{name} ended with exit code {code}"))
                self.start(name, wait=False)

    def wait(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass, at most `seconds`, looking after the processes. True: `until` came."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            if until():
                return True
            self.look_after()
            time.sleep(0.05)
        return until()

    def command(self, *words: str, text: str = "") -> Said:
        """Run `stocksync ...` in this process, as a person would beside the others."""
        return run_command(list(words), self.folder, self.environment(), text)

    # The remote

    def set_faults(self, **changes: Any) -> None:
        """Of the remote, on top of the usual."""
        self.hangs_until = max(self.hangs_until, time.monotonic() + self.faults["latency_ms"] / 1000 + 1.0)
        self.faults = USUAL | changes
        answer = urllib3.request(
            "PUT", f"http://127.0.0.1:{self.remote_port}/_sandbox/faults",
            body=json.dumps(self.faults), retries=False, timeout=10,
        )  # fmt: skip
        assert answer.status == 200, answer.data

    def remote_orders(self) -> list[dict[str, Any]]:
        """What it holds."""
        orders = self._ask_remote("orders")
        assert orders is not None
        return list(orders)

    def _ask_remote(self, what: str) -> Any:
        try:
            url = f"http://127.0.0.1:{self.remote_port}/_sandbox/{what}"
            return urllib3.request("GET", url, retries=False, timeout=10).json()
        except urllib3.exceptions.HTTPError:
            return None

    def _save_database(self) -> None:
        """Out of the small disk, for whoever wants to look at it afterwards."""
        if not self.disk.why_not:
            saved = self.folder / "saved"
            saved.mkdir()
            for file in self.disk.folder.glob("shop.sqlite3*"):
                shutil.copy(file, saved)


@contextmanager
def _closed_folder() -> Iterator[Path]:
    """For what holds a secret because it must."""
    with tempfile.TemporaryDirectory(prefix="stocksync-drill-secrets-") as name:
        yield Path(name)
