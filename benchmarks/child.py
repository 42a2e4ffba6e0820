"""What one contender does in a process of its own: `python -m benchmarks.child NAME ...`; prints one JSON object.

The loops send what our engine sends (path, body, headers), one after another, and keep nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

_HEADERS = {"Content-Type": "application/json", "Accept": "application/json", "Authorization": "Bearer bench"}


def _requests_put(base: str, *, trust_env: bool) -> Callable[[str], None]:
    import requests

    session = requests.Session()
    session.trust_env = trust_env
    session.headers.update(_HEADERS)

    def put(order_id: str) -> None:
        document = {"token_id": "seller-1", "is_stock_updated": True}
        headers = {"Idempotency-Key": f"seller-1:{order_id}:1"}
        answer = session.put(
            f"{base}/orders/{order_id}/stock-status", json=document, headers=headers, timeout=8
        )
        if answer.json()["success"] is not True:
            raise RuntimeError(answer.text)

    return put


def _urllib3_put(base: str) -> Callable[[str], None]:
    import urllib3

    pool = urllib3.PoolManager()

    def put(order_id: str) -> None:
        body = json.dumps({"token_id": "seller-1", "is_stock_updated": True})
        headers = _HEADERS | {"Idempotency-Key": f"seller-1:{order_id}:1"}
        url = f"{base}/orders/{order_id}/stock-status"
        answer = pool.request("PUT", url, body=body, headers=headers, timeout=8, retries=False)
        if answer.json()["success"] is not True:
            raise RuntimeError(answer.data)

    return put


def _loop(put: Callable[[str], None], count: int, bound: float) -> dict[str, Any]:
    put("warm")
    started = time.monotonic()
    done = 0
    while done < count and time.monotonic() - started < bound:
        put(f"order-{done}")
        done += 1
    return {"done": done, "seconds": time.monotonic() - started}


def _drain(count: int, bound: float, profile: str | None) -> dict[str, Any]:
    """Our engine, slice after slice, until nothing is due."""
    from benchmarks.shop import LANE
    from stocksync.config import StockSyncConfig
    from stocksync.runtime import Runtime
    from stocksync.store.context import Wakeups

    runtime = Runtime(StockSyncConfig.load(), wakeups=Wakeups())
    concurrency = []
    profiler = None
    if profile:
        import cProfile

        profiler = cProfile.Profile()
    with runtime.database.scope():
        _ = runtime.engine
        print("ready", flush=True)
        sys.stdin.readline()
        if profiler:
            profiler.enable()
        done, started = 0, time.monotonic()
        while done < count and time.monotonic() - started < bound:
            report = runtime.engine.drain(LANE, lambda: time.monotonic() - started > bound)
            done += report.figures["delivered"]
            concurrency.append(report.concurrency)
            if report.next_due is None or not report.figures["delivered"]:
                break
        ended = time.monotonic()
        if profiler:
            profiler.disable()
            profiler.dump_stats(str(profile))
    runtime.close()
    spent = os.times()
    return {
        "done": done,
        "seconds": ended - started,
        "started": started,
        "ended": ended,
        "concurrency": max(concurrency),
        "cpu": spent.user + spent.system,
    }


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=["requests", "requests-no-env", "urllib3", "drain"])
    parser.add_argument("--base", default="")
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--bound", type=float, default=60.0)
    parser.add_argument("--profile")
    given = parser.parse_args()
    if given.name == "drain":
        answer = _drain(given.count, given.bound, given.profile)
    elif given.name == "urllib3":
        answer = _loop(_urllib3_put(given.base), given.count, given.bound)
    else:
        put = _requests_put(given.base, trust_env=given.name == "requests")
        answer = _loop(put, given.count, given.bound)
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
