"""The HTTP API, `/api/v1`: the monolith's developers call it; its document and docs are made from this code."""

from __future__ import annotations

import logging
import re
import time
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import flask_openapi3_swagger
from flask import Blueprint, Response, abort, current_app, jsonify, make_response, render_template, request
from flask.json.provider import DefaultJSONProvider
from flask.typing import ResponseReturnValue
from flask_openapi3 import APIBlueprint, Info, OpenAPI
from pydantic import BaseModel, ValidationError

from stocksync.orders.bulk import LONGEST, act_on, matching
from stocksync.orders.checkout_form import CheckoutForm, fault_in_words, parse_form
from stocksync.runtime import Runtime
from stocksync.store.operation_lists import Filter
from stocksync.upkeep.alert_texts import text
from stocksync.web import schemas as s
from stocksync.web.auth import current_user

log = logging.getLogger(__name__)

_ABOUT = """Reliable delivery of stock operations to the orders microservice. Every call needs a key
(`Authorization: Bearer …`); those that change something need the role operator. Errors are `{"detail": "…"}`."""
FAULTS: dict[Any, Any] = dict.fromkeys((400, 401, 403, 404, 429, 503), s.Fault)
CONFLICT: dict[Any, Any] = {409: s.Fault}
_BODY = 2 * 1024 * 1024

stock_sync = APIBlueprint(
    "stock_sync",
    __name__,
    url_prefix="/api/v1/stock-sync",
    abp_responses=FAULTS,
    abp_security=[{"key": []}],
)
orders = APIBlueprint(
    "api_orders",
    __name__,
    url_prefix="/api/v1/orders",
    abp_responses=FAULTS,
    abp_security=[{"key": []}],
)
docs = Blueprint(
    "docs",
    __name__,
    static_folder=Path(flask_openapi3_swagger.__file__).parent / "templates" / "swagger",
    static_url_path="/docs/files",
)


class _Json(DefaultJSONProvider):
    """JSON in which 5.0 is 5, as the standard has it: it knows numbers, not kinds of them."""

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        return super().loads(s, parse_float=_number, **kwargs)


def _number(text: str) -> float:
    number = float(text)
    return int(number) if number.is_integer() else number


class Application(OpenAPI):
    """Flask whose views may answer with a model."""

    json_provider_class = _Json

    def make_response(self, rv: ResponseReturnValue | BaseModel) -> Response:
        if isinstance(rv, BaseModel):
            return self.response_class(rv.model_dump_json(), mimetype="application/json")
        return super().make_response(rv)


def make_application(name: str) -> Application:
    """The Flask application with what the document says of itself; views come with `set_up`."""
    return Application(
        name,
        info=Info(title="stocksync", version="1", description=_ABOUT),
        security_schemes={"key": {"type": "http", "scheme": "bearer"}},
        validation_error_status=400,
        validation_error_callback=_in_words,
        doc_ui=False,
    )


def set_up(app: Application) -> None:
    """Register the calls, the document and the docs."""
    for blueprint in (stock_sync, orders):
        app.register_api(blueprint)
    app.register_blueprint(docs)


@docs.get("/api/v1/openapi.json")
def document() -> Any:
    """The OpenAPI document."""
    return jsonify(_app().api_doc)


@docs.get("/docs")
def page() -> str:
    """The docs in a browser."""
    return render_template("docs.html")


@stock_sync.before_request
@orders.before_request
def strictly() -> None:
    """Refuse what the call does not name, which the models alone can't see."""
    path = re.sub(r"<(?:[^<>:]+:)?([^>]+)>", r"{\1}", str(request.url_rule))
    call = _app().api_doc["paths"][path].get(request.method.lower().replace("head", "get"), {})
    known = {parameter["name"] for parameter in call.get("parameters", ())}
    for name, values in request.args.lists():
        if name not in known:
            abort(400, f"{name:.60}: there is no such parameter; known: {', '.join(sorted(known)) or 'none'}")
        if len(values) > 1:
            abort(400, f"{name}: given {len(values)} times")
    if "requestBody" in call:
        request.max_content_length = _BODY
        if not request.is_json:
            abort(415, "The body must be JSON, with Content-Type: application/json.")
        try:
            body = request.get_json()
        except RecursionError:
            body = None
        if not isinstance(body, dict):
            abort(400, "The body must be one JSON object.")


# How things stand


@stock_sync.get("/status", responses={200: s.StatusAnswer})
def status() -> Any:
    """How things stand, with the figures of success of a day and a week."""
    at = _runtime()
    return s.StatusAnswer.model_validate(
        at.queries.status(at.clock(), at.config.monitoring_stale_operation_hours)
    )


@stock_sync.get("/breaker", responses={200: s.BreakerAnswer})
def breaker() -> Any:
    """Whether the remote is asked at all."""
    at = _runtime()
    until, (opened_at, reason) = at.breaker.open_until(), at.breaker.opened()
    return s.BreakerAnswer(
        state="open" if until else "closed",
        opened_at=opened_at,
        reason=reason,
        asked_again_at=until,
        served_at=at.breaker.served_at(),
    )


