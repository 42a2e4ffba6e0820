"""Two worker processes against one on the same backlog."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

from benchmarks.bench import Bench
from benchmarks.draining import backlog, drain
from benchmarks.latency import LATENCY
from benchmarks.report import Goal, Result, ratio
from benchmarks.workers import rate_of_workers

KIND = "PostgreSQL"
LANES = 8


def measure(bench: Bench) -> Result:
    """Real `jobs.worker` processes on one lane and on several, and engines alone on one lane."""
    _ = bench.postgres, bench.redis
    count = 800 if bench.quick else 2400
    result = Result("two-workers", f"50 ms, 16 connections each, {KIND}, {count} orders")
    with ExitStack() as made:
        stub = made.enter_context(bench.stub(LATENCY))
        one_lane = made.enter_context(backlog(bench, KIND, count))
        lanes = made.enter_context(backlog(bench, KIND, count, LANES))

        def engines(number: int) -> float:
            return float(drain(bench, stub, KIND, one_lane, count, number)["rate"])

        by_workers = partial(rate_of_workers, bench, stub, KIND)
        figures = bench.in_turn(
            "a second",
            {
                f"1 worker, {LANES} lanes": partial(by_workers, lanes, count, LANES, 1),
                f"2 workers, {LANES} lanes": partial(by_workers, lanes, count, LANES, 2),
                "1 worker, 1 lane": partial(by_workers, one_lane, count, 1, 1),
                "2 workers, 1 lane": partial(by_workers, one_lane, count, 1, 2),
                "1 engine alone, 1 lane": partial(engines, 1),
                "2 engines alone, 1 lane": partial(engines, 2),
            },
        )
    result.figures = list(figures.values())
    result.goals = [
        Goal(ratio(f"2 {what} / 1", figures[f"2 {many}"], figures[f"1 {one}"]), at_least=1.7)
        for what, many, one in (
            (f"workers, {LANES} lanes", f"workers, {LANES} lanes", f"worker, {LANES} lanes"),
            ("workers, 1 lane", "workers, 1 lane", "worker, 1 lane"),
            ("engines alone, 1 lane", "engines alone, 1 lane", "engine alone, 1 lane"),
        )
    ]
    result.notes = [
        "workers: jobs.worker through RQ, woken once a lane; engines: the same without RQ, both told to go"
    ]
    return result
