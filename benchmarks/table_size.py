"""Claim and settle with few and with a million delivered orders in the tables."""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack
from datetime import UTC, datetime

from benchmarks.bench import Bench
from benchmarks.report import Figure, Goal, Result, ratio
from benchmarks.shop import LANE, drop_orders, fill, open_runtime
from stocksync.runtime import Runtime

SMALL = 1000
BATCH = 200
_BATCHES = 8


def measure(bench: Bench) -> Result:
    """Median milliseconds for a batch of 200, the two tables in turn, batch by batch."""
    large = 100_000 if bench.quick else 1_000_000
    result = Result(
        "table-size", f"claim and settle {BATCH} orders, {SMALL} or {large} completed in the tables"
    )
    for kind, missing in bench.databases().items():
        if missing:
            result.skipped.append(f"{kind}: {missing}")
            continue
        with ExitStack() as made:
            runtimes = {}
            for size in (SMALL, large):
                runtime = made.enter_context(open_runtime(made.enter_context(bench.database(kind))))
                started = time.monotonic()
                fill(runtime.database, size, done=True)
                result.notes.append(f"{kind}: {size} orders filled in {time.monotonic() - started:.0f} s")
                runtimes[size] = runtime
                _batch(runtime)
            measured: dict[tuple[int, str], list[float]] = {}
            for _ in range(bench.rounds):
                times: dict[tuple[int, str], list[float]] = {}
                for _ in range(_BATCHES):
                    for size, runtime in runtimes.items():
                        claim, settle = _batch(runtime)
                        times.setdefault((size, "claim"), []).append(claim)
                        times.setdefault((size, "settle"), []).append(settle)
                        times.setdefault((size, "claim and settle"), []).append(claim + settle)
                for key, values in times.items():
                    measured.setdefault(key, []).append(statistics.median(values) * 1000)
        figures = {
            (size, what): Figure(f"{what}, {size}, {kind}", "ms", values)
            for (size, what), values in measured.items()
        }
        result.figures += [figure for (_, what), figure in figures.items() if what != "claim and settle"]
        both = ratio(
            f"claim and settle, {large} / {SMALL}, {kind}",
            figures[large, "claim and settle"],
            figures[SMALL, "claim and settle"],
        )
        result.goals.append(Goal(both, at_most=1.5))
    return result


def _batch(runtime: Runtime) -> tuple[float, float]:
    """Seconds to claim a batch that just became due, and to settle it. It is taken away again."""
    deliveries = runtime.deliveries
    with runtime.database.scope():
        fill(runtime.database, BATCH, era="b")
        now = datetime.now(UTC)
        started = time.perf_counter()
        claim = deliveries.claim(LANE, BATCH)
        claimed = time.perf_counter()
        for order in claim:
            order.duration_ms = 1
        settled = deliveries.settle(claim, now)
        ended = time.perf_counter()
        completed = settled.figures["operations_completed"]
        if completed != BATCH:
            raise RuntimeError(f"{completed} of {BATCH} operations were completed")
        drop_orders(runtime.database, "b")
    return claimed - started, ended - claimed
