"""Operations and their orders: the list with its filters, one with its story, and what a person may do about them."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import chain, islice
from typing import Any
from uuid import UUID

from flask import abort, redirect, render_template, request
from flask_babel import gettext as _
from flask_babel import ngettext

from stocksync.orders.interventions import act_on, matching
from stocksync.store.operation_lists import COUNTED, Filter
from stocksync.store.states import STATUSES
from stocksync.store.values import check_word
from stocksync.web import words
from stocksync.web.auth import actor, demand
from stocksync.web.pages.frame import (
    ACTIONS,
    LAST_PAGE,
    PAGE_SIZE,
    back,
    blueprint,
    filter_of,
    page_number,
)
from stocksync.web.request_context import here, runtime

_RESULTS = ("sync_success", "sync_failed", "sync_error", "rescued")
# What belongs to the entry before it in an operation's story, by what that entry is.
_GOES_ON = dict.fromkeys(_RESULTS, ("retry",)) | dict.fromkeys(
    ("completed", "retry_failed", "snoozed", "max_retries"), _RESULTS
)


@blueprint.get("/operations")
def operations() -> Any:
    """The list: a status, a search and the matrix's cells are filters in the address."""
    number, lists = page_number(), runtime.operation_lists
    with runtime.database.scope():
        wanted, kept = filter_of(request.args)
        found = lists.page(wanted, runtime.clock(), limit=PAGE_SIZE, offset=(number - 1) * PAGE_SIZE)
        if not found.operations and number > 1:
            return redirect(here(page=None))
        filtered = replace(wanted, status=None) != Filter()
        counts = (
            {name: lists.count(replace(wanted, status=name))[0] for name in STATUSES}
            if filtered
            else lists.by_status()
        )
    pages = LAST_PAGE if found.more else max(1, min(LAST_PAGE, -(-found.total // PAGE_SIZE)))
    return render_template(
        "operations.html",
        found=found,
        counts=counts,
        kept=kept,
        filtered=filtered,
        counted=COUNTED,
        page=number,
        pages=pages,
    )


@blueprint.get("/operations/<operation_id>")
def operation(operation_id: str) -> str:
    """One operation and what happened to it, attempt by attempt."""
    row = runtime.queries.operation(operation_id)
    return render_template("operation.html", row=row, story=story(row["log"]), ask=request.args.get("ask"))


@blueprint.post("/operations/<operation_id>/retry")
def retry(operation_id: str) -> Any:
    """Have it delivered now."""
    runtime.service.retry(operation_id, actor=actor(), reason=request.form.get("reason"))
    return back(_("It will be sent again at once."))


@blueprint.post("/operations/<operation_id>/cancel")
def cancel(operation_id: str) -> Any:
    """Stop its delivery; `stock` says whether its units come back."""
    put_back, reason = request.form.get("stock") == "put_back", request.form.get("reason", "")
    runtime.service.cancel(operation_id, actor=actor(), reason=reason, put_back=put_back)
    return back(
        _("Cancelled; the units are back in stock.")
        if put_back
        else _("Cancelled; the stock stays as it is.")
    )


@blueprint.post("/operations/<operation_id>/confirm")
def confirm(operation_id: str) -> Any:
    """Say what an operation in doubt came to."""
    moved = request.form.get("moved")
    if moved not in ("yes", "no"):
        abort(400, "moved: yes or no is needed")
    runtime.service.confirm(operation_id, moved == "yes", actor=actor(), reason=request.form.get("reason"))
    return back(_("Thank you: noted as moved.") if moved == "yes" else _("Thank you: noted as not moved."))


@blueprint.post("/operations/bulk")
def bulk() -> Any:
    """One action on the rows that were chosen, or a retry of one."""
    form = request.form
    chosen = form.getlist("retry", type=UUID) or form.getlist("id", type=UUID)
    return _act(form.get("action", "retry"), chosen[:PAGE_SIZE])


@blueprint.get("/operations/all/<action>")
def all_of(action: str) -> str:
    """What an action on all that match would come to."""
    demand("operator")
    wanted, kept = _for_all(action)
    counts = [(status, *runtime.operation_lists.count(one)) for status, one in wanted.items()]
    return render_template(
        "all.html",
        action=action,
        kept=kept,
        counts=counts,
        total=sum(count for _status, count, _more in counts),
        more=any(more for _status, _count, more in counts),
    )


@blueprint.post("/operations/all/<action>")
def act_on_all(action: str) -> Any:
    """The action on all that match; some 20 seconds of them."""
    wanted, _kept = _for_all(action)
    found = chain.from_iterable(matching(runtime.operation_lists, one) for one in wanted.values())
    return _act(action, islice(found, COUNTED))


def _for_all(action: str) -> tuple[dict[str, Filter], dict[str, str]]:
    """The filter of the address, by each status that the action is for."""
    if action not in ACTIONS:
        abort(404)
    wanted, kept = filter_of(request.args)
    statuses = [name for name in STATUSES if ACTIONS[action](name) and wanted.status in (None, name)]
    return {name: replace(wanted, status=name) for name in statuses}, kept


def _act(action: str, ids: Iterable[UUID]) -> Any:
    """Do it, and say what was done and what was skipped."""
    who, reason = actor(), request.form.get("reason", "")
    if action == "retry":
        report = act_on(ids, lambda one: runtime.service.retry(one, actor=who, reason=reason))
        said = ngettext("%(num)s operation goes out again.", "%(num)s operations go out again.", report.done)
    elif action == "cancel":
        how = {"actor": who, "reason": check_word("reason", reason)}
        put_back = request.form.get("stock") == "put_back"
        report = act_on(ids, lambda one: runtime.service.cancel(one, put_back=put_back, **how))
        said = ngettext("%(num)s operation cancelled.", "%(num)s operations cancelled.", report.done)
    else:
        abort(404)
    if report.skipped:
        skipped = [f"{words.word('SKIPPED', why)}: {count}" for why, count in report.skipped.most_common()]
        said += " " + _("Skipped: %(n)s (%(why)s).", n=report.skipped.total(), why=", ".join(skipped))
    if report.next:
        said += " " + _("There are more: the time for one go was over, so do it once more.")
    return back(said, "good" if report.done else "wait")


def story(log: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The log in groups, the newest first: an attempt's start, its answer and what followed belong together."""
    groups: list[list[dict[str, Any]]] = []
    for entry in log:
        if groups and groups[-1][-1]["action"] in _GOES_ON.get(entry["action"], ()):
            groups[-1].append(entry)
        else:
            groups.append([entry])
    return groups[::-1]


@blueprint.get("/orders/<token_id>/<order_id>")
def order(token_id: str, order_id: str) -> str:
    """An order; ids that an address can't carry as a part of its path come in its query."""
    if "seller" in request.args:
        token_id, order_id = request.args["seller"], request.args.get("id", "")
    found = runtime.queries.order(token_id, order_id)
    # A retry takes all of the order along that waits or is given up: one button does for all.
    again = next((row for row in found["operations"] if row["status"] == "failed"), None)
    told = found["is_stock_updated"] is not None and found["due_at"] is None and found["claim_id"] is None
    return render_template("order.html", order=found, again=again, tell=told and again is None)


@blueprint.post("/orders/tell")
def tell_again() -> Any:
    """Have the remote told again, whatever it says."""
    form = request.form
    runtime.reconciliation.tell_again(
        form.get("seller", ""), form.get("id", ""), actor=actor(), reason=form.get("reason", "")
    )
    return back(_("The orders service will be told again at once."))
