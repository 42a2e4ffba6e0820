"""Operations: the list with its filters, one operation with its story, and what a person may do with one or many."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import chain, islice
from typing import Any
from uuid import UUID

from flask import abort, redirect, render_template, request

from stocksync.orders.bulk import act_on, matching
from stocksync.store.operation_lists import COUNTED, Filter
from stocksync.store.states import STATUSES, can_be_cancelled, can_be_retried
from stocksync.store.values import check_word
from stocksync.web import words
from stocksync.web.auth import requires
from stocksync.web.language import gettext as _
from stocksync.web.language import here, ngettext
from stocksync.web.pages.frame import (
    PAGE_SIZE,
    actor,
    back,
    blueprint,
    filter_of,
    ids_of,
    page_number,
    runtime,
)

ACTIONS = {"retry": can_be_retried, "cancel": can_be_cancelled}
_BEGIN, _RESULT = frozenset({"retry"}), frozenset({"sync_success", "sync_failed", "sync_error", "rescued"})
_END = frozenset({"completed", "retry_failed", "snoozed", "max_retries"})


@blueprint.get("/operations")
def operations() -> Any:
    """The list: a status, a search and the matrix's cells are filters in the address."""
    at, number = runtime(), page_number()
    with at.database.scope():
        wanted, kept = filter_of(request.args)
        found = at.operation_lists.page(wanted, at.clock(), limit=PAGE_SIZE, offset=(number - 1) * PAGE_SIZE)
        if not found.operations and number > 1:
            return redirect(here(page=None))
        filtered = replace(wanted, status=None) != Filter()
        if not filtered:
            counts = at.operation_lists.by_status()
        else:
            counts = {name: at.operation_lists.count(replace(wanted, status=name))[0] for name in STATUSES}
    for row in found.operations:
        row["actions"] = actions_of(row)
    pages = min(2000, -(-found.total // PAGE_SIZE)) if not found.more else 2000
    return render_template(
        "operations.html",
        found=found,
        counts=counts,
        kept=kept,
        filtered=filtered,
        counted=COUNTED,
        page=number,
        pages=max(1, pages),
    )


@blueprint.get("/operations/<operation_id>")
def operation(operation_id: str) -> str:
    """One operation and what happened to it, attempt by attempt."""
    at = runtime()
    row = at.queries.operation(operation_id)
    row["actions"] = actions_of(row)
    return render_template("operation.html", row=row, story=story(row["log"]), ask=request.args.get("ask"))


@blueprint.post("/operations/<operation_id>/retry")
@requires("operator")
def retry(operation_id: str) -> Any:
    """Have it delivered now."""
    runtime().service.retry(operation_id, actor=actor(), reason=request.form.get("reason"))
    return back(_("It will be sent again at once."))


@blueprint.post("/operations/<operation_id>/cancel")
@requires("operator")
def cancel(operation_id: str) -> Any:
    """Stop its delivery; `stock` says whether its units come back."""
    put_back = request.form.get("stock") == "put_back"
    reason = request.form.get("reason", "")
    runtime().service.cancel(operation_id, actor=actor(), reason=reason, put_back=put_back)
    return back(
        _("Cancelled; the units are back in stock.")
        if put_back
        else _("Cancelled; the stock stays as it is.")
    )


@blueprint.post("/operations/<operation_id>/confirm")
@requires("operator")
def confirm(operation_id: str) -> Any:
    """Say what an operation in doubt came to."""
    moved = request.form.get("moved")
    if moved not in ("yes", "no"):
        abort(400, "moved: yes or no is needed")
    runtime().service.confirm(operation_id, moved == "yes", actor=actor(), reason=request.form.get("reason"))
    return back(_("Thank you: noted as moved.") if moved == "yes" else _("Thank you: noted as not moved."))


@blueprint.post("/operations/bulk")
@requires("operator")
def bulk() -> Any:
    """One action on the rows that were chosen, or a retry of one."""
    form = request.form
    chosen = [form["retry"]] if form.get("retry") else form.getlist("id")[:PAGE_SIZE]
    return _act(form.get("action", "retry"), ids_of(chosen))


@blueprint.get("/operations/all/<action>")
@requires("operator")
def all_of(action: str) -> str:
    """What an action on all that match would come to."""
    wanted, kept = _for_all(action)
    counts = [(status, *runtime().operation_lists.count(one)) for status, one in wanted.items()]
    return render_template(
        "all.html",
        action=action,
        kept=kept,
        counts=counts,
        total=sum(count for _status, count, _more in counts),
        more=any(more for _status, _count, more in counts),
    )


@blueprint.post("/operations/all/<action>")
@requires("operator")
def act_on_all(action: str) -> Any:
    """The action on all that match; some 20 seconds of them."""
    wanted, _kept = _for_all(action)
    lists = runtime().operation_lists
    return _act(action, islice(chain.from_iterable(matching(lists, one) for one in wanted.values()), COUNTED))


def _for_all(action: str) -> tuple[dict[str, Filter], dict[str, str]]:
    """The filter of the address, by each status that the action is for."""
    if action not in ACTIONS:
        abort(404)
    wanted, kept = filter_of(request.args)
    statuses = [name for name in STATUSES if ACTIONS[action](name) and wanted.status in (None, name)]
    return {name: replace(wanted, status=name) for name in statuses}, kept


def _act(action: str, ids: Iterable[UUID]) -> Any:
    """Do it, and say what was done and what was skipped."""
    service, who, reason = runtime().service, actor(), request.form.get("reason", "")
    if action == "retry":
        report = act_on(ids, lambda one: service.retry(one, actor=who, reason=reason))
        said = ngettext("%(num)s operation goes out again.", "%(num)s operations go out again.", report.done)
    elif action == "cancel":
        put_back = request.form.get("stock") == "put_back"
        check_word("reason", reason)
        report = act_on(ids, lambda one: service.cancel(one, actor=who, reason=reason, put_back=put_back))
        said = ngettext("%(num)s operation cancelled.", "%(num)s operations cancelled.", report.done)
    else:
        abort(404)
    if report.skipped:
        skipped = [f"{words.word('SKIPPED', why)}: {count}" for why, count in report.skipped.most_common()]
        said += " " + _("Skipped: %(n)s (%(why)s).", n=report.skipped.total(), why=", ".join(skipped))
    if report.next:
        said += " " + _("There are more: the time for one go was over, so do it once more.")
    return back(said, "good" if report.done else "wait")


def actions_of(row: dict[str, Any]) -> list[str]:
    """What may be done with an operation now."""
    if row["applied"] == "unknown":
        return ["confirm"]
    return [name for name, allowed in ACTIONS.items() if allowed(row["status"])]


def story(log: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The log in groups: an attempt's start, its answer and what followed belong together."""
    groups: list[list[dict[str, Any]]] = []
    for entry in log:
        before, action = groups[-1][-1]["action"] if groups else "", entry["action"]
        if (action in _RESULT and before in _BEGIN) or (action in _END and before in _RESULT):
            groups[-1].append(entry)
        else:
            groups.append([entry])
    return groups[::-1]
