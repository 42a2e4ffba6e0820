"""The calls of the API, which the monolith's developers make: each view answers with rows, shown as one model."""

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, Literal
from uuid import UUID

from flask import abort
from pydantic import Field

from stocksync.orders.checkout_form import CheckoutForm
from stocksync.orders.interventions import LONGEST, act_on, matching
from stocksync.store.operation_lists import Filter
from stocksync.store.values import DEFAULT_WAREHOUSE
from stocksync.upkeep.alert_texts import text
from stocksync.web import api_answers as answers
from stocksync.web.api import Cursor, Limit, Offset, OneLine, ShortText, YesNo, call, orders, stock_sync
from stocksync.web.auth import actor
from stocksync.web.frame import runtime

log = logging.getLogger(__name__)

PutBack = Annotated[YesNo, Field(description="the units come back into our stock; else they stay deducted")]
DryRun = Annotated[YesNo, Field(description="only count")]


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


@call(
    stock_sync.get,
    "/pending",
    answers.answer(
        "PendingAnswer", operations=list[answers.PendingOperation], total=int, limit=int, offset=int
    ),
)
def pending(limit: Limit = 50, offset: Offset = 0, status: answers.Status = "pending") -> Any:
    """Operations of one status, the newest first."""
    found = runtime.operation_lists.page(Filter(status=status), runtime.clock(), limit=limit, offset=offset)
    return {"operations": found.operations, "total": found.total, "limit": limit, "offset": offset}


@call(stock_sync.get, "/operations", answers.OperationsAnswer)
def operations(
    *,
    limit: Limit = 50,
    offset: Offset = 0,
    wanted: Filter,
    cursor: Cursor = None,
    status: answers.Status | None = None,
) -> Any:
    """Operations that match, the newest first; go on with `next` as `cursor`, which is as quick on every page."""
    found = runtime.operation_lists.page(
        replace(wanted, status=status), runtime.clock(), limit=limit, offset=offset, before=cursor
    )
    return {
        "operations": found.operations,
        "total": found.total,
        "total_is_more": found.more,
        "next": found.next,
    }


@call(
    stock_sync.get,
    "/operations/<string(length=36):operation_id>",
    answers.answer("OperationAnswer", base=answers.ShownOperation, log=list[answers.LogEntry]),
)
def operation(operation_id: ShortText) -> Any:
    """One operation with its log."""
    return runtime.queries.operation(operation_id)


@call(stock_sync.get, "/orders/<token_id>/<order_id>", answers.OrderAnswer)
def order(token_id: ShortText, order_id: ShortText) -> Any:
    """One order: its lines, its operations, what we say and what the remote last said."""
    return runtime.queries.order(token_id, order_id)


# What a person may do


@call(stock_sync.post, "/retry/<operation_id>", answers.Done, 409)
def retry(operation_id: ShortText, reason: OneLine | None = None) -> Any:
    """Have an operation delivered now, with all attempts before it."""
    runtime.service.retry(operation_id, actor=actor(), reason=reason)
    return {"message": "Operation queued for retry", "operation_id": operation_id}


@call(stock_sync.delete, "/cancel/<operation_id>", answers.Done, 409)
def cancel(operation_id: ShortText, reason: OneLine | None = None, put_back: PutBack = False) -> Any:
    """Stop the delivery of an operation."""
    runtime.service.cancel(operation_id, actor=actor(), reason=reason or "over the API", put_back=put_back)
    return {"message": "Operation cancelled", "operation_id": operation_id}


@call(stock_sync.post, "/operations/<operation_id>/confirm", answers.Done, 409)
def confirm(
    operation_id: ShortText,
    *,
    reason: OneLine | None = None,
    deducted: Annotated[YesNo, Field(description="whether the foreign inventory did it")],
) -> Any:
    """Say what an operation in doubt came to."""
    runtime.service.confirm(operation_id, deducted, actor=actor(), reason=reason)
    return {"message": "Operation confirmed", "operation_id": operation_id}


@call(stock_sync.post, "/operations/retry", answers.BulkAnswer)
def retry_all(
    *,
    reason: OneLine | None = None,
    wanted: Filter,
    cursor: Cursor = None,
    dry_run: DryRun = False,
    status: Literal["pending", "failed"],
) -> Any:
    """Retry every operation that matches; some 20 seconds of them in one call."""
    return _to_all(
        replace(wanted, status=status),
        cursor,
        dry_run,
        lambda one: runtime.service.retry(one, actor=actor(), reason=reason),
    )


@call(stock_sync.post, "/operations/cancel", answers.BulkAnswer)
def cancel_all(
    *,
    reason: OneLine,
    put_back: PutBack = False,
    wanted: Filter,
    cursor: Cursor = None,
    dry_run: DryRun = False,
    status: Literal["pending", "processing", "failed"],
) -> Any:
    """Cancel every operation that matches; some 20 seconds of them in one call."""
    return _to_all(
        replace(wanted, status=status),
        cursor,
        dry_run,
        lambda one: runtime.service.cancel(one, actor=actor(), reason=reason, put_back=put_back),
    )


