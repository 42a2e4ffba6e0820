"""CPU time of worker, database and Redis apart, children included."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

import psutil
import psycopg
from redis import Redis

from benchmarks.bench import Bench


class Meter:
    """Says what each of them spent from `start` on.

    SQLite has no process of its own: what it costs is in the worker. Redis has, for whoever uses it.
    `others`: more of them, by their names.
    """

    def __init__(
        self,
        bench: Bench,
        kind: str,
        processes: Sequence[subprocess.Popen[str]],
        **others: Sequence[subprocess.Popen[str]],
    ) -> None:
        self._roots = {
            name: [psutil.Process(process.pid) for process in group]
            for name, group in {"worker": processes, **others}.items()
        }
        if kind == "PostgreSQL":
            with psycopg.connect(bench.postgres.url("postgres")) as connection:
                backend = psutil.Process(connection.info.backend_pid)
                postmaster = backend.parent()
            assert postmaster is not None
            self._roots["database"] = [postmaster]
        with Redis.from_url(bench.redis.url) as client:
            self._roots["Redis"] = [psutil.Process(client.info("server")["process_id"])]
        self.start()

    def start(self) -> None:
        """Count from now."""
        self._before = self._seconds()

    def milliseconds(self, deliveries: int) -> dict[str, float]:
        """Who -> milliseconds a delivery since the start."""
        return {
            who: (after - self._before[who]) * 1000 / deliveries for who, after in self._seconds().items()
        }

    def _seconds(self) -> dict[str, float]:
        return {who: sum(_spent(root) for root in roots) for who, roots in self._roots.items()}


def _spent(root: psutil.Process) -> float:
    """Of the process and of all that it started; those that have ended are in their parent's times."""
    spent = 0.0
    for process in (root, *root.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        spent += times.user + times.system + times.children_user + times.children_system
    return spent
