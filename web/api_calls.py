"""The calls of the API, which the monolith's developers make: each view answers with rows, shown as one model."""

import logging
import time
from collections.abc import Callable
from functools import wraps
from typing import Any

from flask import Response, abort
from flask_openapi3 import APIBlueprint

from stocksync.orders.checkout_form import CheckoutForm
from stocksync.orders.interventions import LONGEST, act_on, matching
from stocksync.store.operation_lists import Filter
from stocksync.upkeep.alert_texts import text
from stocksync.web import api_answers as answers
from stocksync.web.api_requests import (
    AlertPath,
    AlertsQuery,
    BulkQuery,
    CancelAllQuery,
    CancelQuery,
    ConfirmQuery,
    DifferencePath,
    DifferencesQuery,
    LanePath,
    OperationPath,
    OperationsQuery,
    OrderPath,
    PendingQuery,
    ProcessQuery,
    ReasonQuery,
    ReconcileQuery,
    RetryAllQuery,
    WhyQuery,
)
from stocksync.web.auth import actor
from stocksync.web.request_context import runtime

log = logging.getLogger(__name__)

_COMMON: dict[str, Any] = {
    "abp_responses": dict.fromkeys((400, 401, 403, 404, 429, 503), answers.Fault),
    "abp_security": [{"key": []}],
}
stock_sync = APIBlueprint("stock_sync", __name__, url_prefix="/api/v1/stock-sync", **_COMMON)
orders = APIBlueprint("api_orders", __name__, url_prefix="/api/v1/orders", **_COMMON)


def call(
    route: Callable[..., Any], rule: str, answer: Any, *faults: int
) -> Callable[[Callable[..., Any]], Any]:
    """Decorator of a view, for one call: what the view returns is shown as `answer`; it may end with `faults` too."""

    def decorate(view: Callable[..., Any]) -> Any:
        @wraps(view)
        def shown(**given: Any) -> Response:
            return Response(
                answer.model_validate(view(**given)).model_dump_json(), mimetype="application/json"
            )

        return route(rule, responses={200: answer, **dict.fromkeys(faults, answers.Fault)})(shown)

    return decorate


# How things stand


@call(stock_sync.get, "/status", answers.StatusAnswer)
def status() -> Any:
    """How things stand, with the figures of success of a day and a week."""
    return runtime.queries.status(runtime.clock(), runtime.config.monitoring_stale_operation_hours)


@call(stock_sync.get, "/breaker", answers.BreakerAnswer)
def breaker() -> Any:
    """Whether the remote is asked at all."""
    until, (opened_at, reason) = runtime.breaker.open_until(), runtime.breaker.opened()
    return {
        "state": "open" if until else "closed",
        "opened_at": opened_at,
        "reason": reason,
        "asked_again_at": until,
        "served_at": runtime.breaker.served_at(),
    }


@call(stock_sync.get, "/pending", answers.PendingAnswer)
def pending(query: PendingQuery) -> Any:
    """Operations of one status, the newest first."""
    found = runtime.operation_lists.page(
        Filter(status=query.status), runtime.clock(), limit=query.limit, offset=query.offset
    )
    return {
        "operations": found.operations,
        "total": found.total,
        "limit": query.limit,
        "offset": query.offset,
    }


@call(stock_sync.get, "/operations", answers.OperationsAnswer)
def operations(query: OperationsQuery) -> Any:
    """Operations that match, the newest first; go on with `next` as `cursor`, which is as quick on every page."""
    found = runtime.operation_lists.page(
        query.filter(), runtime.clock(), limit=query.limit, offset=query.offset, before=query.cursor
    )
    return {
        "operations": found.operations,
        "total": found.total,
        "total_is_more": found.more,
        "next": found.next,
    }


@call(stock_sync.get, "/operations/<string(length=36):operation_id>", answers.OperationAnswer)
def operation(path: OperationPath) -> Any:
    """One operation with its log."""
    return runtime.queries.operation(path.operation_id)


@call(stock_sync.get, "/orders/<token_id>/<order_id>", answers.OrderAnswer)
def order(path: OrderPath) -> Any:
    """One order: its lines, its operations, what we say and what the remote last said."""
    return runtime.queries.order(path.token_id, path.order_id)


# What a person may do


@call(stock_sync.post, "/retry/<operation_id>", answers.Done, 409)
def retry(path: OperationPath, query: ReasonQuery) -> Any:
    """Have an operation delivered now, with all attempts before it."""
    runtime.service.retry(path.operation_id, actor=actor(), reason=query.reason)
    return {"message": "Operation queued for retry", "operation_id": path.operation_id}


@call(stock_sync.delete, "/cancel/<operation_id>", answers.Done, 409)
def cancel(path: OperationPath, query: CancelQuery) -> Any:
    """Stop the delivery of an operation."""
    runtime.service.cancel(
        path.operation_id, actor=actor(), reason=query.reason or "over the API", put_back=query.put_back
    )
    return {"message": "Operation cancelled", "operation_id": path.operation_id}


@call(stock_sync.post, "/operations/<operation_id>/confirm", answers.Done, 409)
def confirm(path: OperationPath, query: ConfirmQuery) -> Any:
    """Say what an operation in doubt came to."""
    runtime.service.confirm(path.operation_id, query.deducted, actor=actor(), reason=query.reason)
    return {"message": "Operation confirmed", "operation_id": path.operation_id}


