"""What is asked of a shop with a long history: by workers and callers, by the page with each filter and sorting."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from benchmarks.history_statements import POPULAR, WAREHOUSE
from benchmarks.shop import LANE, fill
from stocksync.runtime import Runtime
from stocksync.store.operation_lists import Filter
from stocksync.store.states import STATUSES

BATCH = 200


class Spy:
    """Notes what a database was asked and how long it took."""

    def __init__(self, database: Any) -> None:
        self._execute = database.execute_sql
        self._database = database
        self._seen: list[tuple[float, str, Any]] = []
        database.execute_sql = self._executed

    def _executed(self, sql: str, params: Any = None, *more: Any, **named: Any) -> Any:
        began = time.perf_counter()
        answer = self._execute(sql, params, *more, **named)
        self._seen.append((time.perf_counter() - began, sql, params))
        return answer

    def forget(self) -> None:
        """Begin anew."""
        self._seen.clear()

    def slowest(self) -> dict[str, Any] | None:
        """The SELECT that took most of the time since, with its plan; None: there was none."""
        times: dict[str, list[float]] = {}
        given = {}
        for took, sql, params in self._seen:
            if (
                sql.lstrip().upper().startswith(("SELECT", "WITH"))
                and "UPDATE" not in sql
                and "DELETE" not in sql
            ):
                times.setdefault(sql, []).append(took)
                given[sql] = params
        if not times:
            return None
        sql = max(times, key=lambda sql: sum(times[sql]))
        seconds, params = statistics.median(times[sql]), given[sql]
        explain = "EXPLAIN QUERY PLAN " if self._database.dialect.name == "sqlite" else "EXPLAIN (ANALYZE) "
        with self._database.scope():
            plan = self._execute(explain + sql, params).fetchall()
        said = [f"  {row[-1]}"[:200] for row in plan[:20]]
        return {"ms": seconds * 1000, "statement": " ".join(sql.split())[:600], "plan": said}


def _timed(act: Callable[..., Any], *given: Any, **named: Any) -> float:
    began = time.perf_counter()
    act(*given, **named)
    return time.perf_counter() - began


def tasks(runtime: Runtime) -> dict[str, Callable[[], float]]:
    """What workers, callers and upkeep do: name -> does it once and answers with its seconds."""
    numbers = count(1)
    claimed: list[Any] = []

    def claim() -> float:
        fill(runtime.database, BATCH, era="b", first=next(numbers) * BATCH)
        began = time.perf_counter()
        claimed[:] = runtime.deliveries.claim(LANE, BATCH)
        took = time.perf_counter() - began
        if len(claimed) != BATCH:
            raise RuntimeError(f"{len(claimed)} of {BATCH} orders were claimed")
        settled.append(_settle(runtime, claimed))
        return took

    settled: list[float] = []
    record, process = runtime.service.sync_stock_deduction, runtime.orders.process_order_stock_update
    runtime.inventory.add("FORM", WAREHOUSE, 1_000_000)
    return {
        f"claim {BATCH}": claim,
        f"settle {BATCH}": lambda: settled.pop(0),
        "record a call": lambda: _timed(record, "seller-2", f"called-{next(numbers)}", "CALLED", 1),
        "record a form of two lines, our stock": lambda: _timed(
            process, _form(next(numbers)), warehouse=WAREHOUSE
        ),
        "sweep": lambda: _timed(runtime.periodic.sweep),
        "monitor's figures": lambda: _timed(runtime.queries.status, datetime.now(UTC), 6),
        **_reconciliation(runtime),
    }


def _settle(runtime: Runtime, claimed: Sequence[Any]) -> float:
    for order in claimed:
        order.duration_ms = 1
    began = time.perf_counter()
    done = runtime.deliveries.settle(claimed, datetime.now(UTC)).figures["operations_completed"]
    if done != BATCH:
        raise RuntimeError(f"{done} of {BATCH} operations were completed")
    return time.perf_counter() - began


def _form(number: int) -> dict[str, Any]:
    return {
        "id": f"00000000-3333-4000-8000-{number:012x}",
        "token_id": "seller-3",
        "status": "READY_FOR_PROCESSING",
        "revision": "1",
        "updatedAt": datetime.now(UTC).isoformat(),
        "lineItems": [
            {
                "id": f"{line:08x}-4444-4000-8000-{number:012x}",
                "quantity": 1,
                "offer": {"id": "1", "external": {"id": "FORM"}},
            }
            for line in (1, 2)
        ],
    }


def _reconciliation(runtime: Runtime) -> dict[str, Callable[[], float]]:
    """A page of the remote's list compared, and what of ours it did not list."""
    records, now = runtime.reconciliation.records, datetime.now(UTC)
    run = records.find(status="complete")
    assert run is not None
    run.since = now - timedelta(days=7)  # type: ignore[assignment]
    rows = runtime.operation_lists.page(Filter(token_id=run.token_id), now, limit=200).operations
    names = list(dict.fromkeys(row["order_id"] for row in rows))[:100]
    return {
        "reconcile: a page of 100": lambda: _timed(records.ours, run.token_id, names, now),
        "reconcile: what the remote did not list": lambda: _timed(records.unlisted, run, UUID(int=0), now),
    }


