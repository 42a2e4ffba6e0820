"""`/healthz`, `/readyz` and `/metrics`: what machines ask. Figures come from the database, so every process says the same."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from types import SimpleNamespace
from typing import Any, cast

from flask import Blueprint, Response, jsonify, request
from peewee import PeeweeException
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from redis.exceptions import RedisError

from stocksync.errors import SchemaBehind, StockSyncError
from stocksync.store.tallies import TOOK_BOUNDS, WAIT_BOUNDS, Counts
from stocksync.web.frame import runtime

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def healthz() -> Any:
    """The process lives; says nothing of its parts."""
    return jsonify(status="ok")


@blueprint.get("/readyz")
def readyz() -> Any:
    """Every part with `ok` or what is wrong, without names of hosts; 503 where one is wrong."""
    now = runtime.clock()
    schema, _none = asked(runtime.require_schema)
    redis, alive = asked(runtime.processes_alive)
    deliveries, oldest = asked(lambda: runtime.queries.oldest_due(now))
    waits = max(now - oldest, timedelta()) if oldest else timedelta()
    # An order that is due for longer while the remote is asked, and that nobody takes, is a fault.
    if waits > timedelta(minutes=10) and runtime.breaker.open_until() is None:
        deliveries = "not taken"
    parts: dict[str, dict[str, Any]] = {
        "database": {"status": "ok" if schema == "behind" else schema},
        "schema": {"status": schema},
        "redis": {"status": redis},
        **{
            name: {"status": ("ok" if alive[name] else "silent") if alive else "unknown"}
            for name in ("worker", "scheduler")
        },
        "deliveries": {"status": deliveries, "oldest_due_seconds": round(waits.total_seconds())},
    }
    well = all(part["status"] == "ok" for part in parts.values())
    return jsonify(status="ok" if well else "failing", parts=parts), 200 if well else 503


def asked(ask: Callable[[], Any]) -> tuple[str, Any]:
    """What a part comes to, and what it answered with."""
    try:
        return "ok", ask()
    except SchemaBehind:
        return "behind", None
    except (RedisError, OSError, PeeweeException, StockSyncError):
        return "does not answer", None


@blueprint.get("/metrics")
def metrics() -> Any:
    """For Prometheus."""
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return Response(encode(cast(Any, SimpleNamespace(collect=_families))), content_type=content_type)


def _families() -> Iterator[Any]:
    """Every figure, by its family; a family without label has one figure."""
    now, config = runtime.clock(), runtime.config
    counts, lanes = runtime.tallies.since(datetime(1970, 1, 1, tzinfo=UTC)), runtime.queries.lanes()
    state = runtime.queries.status(now, config.monitoring_stale_operation_hours)
    oldest, alerts = runtime.queries.oldest_due(now), runtime.alerts.kinds_open()
    counter, gauge = CounterMetricFamily, GaugeMetricFamily
    figures: tuple[tuple[Any, str, str, str | None, dict[str, Any] | float], ...] = (
        (counter, "operations_delivered", "Operations delivered, by whether the first attempt did it.",
         "first_attempt", {"true": counts["at_once"], "false": counts["retried"]}),
        (counter, "operations_given_up", "Operations given up: they ended as failed.", None, counts["given_up"]),
        (counter, "orders_rescued", "Orders taken back from workers that died.", None, counts["rescued"]),
        (counter, "requests", "Requests to the remote, one an order, by result; a deferred one counts as no attempt.",
         "result", {name: counts[name] for name in ("delivered", "failed", "deferred")}),
        (gauge, "operations", "Operations by status.", "status", state["operations"]),
        (gauge, "stale_operations", "Operations pending for longer than STOCK_SYNC_MONITORING_STALE_OPERATION_HOURS.",
         None, state["statistics"]["stale_operations"]),
        (gauge, "orders_waiting", "Orders that wait for delivery, by lane.",
         "lane", {lane["token_id"]: lane["orders_waiting"] for lane in lanes}),
        (gauge, "lane_paused", "1 while a lane is paused; a person resumes it.",
         "lane", {lane["token_id"]: int(lane["paused"]) for lane in lanes}),
        (gauge, "oldest_due_seconds", "Seconds for which the order that waits longest has been due.", None,
         max(0.0, (now - oldest).total_seconds()) if oldest else 0),
        (gauge, "lost_orders", "Orders with something to deliver that nobody will deliver.", None, state["lost"]),
        (gauge, "breaker_open", "1 while the breaker is open: the remote is not asked.", None, int(runtime.breaker.open_until() is not None)),
        (gauge, "discrepancies_open", "Differences between us and the remote that wait for a person.", None,
         runtime.reconciliation.records.count_open()),
        (gauge, "alerts_open", "Open alerts by kind.", "kind", alerts),
    )  # fmt: skip
    for family_of, name, said, label, values in figures:
        family = family_of(f"stocksync_{name}", said, labels=[label] if label else [])
        for label_value, value in values.items() if isinstance(values, dict) else [(None, values)]:
            family.add_metric([label_value] if label else [], value)
        yield family
    yield _histogram("wait_seconds", "Seconds from the recording of an operation to its delivery.",
                     counts, "wait", WAIT_BOUNDS, 1)  # fmt: skip
    yield _histogram(
        "request_seconds", "Seconds that one request to the remote took.", counts, "took", TOOK_BOUNDS, 1000
    )


def _histogram(
    name: str, said: str, counts: Counts, prefix: str, bounds: Sequence[int], per_second: int
) -> HistogramMetricFamily:
    return HistogramMetricFamily(
        f"stocksync_{name}",
        said,
        buckets=list(
            zip(
                [*(str(bound / per_second) for bound in bounds), "+Inf"],
                accumulate(float(counts[f"{prefix}_le_{bound}"]) for bound in (*bounds, "inf")),
                strict=True,
            )
        ),
        sum_value=counts[f"{prefix}_ms"] / 1000,
    )