def _to_all(
    wanted: Filter, cursor: UUID | None, dry_run: bool, act: Callable[[UUID], None]
) -> dict[str, Any]:
    matched, more = runtime.operation_lists.count(wanted)
    report = act_on(() if dry_run else matching(runtime.operation_lists, wanted, cursor), act)
    return {
        "matched": matched,
        "matched_is_more": more,
        "dry_run": dry_run,
        "done": report.done,
        "skipped": report.skipped,
        "next": report.next,
    }


@call(
    orders.post,
    "/process",
    answers.answer("ProcessAnswer", order_id=str, status=str, operations=list[UUID]),
    413,
    415,
    409,
)
def process(body: CheckoutForm, warehouse: OneLine = DEFAULT_WAREHOUSE) -> Any:
    """Make stock follow an Allegro checkout form, with `token_id` beside it; all of it, or nothing."""
    return runtime.orders.process_order_stock_update(body, warehouse, actor=actor())


# Reconciliation


@call(stock_sync.post, "/reconcile", answers.ReconcileAnswer, 502)
def reconcile(token_id: ShortText | None = None) -> Any:
    """Compare with the remote: one account now, for 20 seconds at most, or all of them in a job."""
    if token_id is None:
        return {"task_id": runtime.queue_reconciliation(actor())}
    if token_id not in [token for token, _, _ in runtime.reconciliation.records.accounts()]:
        abort(404, f"account {token_id} is unknown or not active")
    ends = time.monotonic() + LONGEST
    return runtime.reconciliation.run(token_id, actor=actor(), should_stop=lambda: time.monotonic() >= ends)


@call(
    stock_sync.get,
    "/discrepancies",
    answers.answer("DifferencesAnswer", discrepancies=list[answers.ListedDifference], next=UUID | None),
)
def discrepancies(
    limit: Limit = 50,
    status: Literal["open", "fixed", "left", "gone"] = "open",
    cursor: UUID | None = None,
) -> Any:
    """Orders of which we and the remote say different things, the first seen first."""
    rows = runtime.reconciliation.records.differences(status=status, after=cursor, limit=limit + 1)
    return {"discrepancies": rows[:limit], "next": rows[limit - 1]["id"] if len(rows) > limit else None}


@call(stock_sync.post, "/discrepancies/<difference_id>/fix", answers.Outcome, 502, 409)
def fix(difference_id: ShortText, reason: OneLine) -> Any:
    """Have the remote told again what we say; both sides are read again first."""
    return {"outcome": runtime.reconciliation.fix(difference_id, actor=actor(), reason=reason)}


@call(stock_sync.post, "/discrepancies/<difference_id>/leave", answers.Outcome, 409)
def leave(difference_id: ShortText, reason: OneLine) -> Any:
    """Leave it as it is; it is not brought up again unless it changes."""
    runtime.reconciliation.leave(difference_id, actor=actor(), reason=reason)
    return {"outcome": "left"}


# Alerts


@call(stock_sync.get, "/alerts", answers.answer("AlertsAnswer", alerts=list[answers.ShownAlert]))
def alerts(limit: Limit = 50, offset: Offset = 0, status: Literal["open", "all"] = "open") -> Any:
    """What people were, or are to be, told; the newest first."""
    return {
        "alerts": [
            row | {"text": text(row["kind"], row["subject"], row["details"], runtime.config.alert_language)}
            for row in runtime.alerts.find(open_only=status == "open", limit=limit, offset=offset)
        ]
    }


@call(
    stock_sync.post,
    "/alerts/<alert_id>/acknowledge",
    answers.answer("Acknowledged", alert_id=UUID, acknowledged_by=str),
)
def acknowledge(alert_id: UUID) -> Any:
    """Say that somebody has seen it: it is not repeated any more."""
    if not runtime.alerts.acknowledge(alert_id, actor(), runtime.clock()):
        abort(404, f"alert {alert_id} is unknown, or acknowledged already")
    return {"alert_id": alert_id, "acknowledged_by": actor()}


# Lanes


@call(stock_sync.get, "/lanes", answers.answer("LanesAnswer", lanes=list[answers.Lane]))
def lanes() -> Any:
    """The sellers' accounts, what waits of each, and what holds it back."""
    return {"lanes": runtime.queries.lanes()}


@call(stock_sync.post, "/lanes/<token_id>/pause", answers.LaneAnswer)
def pause(token_id: ShortText, reason: OneLine) -> Any:
    """Deliver nothing of a seller until it is resumed."""
    with runtime.database.scope():
        runtime.deliveries.pause(token_id, f"{reason} ({actor()})")
        if not runtime.deliveries.state(token_id)["paused"]:
            abort(404, f"lane {token_id} is unknown")
    return {"token_id": token_id, "paused": True}


@call(stock_sync.post, "/lanes/<token_id>/resume", answers.LaneAnswer)
def resume(token_id: ShortText) -> Any:
    """Deliver a seller's orders again, at once."""
    if not runtime.deliveries.resume(token_id):
        abort(404, f"lane {token_id} is unknown")
    log.info("%s resumed lane %s", actor(), token_id)
    runtime.wakeups.wake(token_id, force=True)
    return {"token_id": token_id, "paused": False}