@stock_sync.get("/pending", responses={200: s.PendingAnswer})
def pending(query: s.PendingQuery) -> Any:
    """Operations of one status, the newest first."""
    at = _runtime()
    found = at.operation_lists.page(
        Filter(status=query.status), at.clock(), limit=query.limit, offset=query.offset
    )
    return s.PendingAnswer.model_validate(
        {"operations": found.operations, "total": found.total, "limit": query.limit, "offset": query.offset}
    )


@stock_sync.get("/operations", responses={200: s.OperationsAnswer})
def operations(query: s.OperationsQuery) -> Any:
    """Operations that match, the newest first; go on with `next` as `cursor`, which is as quick on every page."""
    at = _runtime()
    found = at.operation_lists.page(
        query.filter(), at.clock(), limit=query.limit, offset=query.offset, before=query.cursor
    )
    return s.OperationsAnswer.model_validate(
        {
            "operations": found.operations,
            "total": found.total,
            "total_is_more": found.more,
            "next": found.next,
        }
    )


@stock_sync.get("/operations/<string(length=36):operation_id>", responses={200: s.OperationAnswer})
def operation(path: s.OperationPath) -> Any:
    """One operation with its log."""
    return s.OperationAnswer.model_validate(_runtime().queries.operation(path.operation_id))


@stock_sync.get("/orders/<token_id>/<order_id>", responses={200: s.OrderAnswer})
def order(path: s.OrderPath) -> Any:
    """One order: its lines, its operations, what we say and what the remote last said."""
    return s.OrderAnswer.model_validate(_runtime().queries.order(path.token_id, path.order_id))


# What a person may do


@stock_sync.post("/retry/<operation_id>", responses={200: s.Done, **CONFLICT})
def retry(path: s.OperationPath, query: s.ReasonQuery) -> Any:
    """Have an operation delivered now, with all attempts before it."""
    _runtime().service.retry(path.operation_id, actor=_actor(), reason=query.reason)
    return s.Done(message="Operation queued for retry", operation_id=UUID(path.operation_id))


@stock_sync.delete("/cancel/<operation_id>", responses={200: s.Done, **CONFLICT})
def cancel(path: s.OperationPath, query: s.CancelQuery) -> Any:
    """Stop the delivery of an operation."""
    _runtime().service.cancel(
        path.operation_id, actor=_actor(), reason=query.reason or "over the API", put_back=query.put_back
    )
    return s.Done(message="Operation cancelled", operation_id=UUID(path.operation_id))


@stock_sync.post("/operations/<operation_id>/confirm", responses={200: s.Done, **CONFLICT})
def confirm(path: s.OperationPath, query: s.ConfirmQuery) -> Any:
    """Say what an operation in doubt came to."""
    _runtime().service.confirm(path.operation_id, query.deducted, actor=_actor(), reason=query.reason)
    return s.Done(message="Operation confirmed", operation_id=UUID(path.operation_id))


@stock_sync.post("/operations/retry", responses={200: s.BulkAnswer})
def retry_all(query: s.RetryAllQuery) -> Any:
    """Retry every operation that matches; some 20 seconds of them in one call."""
    service, actor = _runtime().service, _actor()
    return _to_all(query, lambda one: service.retry(one, actor=actor, reason=query.reason))


@stock_sync.post("/operations/cancel", responses={200: s.BulkAnswer})
def cancel_all(query: s.CancelAllQuery) -> Any:
    """Cancel every operation that matches; some 20 seconds of them in one call."""
    service, actor = _runtime().service, _actor()
    return _to_all(
        query, lambda one: service.cancel(one, actor=actor, reason=query.reason, put_back=query.put_back)
    )


def _to_all(query: s.RetryAllQuery | s.CancelAllQuery, act: Any) -> s.BulkAnswer:
    lists = _runtime().operation_lists
    matched, more = lists.count(query.filter())
    answer = s.BulkAnswer(matched=matched, matched_is_more=more, dry_run=query.dry_run)
    if not query.dry_run:
        report = act_on(matching(lists, query.filter(), query.cursor), act)
        answer.done, answer.skipped, answer.next = report.done, dict(report.skipped), report.next
    return answer


@orders.post("/process", responses={200: s.ProcessAnswer, 413: s.Fault, 415: s.Fault, **CONFLICT})
def process(query: s.ProcessQuery, body: CheckoutForm) -> Any:  # noqa: ARG001
    """Make stock follow an Allegro checkout form, with `token_id` beside it; all of it, or nothing."""
    # The whole document once more: of a form it is asked what a model can't say.
    form = parse_form(request.get_json())
    result = _runtime().orders.process_order_stock_update(form, query.warehouse, actor=_actor())
    return s.ProcessAnswer.model_validate(result)


# Reconciliation


