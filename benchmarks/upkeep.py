"""Audit and clean-up of a large shop, with deliveries beside them: `python -m benchmarks.upkeep [--rows N]`.

Prints for each database the seconds of the audit and of the clean-up, its longest batch, and the longest that a
call of the deliveries beside it (another process: a sale, a claim, a settlement) took, alone and with it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from benchmarks.bench import Bench
from benchmarks.shop import LANE, fill, open_runtime
from stocksync.runtime import Runtime
from stocksync.store.audit import audit, per_lane

_ALONE = 10.0
_WAREHOUSE = "Ирина"


def measure(bench: Bench, kind: str, rows: int) -> dict[str, Any]:
    """All figures of one kind of database; times in seconds."""
    with bench.database(kind) as url, open_runtime(url) as runtime:
        database = runtime.database
        began = time.monotonic()
        runtime.inventory.add("B", _WAREHOUSE, 10_000_000)
        fill(database, rows, done=True, lanes=5, ours=True, days_ago=45)
        with database.transaction_scope():
            database.execute_sql(
                "INSERT INTO stock_sync_levels (warehouse, sku, on_hand, allow_negative, updated_at)"
                f" SELECT warehouse, 'A', -{rows}, TRUE, updated_at FROM stock_sync_levels WHERE sku = 'B'"
            )
        told: dict[str, Any] = {"database": kind, "operations": rows, "fill": _seconds(began)}
        told["audit"] = _audit(runtime)
        told["alone"] = _beside(bench, url, lambda: time.sleep(_ALONE))
        told["dry run"], _ = _clean_up(runtime, dry_run=True)
        told["beside the audit"] = _beside(bench, url, lambda: _audit(runtime))
        told["beside the clean-up"] = _beside(
            bench, url, lambda: told.update(zip(("clean-up", "report"), _clean_up(runtime), strict=True))
        )
        told["audit afterwards"] = _audit(runtime)
    return told


def _audit(runtime: Runtime) -> dict[str, float]:
    began = time.monotonic()
    findings = audit(runtime.database)
    asked = _seconds(began)
    if findings:
        raise RuntimeError(f"the audit found {findings}")
    began = time.monotonic()
    per_lane(runtime.database)
    return {"questions": asked, "lanes": _seconds(began)}


def _clean_up(runtime: Runtime, *, dry_run: bool = False) -> tuple[float, dict[str, Any]]:
    began = time.monotonic()
    report = runtime.periodic.cleanup(dry_run=dry_run)
    return _seconds(began), report


def _beside(bench: Bench, url: str, act: Callable[[], object]) -> dict[str, Any]:
    """What deliveries in another process saw while `act` ran: calls, and the longest of each in milliseconds."""
    child = bench.start("benchmarks.upkeep", "--deliver", url)
    assert child.stdout is not None
    child.stdout.readline()
    act()
    out, _ = child.communicate("\n", timeout=60)
    answer: dict[str, Any] = json.loads(out)
    return answer


def deliver(url: str) -> None:
    """Sell, claim and settle, a few orders at a time, until a line comes in."""
    stop = threading.Event()
    with open_runtime(url) as runtime:
        times: dict[str, list[float]] = {"sale": [], "claim": [], "settle": []}

        def timed(name: str, call: Callable[..., Any], *given: Any, **more: Any) -> Any:
            began = time.perf_counter()
            result = call(*given, **more)
            times[name].append((time.perf_counter() - began) * 1000)
            return result

        print("ready", flush=True)
        threading.Thread(target=_set_at_a_line, args=(stop,), daemon=True).start()
        sold = runtime.inventory_with_sync.remove_as_sale_with_sync
        with runtime.database.scope():
            while not stop.is_set():
                order = str(uuid4())
                timed("sale", sold, "B", _WAREHOUSE, 1, order, LANE, line_item_id="1")
                now = datetime.now(UTC)
                claim = timed("claim", runtime.deliveries.claim, LANE, 200)
                for claimed in claim:
                    claimed.duration_ms = 1
                timed("settle", runtime.deliveries.settle, claim, now)
                time.sleep(0.005)
        said = {name: round(max(values), 1) for name, values in times.items()}
        every = sorted(value for values in times.values() for value in values)
        said |= {"p99": round(every[len(every) * 99 // 100], 1), "calls": len(every)}
        said["over_100_ms"] = sum(value > 100 for value in every)
    print(json.dumps(said))


def _seconds(began: float) -> float:
    return round(time.monotonic() - began, 1)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.upkeep")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--only", choices=["SQLite", "PostgreSQL"])
    parser.add_argument("--deliver", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.deliver:
        deliver(given.deliver)
        return
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        try:
            for kind, missing in bench.databases().items():
                if given.only in (None, kind):
                    print(
                        json.dumps({kind: missing} if missing else measure(bench, kind, given.rows)),
                        flush=True,
                    )
        finally:
            bench.close()


def _set_at_a_line(stop: threading.Event) -> None:
    sys.stdin.readline()
    stop.set()


if __name__ == "__main__":
    main()
