"""What recording costs who calls us: beside the raw driver, by the line, and when Redis is down."""

from __future__ import annotations

import socket
import sqlite3
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg

from benchmarks.bench import Bench
from benchmarks.report import Figure, Goal, Result, ratio
from benchmarks.shop import LANE, open_runtime
from stocksync.queue.wakeups import RedisWakeups, connect_redis, make_queue
from stocksync.runtime import Runtime
from tests.servers import free_port

LINES = 100
WAREHOUSE = "Ирина"
Recorded = list[tuple[str, Any, bool]]


def measure(bench: Bench) -> Result:
    """All three, the first two on both databases."""
    result = Result("caller", "recording operations")
    calls = 50 if bench.quick else 200
    for kind, missing in bench.databases().items():
        if missing:
            result.skipped.append(f"{kind}: {missing}")
            continue
        _beside_driver(bench, kind, calls, result)
        _by_line(bench, kind, result)
    _redis_down(bench, result)
    return result


class _Undone(Exception):
    """Ends a transaction that is not to be kept."""


class _Recording:
    """A cursor that notes what goes through it."""

    def __init__(self, cursor: Any, seen: Recorded) -> None:
        self._cursor = cursor
        self._seen = seen

    def execute(self, sql: str, parameters: Any = ()) -> Any:
        if sql.split(maxsplit=1)[0] not in ("BEGIN", "COMMIT", "ROLLBACK"):
            self._seen.append((sql, parameters, False))
        return self._cursor.execute(sql, parameters)

    def executemany(self, sql: str, rows: Any) -> Any:
        self._seen.append((sql, rows, True))
        return self._cursor.executemany(sql, rows)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)


def _record(runtime: Runtime, calls: int) -> list[Recorded]:
    """The statements of `calls` deductions, in the order of the calls."""
    database: Any = runtime.database
    made, recorded = database.cursor, []
    for number in range(calls):
        seen: Recorded = []
        database.cursor = lambda *a, seen=seen, **k: _Recording(made(*a, **k), seen)
        _deduct(runtime, f"recorded-{number}")
        recorded.append(seen)
    del database.cursor
    return recorded


def _deduct(runtime: Runtime, order_id: str) -> None:
    runtime.service.sync_stock_deduction(LANE, order_id, "A", 1)


def _raw_connection(kind: str, url: str) -> tuple[Any, str]:
    if kind == "SQLite":
        connection: Any = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        for pragma in ("synchronous = full", "foreign_keys = 1", "cache_size = -8000"):
            connection.execute(f"PRAGMA {pragma}")
        return connection, "BEGIN IMMEDIATE"
    return psycopg.connect(url, autocommit=True), "BEGIN"


def _replay(connection: Any, begin: str, statements: Recorded) -> None:
    cursor = connection.cursor()
    cursor.execute(begin)
    for sql, parameters, many in statements:
        (cursor.executemany if many else cursor.execute)(sql, parameters)
        if cursor.description:
            cursor.fetchall()
    cursor.execute("COMMIT")


def _seconds(action: Callable[..., object], *arguments: Any) -> float:
    started = time.perf_counter()
    action(*arguments)
    return time.perf_counter() - started


def _beside_driver(bench: Bench, kind: str, calls: int, result: Result) -> None:
    """Call by call in turn: ours, ours with a connection held, the same statements on the driver."""
    names = ("sync_stock_deduction", "the same in an open scope()", "raw driver, same statements")
    medians: dict[str, list[float]] = {name: [] for name in names}
    with bench.database(kind) as url, bench.database(kind) as raw_url, bench.database(kind) as other:
        with open_runtime(other) as runtime:
            recorded = _record(runtime, calls * bench.rounds)
        with open_runtime(raw_url):
            pass
        connection, begin = _raw_connection(kind, raw_url)
        with open_runtime(url) as runtime:
            for round_number in range(bench.rounds):
                times: dict[str, list[float]] = {name: [] for name in names}
                for number in range(round_number * calls, (round_number + 1) * calls):
                    times[names[0]].append(_seconds(_deduct, runtime, f"a-{number}"))
                    with runtime.database.scope():
                        times[names[1]].append(_seconds(_deduct, runtime, f"b-{number}"))
                    times[names[2]].append(_seconds(_replay, connection, begin, recorded[number]))
                for name in names:
                    medians[name].append(statistics.median(times[name]) * 1000)
        connection.close()
    figures = {name: Figure(f"{name}, {kind}", "ms", medians[name]) for name in names}
    result.figures += list(figures.values())
    raw = figures[names[2]]
    result.figures.append(ratio(f"in an open scope() / raw driver, {kind}", figures[names[1]], raw))
    result.goals.append(Goal(ratio(f"ours / raw driver, {kind}", figures[names[0]], raw), at_most=2.5))
    result.notes.append(f"{kind}: {len(recorded[0])} statements a call")