@stock_sync.post("/reconcile", responses={200: s.ReconcileAnswer, 502: s.Fault})
def reconcile(query: s.ReconcileQuery) -> Any:
    """Compare with the remote: one account now, for 20 seconds at most, or all of them in a job."""
    at, ends = _runtime(), time.monotonic() + LONGEST
    if query.token_id is None:
        return s.ReconcileAnswer(s.Queued(task_id=at.queue_reconciliation(_actor())))
    if query.token_id not in [token for token, _, _ in at.reconciliation.records.accounts()]:
        abort(404, f"account {query.token_id} is unknown or not active")
    run = at.reconciliation.run(query.token_id, actor=_actor(), should_stop=lambda: time.monotonic() >= ends)
    return s.ReconcileAnswer(s.Reconciled.model_validate(run))


@stock_sync.get("/discrepancies", responses={200: s.DifferencesAnswer})
def discrepancies(query: s.DifferencesQuery) -> Any:
    """Orders of which we and the remote say different things, the first seen first."""
    rows = _runtime().reconciliation.records.differences(
        status=query.status, after=query.cursor, limit=query.limit + 1
    )
    following = rows[query.limit - 1]["id"] if len(rows) > query.limit else None
    return s.DifferencesAnswer.model_validate({"discrepancies": rows[: query.limit], "next": following})


@stock_sync.post("/discrepancies/<difference_id>/fix", responses={200: s.Outcome, 502: s.Fault, **CONFLICT})
def fix(path: s.DifferencePath, query: s.WhyQuery) -> Any:
    """Have the remote told again what we say; both sides are read again first."""
    outcome = _runtime().reconciliation.fix(path.difference_id, actor=_actor(), reason=query.reason)
    return s.Outcome.model_validate({"outcome": outcome})


@stock_sync.post("/discrepancies/<difference_id>/leave", responses={200: s.Outcome, **CONFLICT})
def leave(path: s.DifferencePath, query: s.WhyQuery) -> Any:
    """Leave it as it is; it is not brought up again unless it changes."""
    _runtime().reconciliation.leave(path.difference_id, actor=_actor(), reason=query.reason)
    return s.Outcome(outcome="left")


# Alerts


@stock_sync.get("/alerts", responses={200: s.AlertsAnswer})
def alerts(query: s.AlertsQuery) -> Any:
    """What people were, or are to be, told; the newest first."""
    at = _runtime()
    rows = at.alerts.find(open_only=query.status == "open", limit=query.limit, offset=query.offset)
    for row in rows:
        row["text"] = text(row["kind"], row["subject"], row["details"], at.config.alert_language)
    return s.AlertsAnswer.model_validate({"alerts": rows})


@stock_sync.post("/alerts/<alert_id>/acknowledge", responses={200: s.Acknowledged})
def acknowledge(path: s.AlertPath) -> Any:
    """Say that somebody has seen it: it is not repeated any more."""
    at = _runtime()
    if not at.alerts.acknowledge(path.alert_id, _actor(), at.clock()):
        abort(404, f"alert {path.alert_id} is unknown, or acknowledged already")
    return s.Acknowledged(alert_id=path.alert_id, acknowledged_by=_actor())


# Lanes


@stock_sync.get("/lanes", responses={200: s.LanesAnswer})
def lanes() -> Any:
    """The sellers' accounts, what waits of each, and what holds it back."""
    return s.LanesAnswer.model_validate({"lanes": _runtime().queries.lanes()})


@stock_sync.post("/lanes/<token_id>/pause", responses={200: s.LaneAnswer})
def pause(path: s.LanePath, query: s.WhyQuery) -> Any:
    """Deliver nothing of a seller until it is resumed."""
    at = _runtime()
    with at.database.scope():
        paused = at.lanes.pause(path.token_id, f"{query.reason} ({_actor()})")
        if not paused and not at.lanes.state(path.token_id).paused:
            abort(404, f"lane {path.token_id} is unknown")
    return s.LaneAnswer(token_id=path.token_id, paused=True)


@stock_sync.post("/lanes/<token_id>/resume", responses={200: s.LaneAnswer})
def resume(path: s.LanePath) -> Any:
    """Deliver a seller's orders again, at once."""
    at = _runtime()
    if not at.lanes.resume(path.token_id):
        abort(404, f"lane {path.token_id} is unknown")
    log.info("%s resumed lane %s", _actor(), path.token_id)
    at.wakeups.wake(path.token_id, force=True)
    return s.LaneAnswer(token_id=path.token_id, paused=False)


def _in_words(error: ValidationError) -> Response:
    """What the models found wrong, as every other error is said."""
    faults = [fault_in_words(fault) for fault in error.errors(include_url=False)]
    return make_response(jsonify(detail="; ".join(faults)), 400)


def _runtime() -> Runtime:
    at: Runtime = current_app.extensions["stocksync"]()
    return at


def _app() -> Application:
    app: Any = current_app
    assert isinstance(app._get_current_object(), Application)
    return cast(Application, app)


def _actor() -> str:
    user = current_user()
    assert user is not None
    return user.name
