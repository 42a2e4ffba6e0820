"""`python -m benchmarks.web`: every page and call with 10,000 and with 1,000,000 operations, and 50 callers at once.

The server is the Procfile's gunicorn on a real database and Redis; requests of both sizes go in turn over one kept-alive
connection each. `wrk` (Debian's package) then asks the larger one for the overview and the list.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.bench import Bench, wait_for
from benchmarks.report import Figure, Goal, Result, ratio
from benchmarks.shop import fill, open_runtime
from stocksync.runtime import Runtime
from stocksync.store.operation_lists import Filter

LANES = 4
CONNECTIONS, SECONDS = 50, 30
MOST_MS = 100.0
"""What the slowest twentieth of all answers may take."""


def paths(runtime: Runtime) -> dict[str, str]:
    """What is asked for: name -> path."""
    row = runtime.operation_lists.page(Filter(status="pending"), datetime.now(UTC), limit=1).operations[0]
    api, order = "/api/v1/stock-sync", f"{row['token_id']}/{row['order_id']}"
    return {
        "overview": "/",
        "overview, a week": "/?span=7d",
        "operations": "/operations",
        "operations, completed": "/operations?status=completed",
        "operations, of a seller": "/operations?q=seller-3",
        "operations, of a SKU": "/operations?q=A",
        "operations, of an order": f"/operations?q={row['order_id']}",
        "operation": f"/operations/{row['id']}",
        "order": f"/orders/{order}",
        "stock": "/stock",
        "lanes": "/lanes",
        "reconciliation": "/reconciliation",
        "alerts": "/alerts",
        "API status": f"{api}/status",
        "API pending": f"{api}/pending?limit=200",
        "API operations": f"{api}/operations?limit=200",
        "API operations, completed": f"{api}/operations?status=completed&limit=200",
        "API operation": f"{api}/operations/{row['id']}",
        "API order": f"{api}/orders/{order}",
        "API discrepancies": f"{api}/discrepancies",
        "API alerts": f"{api}/alerts",
        "API lanes": f"{api}/lanes",
        "readyz": "/readyz",
        "metrics": "/metrics",
    }


class Server:
    """The page on one filled database."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def ask(self, path: str) -> float:
        """Milliseconds until the whole answer was there. Raises RuntimeError for an error."""
        started = time.perf_counter()
        try:
            self._connection.request("GET", path)
            answer = self._connection.getresponse()
        except http.client.RemoteDisconnected:  # idle for longer than it is kept
            self._connection.close()
            started = time.perf_counter()
            self._connection.request("GET", path)
            answer = self._connection.getresponse()
        body = answer.read()
        took = (time.perf_counter() - started) * 1000
        # Not ready is an answer too: nobody runs a worker here.
        if answer.status >= 400 and not (path == "/readyz" and answer.status == 503):
            raise RuntimeError(f"{path} was answered with {answer.status}: {body[:200]!r}")
        return took

    def answers(self) -> bool:
        """Whether it is up."""
        try:
            self.ask("/healthz")
        except OSError:
            self._connection.close()
            return False
        return True


