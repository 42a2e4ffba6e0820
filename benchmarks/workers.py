"""Real worker processes: `jobs.worker` through RQ, from the wake-up to the last settled row; and peers' workers."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any

import psycopg

from benchmarks.bench import Bench, StubProcess, wait_for
from benchmarks.draining import environment_of
from stocksync.queue.wakeups import RedisWakeups, connect_redis, make_queue

QUEUE = "stock-sync"
_WAITING = "SELECT 1 FROM pending_stock_operations WHERE status = '{}' LIMIT 1"


def wakeups(bench: Bench) -> RedisWakeups:
    """Ours, at the benchmark's Redis."""
    return RedisWakeups(make_queue(connect_redis(bench.redis.url, timeout=5), QUEUE), QUEUE)


def rate_of_workers(
    bench: Bench, stub: StubProcess, kind: str, template: str, count: int, lanes: int = 1, workers: int = 1
) -> float:
    """Deliveries a second from waking the lanes until every operation is settled, workers waiting beforehand."""
    with bench.database(kind, template) as url:
        bench.redis.flush()
        stub.stats(reset=True)
        environment = environment_of(url, stub, {"REDIS_URL": bench.redis.url})
        words = [("jobs.worker",)] * workers
        with running(bench, words, environment, says="Listening on"), settled(kind, url) as nothing_waits:
            lane_wakeups = wakeups(bench)
            started = monotonic()
            for lane in range(1, lanes + 1):
                lane_wakeups.wake(f"seller-{lane}")
            _until_done(stub, count, nothing_waits)
            return count / (monotonic() - started)


def rate_of_peer(
    bench: Bench,
    stub: StubProcess,
    url: str,
    kind: str,
    count: int,
    words: Sequence[str],
    environment: Mapping[str, str],
) -> float:
    """Jobs a second from the first request that the stub sees until every operation is settled.

    The jobs wait already when the worker starts, and its start does not count.
    """
    stub.stats(reset=True)
    with running(bench, [words], environment), settled(kind, url) as nothing_waits:
        _until_done(stub, count, nothing_waits)
        return float(count / (monotonic() - stub.stats()["first"]))


def _until_done(stub: StubProcess, count: int, nothing_waits: Any) -> None:
    wait_for(lambda: stub.stats()["requests"] >= count)
    wait_for(nothing_waits, pause=0.005)


@contextmanager
def running(
    bench: Bench, commands: Sequence[Sequence[str]], environment: Mapping[str, str], says: str | None = None
) -> Iterator[None]:
    """Processes for the length of a round; with `says` each has said so first."""
    logs = [bench.folder / f"worker-{number}.log" for number in range(len(commands))]
    processes: list[subprocess.Popen[str]] = []
    try:
        for words, log in zip(commands, logs, strict=True):
            processes.append(bench.start(*words, environment=environment, log=log))
        if says is not None:
            wait_for(lambda: all(says in log.read_text(errors="replace") for log in logs), 30)
        yield
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
