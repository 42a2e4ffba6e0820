"""One worker process without latency, beside loops that only send."""

from __future__ import annotations

from functools import partial

from benchmarks.bench import ROUND_SECONDS, Bench
from benchmarks.draining import backlog, drain
from benchmarks.report import Goal, Result, ratio
from benchmarks.stub import ceiling

LOOPS = {
    "requests.Session().put": "requests",
    "requests, trust_env=False": "requests-no-env",
    "urllib3": "urllib3",
}


def measure(bench: Bench) -> Result:
    """Deliveries a second of our engine (SQLite, synchronous=FULL, one order an operation) and of bare loops."""
    count = 1500 if bench.quick else 6000
    result = Result("bare", f"one process, remote without latency, SQLite FULL, {count} orders")
    seen: dict[str, int] = {}
    with bench.stub() as stub, backlog(bench, "SQLite", count) as template:
        top = ceiling(stub.port)

        def ours(name: str, **settings: str) -> float:
            answer = drain(bench, stub, "SQLite", template, count, settings=settings)
            seen[name] = max(seen.get(name, 0), answer["concurrency"])
            return float(answer["rate"])

        def loop(name: str) -> float:
            words = ("--base", stub.url, "--count", str(count), "--bound", str(ROUND_SECONDS))
            answer = bench.run("benchmarks.child", name, *words)
            return float(answer["done"] / answer["seconds"])

        one = partial(ours, "ours, batch of 1", STOCK_SYNC_DELIVERY_BATCH_SIZE="1")
        figures = bench.in_turn(
            "a second",
            {"ours": partial(ours, "ours")}
            | {name: partial(loop, word) for name, word in LOOPS.items()}
            | {"ours, batch of 1": one},
        )
    mine = figures["ours"]
    result.figures = list(figures.values())
    result.figures += [
        ratio("ours / requests, trust_env=False", mine, figures["requests, trust_env=False"]),
        ratio("ours / ours with a batch of 1", mine, figures["ours, batch of 1"]),
    ]
    result.goals = [
        Goal(ratio("ours / requests.Session().put", mine, figures["requests.Session().put"]), at_least=1.2),
        Goal(ratio("ours / urllib3", mine, figures["urllib3"]), at_least=0.8),
    ]
    result.notes = [
        f"the stub takes {top['one at a time']:,.0f}/s one at a time and {top['pipelined']:,.0f}/s pipelined",
        f"our connections: {seen['ours']}, with a batch of 1: {seen['ours, batch of 1']}",
    ]
    return result