@contextmanager
def serving(bench: Bench, url: str) -> Iterator[Server]:
    """gunicorn as the Procfile has it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = bench.start(
        "stocksync", "web", "--host", "127.0.0.1", "--port", str(port),
        environment={"DATABASE_URL": url, "REDIS_URL": bench.redis.url, "HOST": "127.0.0.1"},
        log=bench.folder / f"web-{port}.log",
    )  # fmt: skip
    server = Server(port)
    try:
        wait_for(server.answers)
        yield server
    finally:
        bench.end(process)


def measure(bench: Bench, kind: str) -> Result:
    """Every path against both sizes, and wrk against the larger."""
    small, large = 10_000, (100_000 if bench.quick else 1_000_000)
    result = Result(f"web, {kind}", f"pages and calls with {large:,} and with {small:,} operations")
    with ExitStack() as made:
        servers: dict[int, Server] = {}
        asked: dict[int, dict[str, str]] = {}
        for size in (small, large):
            url = made.enter_context(bench.database(kind))
            with open_runtime(url) as runtime:
                started = time.monotonic()
                fill(runtime.database, size, done=True, lanes=LANES)
                fill(runtime.database, 200, era="b")
                asked[size] = paths(runtime)
            result.notes.append(f"{size:,} operations filled in {time.monotonic() - started:.0f} s")
            servers[size] = made.enter_context(serving(bench, url))
        every: list[float] = []
        for name in asked[small]:
            times: dict[int, list[float]] = {size: [] for size in servers}
            for number in range(3 + 20 * bench.rounds):
                for size, server in servers.items():
                    took = server.ask(asked[size][name])
                    if number >= 3:
                        times[size].append(took)
            every += times[large]
            figures = {
                size: Figure(f"{name}, {size:,}", "ms", _medians(took)) for size, took in times.items()
            }
            result.figures.append(figures[large])
            result.goals.append(Goal(ratio(name, figures[large], figures[small]), at_most=2.0))
        slow = statistics.quantiles(every, n=20)[-1]
        result.goals.append(Goal(Figure("p95 of all answers", "ms", [slow]), at_most=MOST_MS))
        _load(bench, servers[large], asked[large], result)
    return result


def _medians(times: list[float]) -> list[float]:
    """Of every twenty in a row."""
    return [statistics.median(times[start : start + 20]) for start in range(0, len(times), 20)]


def _load(bench: Bench, server: Server, asked: dict[str, str], result: Result) -> None:
    wrk = shutil.which("wrk")
    if wrk is None:
        result.skipped.append("wrk is not installed (Debian: apt-get install wrk)")
        return
    seconds = 5 if bench.quick else SECONDS
    for name in ("overview", "operations", "API operations"):
        out = subprocess.run(
            [wrk, "-t2", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", "--timeout", "10s",
             f"http://127.0.0.1:{server.port}{asked[name]}"],
            capture_output=True, text=True, check=True, timeout=seconds + 60,
        ).stdout  # fmt: skip
        faults = re.findall(r"Socket errors: .*|Non-2xx or 3xx responses: \d+", out)
        rate = float(re.findall(r"Requests/sec:\s+([\d.]+)", out)[0])
        result.figures.append(Figure(f"{name}, {CONNECTIONS} callers", "answers/s", [rate]))
        result.goals.append(Goal(Figure(f"{name}, errors under load", "", [float(len(faults))]), at_most=0))
        result.notes += [f"wrk, {name}: {fault}" for fault in faults]


def main(arguments: list[str] | None = None) -> int:
    """Run it on both databases; 0 when every goal was met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.web", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of twenty requests each (default 3)")
    parser.add_argument("--quick", action="store_true", help="100,000 operations, a short load")
    parser.add_argument("--only", choices=("SQLite", "PostgreSQL"))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--dir", type=Path, help="where the databases are made")
    given = parser.parse_args(arguments)
    results = []
    with tempfile.TemporaryDirectory(prefix="stocksync-bench-", dir=given.dir) as folder:
        bench = Bench(Path(folder), given.rounds, given.quick)
        try:
            for kind, missing in bench.databases().items():
                if given.only not in (None, kind):
                    continue
                print(f"{kind} ...", file=sys.stderr, flush=True)
                result = (
                    Result(f"web, {kind}", "skipped", skipped=[missing]) if missing else measure(bench, kind)
                )
                results.append(result)
                if not given.json:
                    print("\n".join(result.lines()), flush=True)
        finally:
            bench.close()
    if given.json:
        print(json.dumps({"results": [result.as_dict() for result in results], "load": os.getloadavg()[0]}))
    return 0 if all(goal.met for result in results for goal in result.goals) else 1


if __name__ == "__main__":
    sys.exit(main())
