"""The pages: how things stand, the operations, and the two buttons."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, current_app, redirect, render_template, request, url_for

from stocksync.domain.states import STATUSES, can_be_cancelled, can_be_retried
from stocksync.runtime import Runtime
from stocksync.store.operation_lists import Filter
from web.auth import User, current_user

blueprint = Blueprint("pages", __name__)
PAGE_SIZE = 50
_DONE = {"retried": "The operation was queued for retry.", "cancelled": "The operation was cancelled."}


def _runtime() -> Runtime:
    at: Runtime = current_app.extensions["stocksync"]()
    return at


def _actor() -> str:
    user = current_user()
    assert isinstance(user, User)
    return user.name


@blueprint.get("/")
def overview() -> str:
    """Counts, the newest operations, retry and cancel."""
    at = _runtime()
    status = request.args.get("status") or None
    page = max(1, min(request.args.get("page", 1, type=int), 2000))
    wanted = Filter(status=status, order_id=request.args.get("order", "").strip() or None)
    found = at.operation_lists.page(wanted, at.clock(), limit=PAGE_SIZE, offset=(page - 1) * PAGE_SIZE)
    rows, total = found.operations, found.total
    for row in rows:
        row["can_be_retried"] = can_be_retried(row["status"])
        row["can_be_cancelled"] = can_be_cancelled(row["status"])
    return render_template(
        "overview.html",
        state=at.queries.status(at.clock(), at.config.monitoring_stale_operation_hours),
        stale_hours=at.config.monitoring_stale_operation_hours,
        rows=rows,
        total=total,
        page=page,
        pages=max(1, -(-total // PAGE_SIZE)),
        chosen=status,
        order=request.args.get("order", ""),
        statuses=STATUSES,
        done=_DONE.get(request.args.get("done", "")),
    )


@blueprint.get("/operations/<operation_id>")
def operation(operation_id: str) -> str:
    """One operation and its log."""
    row = _runtime().queries.operation(operation_id)
    row["can_be_retried"] = can_be_retried(row["status"])
    row["can_be_cancelled"] = can_be_cancelled(row["status"])
    return render_template("operation.html", row=row)


@blueprint.post("/operations/<operation_id>/retry")
def retry(operation_id: str) -> Any:
    """Have it delivered now."""
    _runtime().service.retry(operation_id, actor=_actor())
    return _back("retried")


@blueprint.post("/operations/<operation_id>/cancel")
def cancel(operation_id: str) -> Any:
    """Stop its delivery, with the reason given."""
    _runtime().service.cancel(operation_id, actor=_actor(), reason=request.form.get("reason", ""))
    return _back("cancelled")


def _back(done: str) -> Any:
    """To the list as it was, filters kept."""
    kept: dict[str, Any] = {
        name: value for name in ("status", "order", "page") if (value := request.form.get(name))
    }
    return redirect(url_for("pages.overview", done=done, **kept), code=303)