def paths(runtime: Runtime) -> dict[str, str]:
    """Pages and calls: what stands in the report -> path."""
    lists, now = runtime.operation_lists, datetime.now(UTC)
    newest = lists.page(Filter(status="completed"), now, limit=50).operations
    row = next(each for each in newest if each["sku"] != POPULAR)
    rare = row["sku"]
    api = "/api/v1/stock-sync"
    lane, order = row["token_id"], row["order_id"]
    filters: list[dict[str, Any]] = [
        {},
        *({"status": status} for status in STATUSES),
        *({"q": text} for text in ("seller-3", POPULAR, rare, order)),
        {"error": "Rejected"},
        *({"age": age} for age in ("hour", "day", "week", "older", "stale")),
        {"doubt": 1},
        *({"status": status, "q": POPULAR} for status in ("failed", "cancelled", "completed")),
        *({"status": status, "q": "seller-3"} for status in ("failed", "cancelled")),
        {"status": "completed", "q": rare},
        {"status": "completed", "age": "older"},
        {"status": "cancelled", "age": "hour"},
        {"error": "Rejected", "q": POPULAR},
        {"page": 2000},
        {"status": "completed", "page": 2000},
        {"q": POPULAR, "page": 200},
        *({"q": rare, "sort": sort} for sort in ("created_at", "status", "-error_class", "retry_count")),
        *({"sort": "created_at", **more} for more in ({}, {"status": "completed"}, {"q": POPULAR})),
        {"status": "failed", "sort": "-retry_count"},
        {"age": "week", "sort": "created_at"},
    ]
    found = {_name(wanted): f"/operations?{urlencode(wanted)}" for wanted in filters}
    week = urlencode({"since": (now - timedelta(days=20)).isoformat(), "until": now.isoformat()})
    found |= {
        name: name
        for name in (
            "/", "/?span=1h", "/?span=7d", "/operations/all/retry?status=failed", "/stock", f"/stock?q={rare}",
            "/stock?sort=-on_hand", f"/stock/sku?sku={POPULAR}", f"/stock/sku?sku={rare}", "/lanes",
            "/reconciliation", "/reconciliation?status=gone", "/alerts", "/metrics", "/readyz", f"{api}/status",
            f"{api}/operations?limit=200", f"{api}/operations?status=completed&limit=200",
            f"{api}/operations?sku={POPULAR}&limit=200", f"{api}/discrepancies", f"{api}/lanes",
        )
    }  # fmt: skip
    return found | {
        "order's story": f"/orders/{lane}/{order}",
        "operation's story": f"/operations/{row['id']}",
        f"{api}/operations, of 20 days": f"{api}/operations?limit=200&{week}",
        f"{api}/operations, by cursor": f"{api}/operations?limit=200&cursor={row['id']}",
        f"{api}/orders/…": f"{api}/orders/{lane}/{order}",
    }


def _name(wanted: dict[str, Any]) -> str:
    said = " ".join(f"{name}={str(value)[:12]}" for name, value in wanted.items())
    return f"operations {said}".strip()
