"""Every kind of fault: what is done, for how long, and what it needs."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import psycopg

from benchmarks.drill.releases import Releases, libfaketime
from benchmarks.drill.settings import LEASE_SECONDS, VICTIM
from benchmarks.drill.stage import Stage

PAST_LEASE = LEASE_SECONDS + 1.5
HANGS = 5
"""Seconds after which a remote that hangs does what it was asked: the client has given up by then, and may have said more."""
Act = Callable[[Stage], AbstractContextManager[None]]


def _always(_: Stage) -> str:
    return ""


@dataclass(frozen=True)
class Fault:
    """`act`: a context manager around the time it lasts. `why_not`: why it can't be had on this stage; "": it can.

    `hurts_database`: calls may raise an error of the database while it lasts; at any other time none may.
    """

    name: str
    act: Act
    seconds: float
    why_not: Callable[[Stage], str] = _always
    hurts_database: bool = False


def _killed(name: str) -> Act:
    @contextmanager
    def act(stage: Stage) -> Iterator[None]:
        stage.end(name, signal.SIGKILL)
        yield
        stage.start(name)

    return act


@contextmanager
def _in_mid_delivery(stage: Stage) -> Iterator[None]:
    """Inside, requests of both workers are out: the remote takes nearly all the time that it is given."""
    stage.set_faults(latency_ms=1500)
    stage.wait(2.0)
    yield
    stage.set_faults()


@contextmanager
def _worker_killed(stage: Stage) -> Iterator[None]:
    with _in_mid_delivery(stage):
        stage.end(VICTIM, signal.SIGKILL)
    yield
    stage.start(VICTIM)


@contextmanager
def _stalled(stage: Stage) -> Iterator[None]:
    with _in_mid_delivery(stage):
        stage.send(VICTIM, signal.SIGSTOP)
    try:
        yield
    finally:
        stage.send(VICTIM, signal.SIGCONT)


@contextmanager
def _stopped(stage: Stage) -> Iterator[None]:
    """It ends in order, and in time."""
    with _in_mid_delivery(stage):
        stage.stop(VICTIM)
    yield
    stage.start(VICTIM)


@contextmanager
def _redis_flushed(stage: Stage) -> Iterator[None]:
    stage.redis.flush()
    yield
    stage.redis.flush()


@contextmanager
def _redis_restarted(stage: Stage) -> Iterator[None]:
    stage.redis.kill()
    stage.redis.start()
    yield


@contextmanager
def _redis_away(stage: Stage) -> Iterator[None]:
    stage.redis.stop()
    try:
        yield
    finally:
        stage.redis.start()


@contextmanager
def _redis_full(stage: Stage) -> Iterator[None]:
    stage.redis.limit("1mb")
    try:
        yield
    finally:
        stage.redis.limit("0")


def _remote(**faults: Any) -> Act:
    @contextmanager
    def act(stage: Stage) -> Iterator[None]:
        stage.set_faults(**faults)
        try:
            yield
        finally:
            stage.set_faults()

    return act


@contextmanager
def _connections_killed(stage: Stage) -> Iterator[None]:
    """One after another, again and again."""
    over = threading.Event()
    postgres = stage.postgres
    assert postgres is not None

    def kill() -> None:
        own = "SELECT pid FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
        with contextlib.suppress(psycopg.Error):
            while not over.is_set():
                for (pid,) in postgres.execute(own, stage.database_name):
                    postgres.execute("SELECT pg_terminate_backend(%s)", pid)
                    if over.wait(0.1):
                        break

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    try:
        yield
    finally:
        over.set()
        killer.join(10)


@contextmanager
def _database_locked(stage: Stage) -> Iterator[None]:
    """A writer that does not come to an end."""
    connection = sqlite3.connect(stage.disk.folder / "shop.sqlite3", timeout=30, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


def _database_restarted(number: signal.Signals) -> Act:
    @contextmanager
    def act(stage: Stage) -> Iterator[None]:
        assert stage.postgres is not None
        stage.postgres.end(number)
        try:
            yield
        finally:
            stage.postgres.revive()

    return act


@contextmanager
def _bouncer_restarted(stage: Stage) -> Iterator[None]:
    assert stage.bouncer is not None
    stage.bouncer.kill()
    try:
        yield
    finally:
        stage.bouncer.start()


@contextmanager
def _disk_full(stage: Stage) -> Iterator[None]:
    with stage.disk.full():
        if stage.postgres:
            stage.postgres.press()
        yield
    if stage.postgres:
        stage.postgres.revive()


def _clock_wrong(name: str, shift: str) -> Act:
    @contextmanager
    def act(stage: Stage) -> Iterator[None]:
        stage.stop(name)
        shifted = {"FAKETIME": shift, "FAKETIME_DONT_FAKE_MONOTONIC": "1", "LD_PRELOAD": libfaketime()}
        stage.start(name, shifted)
        yield
        stage.stop(name)
        stage.start(name)

    return act


@contextmanager
def _cut_off(stage: Stage) -> Iterator[None]:
    host = stage.network.host(1)
    with _in_mid_delivery(stage):
        host.cut()
    try:
        yield
    finally:
        host.restore()


def _without_faketime(_: Stage) -> str:
    return "" if libfaketime() else "no libfaketime here (Debian, Ubuntu: apt-get install faketime)"


def _only(*kinds: str) -> Callable[[Stage], str]:
    return lambda stage: "" if stage.kind in kinds else f"the database is {stage.kind}"


def every_fault(releases: Releases) -> list[Fault]:
    """All kinds, in the order of the table."""
    clock = partial(Fault, seconds=4.0, why_not=_without_faketime)
    harmed = partial(Fault, hurts_database=True)
    postgres = _only("postgresql", "pgbouncer")
    return [
        Fault("worker killed in mid-delivery", _worker_killed, 2.0),
        Fault("scheduler killed", _killed("scheduler"), 2.0),
        Fault("page killed", _killed("web"), 2.0),
        Fault("caller killed", _killed("caller-1"), 1.0),
        Fault("worker stalled past its lease", _stalled, PAST_LEASE),
        Fault("worker told to stop in mid-delivery", _stopped, 1.0),
        Fault("Redis flushed", _redis_flushed, 1.0),
        Fault("Redis restarted", _redis_restarted, 1.0),
        Fault("Redis away", _redis_away, 3.0),
        Fault("Redis full", _redis_full, 3.0),
        Fault("remote answers 500", _remote(error_share=1.0, error_status=500), 3.0),
        Fault("remote answers 429", _remote(rate_limit_share=1.0), 3.0),
        Fault("remote answers 401", _remote(error_share=1.0, error_status=401), 2.0),
        Fault("remote hangs", _remote(latency_ms=1000 * HANGS), 4.0),
        Fault("remote is slow", _remote(latency_ms=900), 4.0),
        Fault("remote closes after applying", _remote(drop_after_apply_share=1.0), 3.0),
        Fault("remote resets connections", _remote(reset_share=1.0), 3.0),
        Fault("remote answers with a page", _remote(bad_body="html"), 3.0),
        Fault("remote killed", _killed("remote"), 3.0),
        harmed("database connections killed", _connections_killed, 3.0, postgres),
        harmed("database locked", _database_locked, 4.0, _only("sqlite")),
        harmed("PostgreSQL restarted", _database_restarted(signal.SIGINT), 2.0, postgres),
        harmed("PostgreSQL crashed", _database_restarted(signal.SIGQUIT), 1.0, postgres),
        harmed("PgBouncer restarted", _bouncer_restarted, 2.0, _only("pgbouncer")),
        harmed("disk full", _disk_full, 3.0, lambda stage: stage.disk.why_not),
        clock("worker's clock 5 h ahead", _clock_wrong(VICTIM, "+5h")),
        clock("worker's clock 5 h behind", _clock_wrong(VICTIM, "-5h")),
        clock("scheduler's clock 5 h ahead", _clock_wrong("scheduler", "+5h")),
        clock("caller's clock 5 h ahead", _clock_wrong("caller-1", "+5h")),
        Fault("two releases side by side", releases.side_by_side, 5.0, releases.why_not),
        Fault("worker's host cut off past its lease", _cut_off, PAST_LEASE),
    ]
