"""Real worker processes: `jobs.worker` through RQ, from the wake-up to the last settled row; and peers' workers."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any

import psycopg

from benchmarks.bench import Bench, StubProcess, wait_for
from benchmarks.cpu import Meter
from benchmarks.draining import environment_of
from stocksync.queue.wakeups import RedisWakeups, connect_redis, make_queue

QUEUE = "stock-sync"
_WAITING = "SELECT 1 FROM pending_stock_operations WHERE status = '{}' LIMIT 1"


def wakeups(bench: Bench) -> RedisWakeups:
    """Ours, at the benchmark's Redis."""
    return RedisWakeups(make_queue(connect_redis(bench.redis.url, timeout=5), QUEUE), QUEUE)


@dataclass(frozen=True, slots=True)
class Round:
    """One backlog delivered."""

    rate: float
    """A second."""
    cpu: dict[str, float]
    """Who -> CPU milliseconds a delivery."""
    stub: dict[str, Any]
    """What the stub saw."""


def rate_of_workers(
    bench: Bench, stub: StubProcess, kind: str, template: str, count: int, lanes: int = 1, workers: int = 1
) -> float:
    """Deliveries a second, as `round_of_workers` has them."""
    return round_of_workers(bench, stub, kind, template, count, lanes, workers).rate


def round_of_workers(
    bench: Bench,
    stub: StubProcess,
    kind: str,
    template: str,
    count: int,
    lanes: int = 1,
    workers: int = 1,
    settings: Mapping[str, str] | None = None,
) -> Round:
    """From waking the lanes until every operation is settled, workers waiting beforehand."""
    with bench.database(kind, template) as url:
        bench.redis.flush()
        stub.stats(reset=True)
        environment = environment_of(url, stub, {"REDIS_URL": bench.redis.url, **(settings or {})})
        words = [("jobs.worker",)] * workers
        with running(bench, words, environment, says="Listening on") as processes:
            meter = Meter(bench, kind, processes)
            with settled(kind, url) as nothing_waits:
                lane_wakeups = wakeups(bench)
                meter.start()
                started = monotonic()
                for lane in range(1, lanes + 1):
                    lane_wakeups.wake(f"seller-{lane}")
                _until_done(stub, count, nothing_waits)
                rate = count / (monotonic() - started)
            return Round(rate, meter.milliseconds(count), stub.stats())


def round_of_peer(
    bench: Bench,
    stub: StubProcess,
    url: str,
    kind: str,
    count: int,
    words: Sequence[str],
    environment: Mapping[str, str],
) -> Round:
    """From the first request that the stub sees until every operation is settled.

    The jobs wait already when the worker starts, and its start does not count.
    """
    stub.stats(reset=True)
    with running(bench, [words], environment) as processes:
        meter = Meter(bench, kind, processes)
        with settled(kind, url) as nothing_waits:
            wait_for(lambda: stub.stats()["requests"] > 0)
            meter.start()
            before = stub.stats()["requests"]
            _until_done(stub, count, nothing_waits)
            seen = stub.stats()
            rate = count / (monotonic() - seen["first"])
        return Round(rate, meter.milliseconds(max(count - before, 1)), seen)


def _until_done(stub: StubProcess, count: int, nothing_waits: Any) -> None:
    wait_for(lambda: stub.stats()["requests"] >= count)
    wait_for(nothing_waits, pause=0.005)


@contextmanager
def running(
    bench: Bench, commands: Sequence[Sequence[str]], environment: Mapping[str, str], says: str | None = None
) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes for the length of a round; with `says` each has said so first."""
    logs = [bench.folder / f"worker-{number}.log" for number in range(len(commands))]
    processes: list[subprocess.Popen[str]] = []
    try:
        for words, log in zip(commands, logs, strict=True):
            processes.append(bench.start(*words, environment=environment, log=log))
        if says is not None:
            wait_for(lambda: all(says in log.read_text(errors="replace") for log in logs), 30)
        yield processes
    except TimeoutError as error:
        words_said = " / ".join(logs[0].read_text(errors="replace").splitlines()[-5:])
        raise RuntimeError(f"{' '.join(commands[0])}: {error}; it said: {words_said}") from error
    finally:
        for process in processes:
            bench.end(process)


@contextmanager
def settled(kind: str, url: str) -> Iterator[Any]:
    """A function that says whether no operation waits."""
    connection: Any
    if kind == "SQLite":
        connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    else:
        connection = psycopg.connect(url, autocommit=True)

    def nothing_waits() -> bool:
        return not any(connection.execute(_WAITING.format(s)).fetchone() for s in ("pending", "processing"))

    try:
        yield nothing_waits
    finally:
        connection.close()
