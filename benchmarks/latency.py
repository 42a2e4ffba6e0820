"""A remote that takes 50 ms: what share of the ideal sixteen connections reach."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

from benchmarks.bench import Bench
from benchmarks.draining import backlog, drain
from benchmarks.report import Figure, Goal, Result
from benchmarks.stub import ceiling

LATENCY = 0.05
CONNECTIONS = 16


def measure(bench: Bench) -> Result:
    """Share of 16 / (the latency measured at the stub), both databases in turn."""
    count = 800 if bench.quick else 3200
    result = Result("latency", f"remote with 50 ms, {CONNECTIONS} connections, {count} orders")
    rates: dict[str, list[float]] = {}
    seen: dict[str, str] = {}

    def share(kind: str, template: str) -> float:
        settings = {"STOCK_SYNC_DELIVERY_CONCURRENCY": str(CONNECTIONS)}
        answer = drain(bench, stub, kind, template, count, settings=settings)
        at_stub = answer["stub"]
        rates.setdefault(kind, []).append(answer["rate"])
        seen[kind] = (
            f"{kind}: {answer['concurrency']} connections wanted, {at_stub['max_concurrency']} at once at the stub, "
            f"{at_stub['mean_latency'] * 1000:.2f} ms there"
        )
        return float(answer["rate"] / (CONNECTIONS / at_stub["mean_latency"]))

    contenders = {}
    with bench.stub(LATENCY) as stub, bench.stub() as quick_stub:
        top = ceiling(quick_stub.port)
        with ExitStack() as made:
            for kind, missing in bench.databases().items():
                if missing:
                    result.skipped.append(f"{kind}: {missing}")
                    continue
                template = made.enter_context(backlog(bench, kind, count))
                contenders[f"share of the ideal, {kind}"] = partial(share, kind, template)
            figures = bench.in_turn("x", contenders)
    result.figures = [Figure(f"deliveries, {kind}", "a second", values) for kind, values in rates.items()]
    result.goals = [Goal(figure, at_least=0.9) for figure in figures.values()]
    result.notes = [*seen.values(), f"without latency the stub takes {top['pipelined']:,.0f}/s pipelined"]
    return result
