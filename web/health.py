"""`/healthz`, `/readyz` and `/metrics`: what machines ask. Figures come from the database, so every process says the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from flask import Blueprint, Response, current_app, jsonify, request
from peewee import PeeweeException
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from redis.exceptions import RedisError

from stocksync.errors import SchemaBehind, StockSyncError
from stocksync.runtime import Runtime
from stocksync.store.alerts import Conditions
from stocksync.store.tallies import TOOK_BOUNDS, WAIT_BOUNDS, Counts

blueprint = Blueprint("health", __name__)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NOT_TAKEN = timedelta(minutes=10)
"""An order that is due for longer while the remote is asked, and that nobody takes, is a fault."""


@blueprint.get("/healthz")
def healthz() -> Any:
    """The process lives; says nothing of its parts."""
    return jsonify(status="ok")


@blueprint.get("/readyz")
def readyz() -> Any:
    """Every part with `ok` or what is wrong, without names of hosts; 503 where one is wrong."""
    at = _runtime()
    parts = readiness(at)
    well = all(part["status"] == "ok" for part in parts.values())
    return jsonify(status="ok" if well else "failing", parts=parts), 200 if well else 503


@blueprint.get("/metrics")
def metrics() -> Any:
    """For Prometheus."""
    collector: Any = _Collector(_runtime())
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return Response(encode(collector), content_type=content_type)


def readiness(at: Runtime) -> dict[str, dict[str, Any]]:
    """The parts: database, schema, redis, worker, scheduler, deliveries; each with `status`."""
    parts: dict[str, dict[str, Any]] = {}
    schema = _said(at.require_schema)
    parts["database"] = {"status": "ok" if schema in ("ok", "behind") else schema}
    parts["schema"] = {"status": schema}
    heard: dict[str, bool] = {}
    parts["redis"] = {"status": _said(lambda: heard.update(at.heard_from()))}
    for process in ("worker", "scheduler"):
        silent = "unknown" if not heard else "silent"
        parts[process] = {"status": "ok" if heard.get(process) else silent}
    oldest: list[datetime | None] = []
    said = _said(lambda: oldest.append(Conditions(at.context).oldest_due(at.clock())))
    waits = max(at.clock() - oldest[0], timedelta()) if oldest and oldest[0] else timedelta()
    stuck = waits > _NOT_TAKEN and at.breaker.open_until() is None
    parts["deliveries"] = {
        "status": "not taken" if stuck else said,
        "oldest_due_seconds": round(waits.total_seconds()),
    }
    return parts


class _Collector:
    def __init__(self, at: Runtime) -> None:
        self._at = at

    def collect(self) -> Iterator[Metric]:
        at, now = self._at, self._at.clock()
        with at.database.scope():
            counts, lanes = at.tallies.since(_EPOCH), at.queries.lanes()
            state = at.queries.status(now, at.config.monitoring_stale_operation_hours)
            oldest, alerts = Conditions(at.context).oldest_due(now), at.alerts.kinds_open()
            differences = at.reconciliation.records.count_open()
        yield _counter("operations_delivered", "Operations that the remote was told of, by whether an attempt had failed.",
                       "first_attempt", {"true": counts["at_once"], "false": counts["retried"]})  # fmt: skip
        yield _counter("operations_given_up", "Operations that ended as failed.", None, counts["given_up"])
        yield _counter("orders_rescued", "Orders that a dead worker had left.", None, counts["rescued"])
        yield _counter("requests", "Orders sent to the remote, by what came of it.",
                       "result", {name: counts[name] for name in ("delivered", "failed", "put_off")})  # fmt: skip
        yield _histogram("wait_seconds", "From being recorded to being delivered, of operations.",
                         counts, "wait", WAIT_BOUNDS, 1)  # fmt: skip
        yield _histogram(
            "request_seconds", "Of one request to the remote.", counts, "took", TOOK_BOUNDS, 1000
        )
        yield _gauge("operations", "Operations by status.", "status", state["operations"])
        yield _gauge("stale_operations", "Pending for longer than the setting allows.", None,
                     state["statistics"]["stale_operations"])  # fmt: skip
        yield _gauge("orders_waiting", "Orders that wait for delivery, by lane.",
                     "lane", {lane["token_id"]: lane["orders_waiting"] for lane in lanes})  # fmt: skip
        yield _gauge("lane_paused", "1: a person has to resume it.",
                     "lane", {lane["token_id"]: int(lane["paused"]) for lane in lanes})  # fmt: skip
        yield _gauge("oldest_due_seconds", "For how long the order that waits longest has been due.", None,
                     max(0.0, (now - oldest).total_seconds()) if oldest else 0)  # fmt: skip
        yield _gauge(
            "lost_orders", "Orders with something to tell that nobody will tell.", None, state["lost"]
        )
        yield _gauge(
            "breaker_open", "1: the remote is not asked.", None, int(at.breaker.open_until() is not None)
        )
        yield _gauge("discrepancies_open", "Differences that wait for a person.", None, differences)
        yield _gauge("alerts_open", "Alerts by kind.", "kind", alerts)


def _counter(name: str, said: str, label: str | None, values: Any) -> Metric:
    return _filled(
        CounterMetricFamily(f"stocksync_{name}", said, labels=[label] if label else []), label, values
    )


def _gauge(name: str, said: str, label: str | None, values: Any) -> Metric:
    return _filled(
        GaugeMetricFamily(f"stocksync_{name}", said, labels=[label] if label else []), label, values
    )


def _filled(family: Any, label: str | None, values: Any) -> Metric:
    for name, value in values.items() if label else (("", values),):
        family.add_metric([name] if label else [], value)
    metric: Metric = family
    return metric


def _histogram(
    name: str, said: str, counts: Counts, prefix: str, bounds: Sequence[int], per_second: int
) -> Metric:
    total, buckets = 0, []
    for bound in bounds:
        total += counts[f"{prefix}_le_{bound}"]
        buckets.append((str(bound / per_second), float(total)))
    buckets.append(("+Inf", float(total + counts[f"{prefix}_le_inf"])))
    family = HistogramMetricFamily(f"stocksync_{name}", said)
    family.add_metric([], buckets, sum_value=counts[f"{prefix}_ms"] / 1000)
    return family


def _said(ask: Callable[[], object]) -> str:
    try:
        ask()
    except SchemaBehind:
        return "behind"
    except (RedisError, OSError, PeeweeException, StockSyncError):
        return "does not answer"
    return "ok"


def _runtime() -> Runtime:
    at: Runtime = current_app.extensions["stocksync"]()
    return at