def _by_line(bench: Bench, kind: str, result: Result) -> None:
    """A whole order of 100 lines beside 100 single calls with line ids for one order."""
    with bench.database(kind) as url, open_runtime(url) as runtime:
        runtime.inventory.set_on_hand({f"S{n}": 1_000_000 for n in range(LINES)}, WAREHOUSE)

        def whole(order_id: str) -> None:
            items = [
                {"id": f"l{n}", "quantity": 1, "offer": {"id": "1", "external": {"id": f"S{n}"}}}
                for n in range(LINES)
            ]
            form = {"id": order_id, "token_id": LANE, "status": "READY_FOR_PROCESSING", "lineItems": items}
            runtime.orders.process_order_stock_update(form, WAREHOUSE)

        def single(order_id: str) -> None:
            for n in range(LINES):
                runtime.service.sync_stock_deduction(
                    LANE, order_id, f"S{n}", 1, WAREHOUSE, line_item_id=f"l{n}"
                )

        whole("warm")
        per_line: dict[str, list[float]] = {"whole": [], "single": []}
        for number in range(bench.rounds):
            per_line["whole"].append(_seconds(whole, f"whole-{number}") / LINES * 1000)
            per_line["single"].append(_seconds(single, f"single-{number}") / LINES * 1000)
    order = Figure(f"whole order, a line, {kind}", "ms", per_line["whole"])
    calls = Figure(f"single calls, a line, {kind}", "ms", per_line["single"])
    result.figures += [order, calls]
    result.goals.append(Goal(ratio(f"single calls / whole order, {kind}", calls, order), at_least=4))


def _redis_down(bench: Bench, result: Result) -> None:
    """What a Redis that refuses, or never answers, adds to a call, over a bit more than one pause."""
    pause = 2.0 if bench.quick else 30.0
    seconds = pause + 1.0
    silent = socket.create_server(("127.0.0.1", 0))
    places = {"refuses": free_port(), "is silent": silent.getsockname()[1]}
    for name, port in places.items():
        # The timeout and the pause are those of the settings' defaults.
        queue = make_queue(connect_redis(f"redis://127.0.0.1:{port}/0", timeout=0.25), "q")
        waking = RedisWakeups(queue, "p", pause=pause)
        with bench.database("SQLite") as url, open_runtime(url, waking) as runtime:
            with suppress(_Undone), runtime.database.transaction_scope():
                _deduct(runtime, "warm")  # without its wake-up, which comes after the commit
                raise _Undone
            times: list[float] = []
            ends = time.monotonic() + seconds
            while time.monotonic() < ends:
                times.append(_seconds(_deduct, runtime, f"order-{len(times)}"))
                time.sleep(0.01)
        usual = statistics.median(times)
        slow = [seconds for seconds in times if seconds > usual + 0.1]
        added = Figure(f"Redis {name}: most added to a call", "s", [max(times) - usual])
        result.goals.append(Goal(added, at_most=0.25 + 0.05))
        result.notes.append(
            f"Redis {name}: {len(slow)} of {len(times)} calls in {seconds:.0f} s (pause {pause:g} s) took "
            f"0.1 s more than the median of {usual * 1000:.2f} ms"
        )
    silent.close()