@call(stock_sync.post, "/operations/retry", answers.BulkAnswer)
def retry_all(query: RetryAllQuery) -> Any:
    """Retry every operation that matches; some 20 seconds of them in one call."""
    return _to_all(query, lambda one: runtime.service.retry(one, actor=actor(), reason=query.reason))


@call(stock_sync.post, "/operations/cancel", answers.BulkAnswer)
def cancel_all(query: CancelAllQuery) -> Any:
    """Cancel every operation that matches; some 20 seconds of them in one call."""
    return _to_all(
        query,
        lambda one: runtime.service.cancel(one, actor=actor(), reason=query.reason, put_back=query.put_back),
    )


def _to_all(query: BulkQuery, act: Any) -> dict[str, Any]:
    lists, wanted = runtime.operation_lists, query.filter()
    matched, more = lists.count(wanted)
    answer = {"matched": matched, "matched_is_more": more, "dry_run": query.dry_run}
    if query.dry_run:
        return answer
    report = act_on(matching(lists, wanted, query.cursor), act)
    return answer | {"done": report.done, "skipped": report.skipped, "next": report.next}


@call(orders.post, "/process", answers.ProcessAnswer, 413, 415, 409)
def process(query: ProcessQuery, body: CheckoutForm) -> Any:
    """Make stock follow an Allegro checkout form, with `token_id` beside it; all of it, or nothing."""
    return runtime.orders.process_order_stock_update(body, query.warehouse, actor=actor())


# Reconciliation


@call(stock_sync.post, "/reconcile", answers.ReconcileAnswer, 502)
def reconcile(query: ReconcileQuery) -> Any:
    """Compare with the remote: one account now, for 20 seconds at most, or all of them in a job."""
    if query.token_id is None:
        return {"task_id": runtime.queue_reconciliation(actor())}
    if query.token_id not in [token for token, _, _ in runtime.reconciliation.records.accounts()]:
        abort(404, f"account {query.token_id} is unknown or not active")
    ends = time.monotonic() + LONGEST
    return runtime.reconciliation.run(
        query.token_id, actor=actor(), should_stop=lambda: time.monotonic() >= ends
    )


@call(stock_sync.get, "/discrepancies", answers.DifferencesAnswer)
def discrepancies(query: DifferencesQuery) -> Any:
    """Orders of which we and the remote say different things, the first seen first."""
    rows = runtime.reconciliation.records.differences(
        status=query.status, after=query.cursor, limit=query.limit + 1
    )
    following = rows[query.limit - 1]["id"] if len(rows) > query.limit else None
    return {"discrepancies": rows[: query.limit], "next": following}


@call(stock_sync.post, "/discrepancies/<difference_id>/fix", answers.Outcome, 502, 409)
def fix(path: DifferencePath, query: WhyQuery) -> Any:
    """Have the remote told again what we say; both sides are read again first."""
    outcome = runtime.reconciliation.fix(path.difference_id, actor=actor(), reason=query.reason)
    return {"outcome": outcome}


@call(stock_sync.post, "/discrepancies/<difference_id>/leave", answers.Outcome, 409)
def leave(path: DifferencePath, query: WhyQuery) -> Any:
    """Leave it as it is; it is not brought up again unless it changes."""
    runtime.reconciliation.leave(path.difference_id, actor=actor(), reason=query.reason)
    return {"outcome": "left"}


# Alerts


@call(stock_sync.get, "/alerts", answers.AlertsAnswer)
def alerts(query: AlertsQuery) -> Any:
    """What people were, or are to be, told; the newest first."""
    rows = runtime.alerts.find(open_only=query.status == "open", limit=query.limit, offset=query.offset)
    language = runtime.config.alert_language
    return {
        "alerts": [
            row | {"text": text(row["kind"], row["subject"], row["details"], language)} for row in rows
        ]
    }


@call(stock_sync.post, "/alerts/<alert_id>/acknowledge", answers.Acknowledged)
def acknowledge(path: AlertPath) -> Any:
    """Say that somebody has seen it: it is not repeated any more."""
    if not runtime.alerts.acknowledge(path.alert_id, actor(), runtime.clock()):
        abort(404, f"alert {path.alert_id} is unknown, or acknowledged already")
    return {"alert_id": path.alert_id, "acknowledged_by": actor()}


# Lanes


@call(stock_sync.get, "/lanes", answers.LanesAnswer)
def lanes() -> Any:
    """The sellers' accounts, what waits of each, and what holds it back."""
    return {"lanes": runtime.queries.lanes()}


@call(stock_sync.post, "/lanes/<token_id>/pause", answers.LaneAnswer)
def pause(path: LanePath, query: WhyQuery) -> Any:
    """Deliver nothing of a seller until it is resumed."""
    with runtime.database.scope():
        paused = runtime.lanes.pause(path.token_id, f"{query.reason} ({actor()})")
        if not paused and not runtime.lanes.state(path.token_id).paused:
            abort(404, f"lane {path.token_id} is unknown")
    return {"token_id": path.token_id, "paused": True}


@call(stock_sync.post, "/lanes/<token_id>/resume", answers.LaneAnswer)
def resume(path: LanePath) -> Any:
    """Deliver a seller's orders again, at once."""
    if not runtime.lanes.resume(path.token_id):
        abort(404, f"lane {path.token_id} is unknown")
    log.info("%s resumed lane %s", actor(), path.token_id)
    runtime.wakeups.wake(path.token_id, force=True)
    return {"token_id": path.token_id, "paused": False}
