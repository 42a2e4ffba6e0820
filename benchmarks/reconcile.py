"""`python -m benchmarks.reconcile`: 100,000 orders at the remote compared in one run: requests, statements, memory, time."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench
from benchmarks.report import Figure, Goal, Result
from benchmarks.shop import LANE, fill, open_runtime
from stocksync.runtime import Runtime
from stocksync.sandbox import Sandbox

PAGE = 500


def measure(bench: Bench, kind: str, orders: int) -> Result:
    """One run over equal sides but for seven orders that the remote forgot."""
    result = Result(f"reconcile, {kind}", f"{orders:,} orders at the remote, pages of {PAGE}")
    with bench.database(kind) as url, Sandbox(token="bench") as sandbox:
        settings = {
            "ALLEGRO_MICROSERVICE_BASE_URL": sandbox.url,
            "ALLEGRO_MICROSERVICE_JWT_TOKEN": "bench",
            "STOCK_SYNC_RECONCILIATION_BATCH_SIZE": str(PAGE),
        }
        with open_runtime(url, None, **settings) as runtime:
            fill(runtime.database, orders, done=True)
            now = datetime.now(UTC).isoformat()
            with runtime.database.scope():
                runtime.database.execute_sql(f"UPDATE stock_sync_orders SET last_attempt_at = '{now}'")
            for number in range(1, orders + 1):
                sandbox._set(LANE, f"aorder-{number}", number > 7)
            time.sleep(1.1)  # the grace time
            asked = _Statements(runtime.database)
            started = time.perf_counter()
            with runtime.database.scope():
                report = runtime.reconciliation.run(LANE)
            seconds = time.perf_counter() - started
            requests, statements = sandbox.stats()["requests"]["GET"], asked.count
            peaks = {dry: _peak_mb(runtime, dry_run=dry) for dry in (False, True)}
    if (report["status"], report["fixed"], report["checked"]) != ("complete", 7, orders):
        raise RuntimeError(f"the run came to {report['status']}, {report['fixed']} of {report['checked']}")
    pages = report["pages"]
    result.figures = [
        Figure("seconds", "s", [seconds]),
        Figure("orders a second", "1/s", [orders / seconds]),
        Figure("statements", "", [float(statements)]),
    ]
    result.goals = [
        Goal(Figure("requests beside pages and repairs", "", [float(requests - pages - 7)]), at_most=0),
        Goal(Figure("statements a page", "", [statements / pages]), at_most=8),
        Goal(Figure("memory at the peak, a run", "MB", [peaks[False]]), at_most=15),
        Goal(Figure("memory at the peak, a dry run", "MB", [peaks[True]]), at_most=30),
    ]
    return result


class _Statements:
    """Counts what a database is asked."""

    def __init__(self, database: Any) -> None:
        self.count = 0
        ask = database.execute_sql

        def counted(*args: Any, **more: Any) -> Any:
            self.count += 1
            return ask(*args, **more)

        database.execute_sql = counted


def _peak_mb(runtime: Runtime, *, dry_run: bool) -> float:
    """Of what one more run holds at once, the sandbox's answers included."""
    tracemalloc.start()
    with runtime.database.scope():
        runtime.reconciliation.run(LANE, dry_run=dry_run)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1024 / 1024


def main(arguments: list[str] | None = None) -> int:
    """Run it on both databases; 0 when every goal was met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reconcile", description=__doc__)
    parser.add_argument("--orders", type=int, default=100_000)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    results = []
    with tempfile.TemporaryDirectory(prefix="stocksync-bench-") as folder:
        bench = Bench(Path(folder), 1)
        try:
            for kind, missing in bench.databases().items():
                results.append(
                    Result(kind, "skipped", skipped=[missing])
                    if missing
                    else measure(bench, kind, given.orders)
                )
                if not given.json:
                    print("\n".join(results[-1].lines()), flush=True)
        finally:
            bench.close()
    if given.json:
        print(json.dumps({"results": [result.as_dict() for result in results]}))
    return 0 if all(goal.met for result in results for goal in result.goals) else 1


if __name__ == "__main__":
    sys.exit(main())
