"""What is measured while a soak runs: memory, connections, sizes and the backlog, sample by sample; latencies by the minute."""

from __future__ import annotations

import math
import sqlite3
import statistics
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg
from redis import Redis

from benchmarks.sizes import size
from benchmarks.soak.journals import Reader

_BACKLOG = "SELECT COUNT(*) FROM stock_sync_orders WHERE due_at IS NOT NULL AND order_id LIKE 'soak-%'"
_CONNECTIONS = (
    "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


def pss(pid: int) -> float:
    """Megabytes of a process and its children: its own pages, and its share of those that it shares. 0: it is gone."""
    try:
        root = psutil.Process(pid)
        return sum(each.memory_full_info().pss for each in (root, *root.children(recursive=True))) / 1e6
    except psutil.NoSuchProcess:
        return 0.0


GRACE = 1.0
"""Seconds after the end of a soak by which the last calls must have returned."""


class Sampler:
    """Measures everything once at each call."""

    def __init__(self, kind: str, url: str, redis_url: str, processes: Mapping[str, int]) -> None:
        self._kind, self._url, self._processes = kind, url, processes
        self._redis: Redis = Redis.from_url(redis_url)
        self._database: Any = (
            sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None, timeout=30)
            if kind == "SQLite"
            else psycopg.connect(url, autocommit=True)
        )
        self.memory: dict[str, list[float]] = defaultdict(list)
        self.connections: dict[str, list[float]] = defaultdict(list)
        self.now: dict[str, float] = {}

    def sample(self) -> None:
        """Add one sample to each series; `now` has the newest figures."""
        for name, pid in self._processes.items():
            self.memory[name].append(pss(pid))
        if self._kind == "PostgreSQL":
            self.connections["PostgreSQL"].append(float(self._ask(_CONNECTIONS)))
        clients: Any = self._redis.info("clients")
        memory: Any = self._redis.info("memory")
        self.connections["Redis"].append(float(clients["connected_clients"]))
        self.memory["Redis"].append(memory["used_memory"] / 1e6)
        self.now = {
            "backlog": float(self.backlog()),
            "database MB": size(self._kind, self._url) / 1e6,
            **{f"{name} MB": values[-1] for name, values in self.memory.items()},
            **{f"{name} connections": values[-1] for name, values in self.connections.items()},
        }

    def backlog(self) -> int:
        """Orders of the soak that wait for delivery or are on their way."""
        return self._ask(_BACKLOG)

    def _ask(self, question: str) -> int:
        return int(self._database.execute(question).fetchone()[0])

    def close(self) -> None:
        """End its connections."""
        self._database.close()
        self._redis.close()


@dataclass
class Minute:
    """What fell into one minute; milliseconds."""

    made: int = 0
    calls: list[float] = field(default_factory=list)
    pickups: list[float] = field(default_factory=list)
    pages: list[float] = field(default_factory=list)
    errors: int = 0
    rates: list[float] = field(default_factory=list)
    samples: dict[str, float] = field(default_factory=dict)


class Ledger:
    """All that the processes wrote down, brought together order by order and minute by minute."""

    def __init__(self, start: float, seconds: float, files: Mapping[str, Sequence[Path]]) -> None:
        self._start, self._seconds = start, seconds
        self._readers = {name: [Reader(path) for path in paths] for name, paths in files.items()}
        self.minutes: dict[int, Minute] = defaultdict(Minute)
        self.recorded: dict[str, float] = {}
        self.in_time = 0
        self.arrived: dict[str, float] = {}
        self.journal: list[tuple[str, str]] = []
        self.pages: dict[str, list[float]] = defaultdict(list)
        self.retried: list[str] = []
        self.errors: list[str] = []
        self.burst_by = "-"

    def minute(self, moment: float) -> Minute:
        """The one that `moment` falls into."""
        return self.minutes[min(int((moment - self._start) / 60), math.ceil(self._seconds / 60) - 1)]

    def read(self) -> None:
        """Take in what is new."""
        for due, returned, order, fault in self._lines("callers"):
            minute, late = self.minute(float(returned)), (float(returned) - float(due)) * 1000
            if fault:
                self._fault(minute, f"call: {fault}")
            else:
                minute.made += 1
                minute.calls.append(late)
                self.recorded[order] = float(returned)
                self.in_time += float(returned) <= self._start + self._seconds + GRACE
                self._pickup(order)
        for moment, order, key in self._lines("stub"):
            self.journal.append((order, key))
            self.arrived.setdefault(order, float(moment))
            self._pickup(order)
        for moment, kind, what, fault in self._lines("person"):
            if kind == "retried":
                self.retried.append(what)
            elif fault:
                self._fault(self.minute(float(moment)), f"page: {fault}")
            else:
                self.minute(float(moment)).pages.append(float(what))
                self.pages[kind].append(float(what))
        for moment, by, rate, errors in self._lines("pressure"):
            self.burst_by = by
            self.minute(float(moment)).rates.append(float(rate))
            if int(errors):
                self._fault(self.minute(float(moment)), f"burst: {errors} calls of the API failed")

    def _lines(self, name: str) -> list[list[str]]:
        return [line for reader in self._readers[name] for line in reader.lines()]

    def _fault(self, minute: Minute, said: str) -> None:
        minute.errors += 1
        self.errors.append(said)

    def _pickup(self, order: str) -> None:
        if order in self.recorded and order in self.arrived:
            returned = self.recorded[order]
            self.minute(returned).pickups.append((self.arrived[order] - returned) * 1000)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of all do not exceed; nan of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(len(ordered) * share) - 1)] if ordered else math.nan


def now() -> float:
    """Seconds of the machine's monotonic clock."""
    return time.monotonic()


def mean(values: Sequence[float]) -> float:
    """nan of none."""
    return statistics.fmean(values) if values else math.nan
