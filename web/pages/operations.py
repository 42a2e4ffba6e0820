"""Operations and their orders: the list with its filters, one with its story, and what a person may do about them."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from itertools import chain, groupby, islice, pairwise
from typing import Any
from uuid import UUID

from flask import redirect, render_template, request
from flask_babel import gettext as _, ngettext

from stocksync.orders.interventions import act_on, matching
from stocksync.store.operation_lists import AGES, COUNTED, NEWEST, SORTED_BY, Filter
from stocksync.store.states import ACTIONS, STATUSES
from stocksync.store.values import check_word
from stocksync.web import words
from stocksync.web.auth import actor, demand
from stocksync.web.frame import LAST_PAGE, PAGE_SIZE, back, blueprint, here, order_of, page_number, runtime

_RESULTS = ("sync_success", "sync_failed", "sync_error", "rescued")
# What belongs to the entry before it in an operation's story, by what that entry is.
_GOES_ON = dict.fromkeys(_RESULTS, ("retry",)) | dict.fromkeys(
    ("completed", "retry_failed", "snoozed", "max_retries"), _RESULTS
)

# An age by its name: older than the first, not older than the second.
_AGES = dict(zip([*dict(AGES), "older"], pairwise([None, *dict(AGES).values(), None]), strict=True))


@blueprint.get("/operations")
def operations() -> Any:
    """The list: a status, a search and the matrix's cells are filters in the address."""
    number, lists = page_number(), runtime.operation_lists
    wanted, kept = _filter_of_address()
    found = lists.page(
        wanted,
        runtime.clock(),
        limit=PAGE_SIZE,
        offset=(number - 1) * PAGE_SIZE,
        order=order_of(NEWEST, *SORTED_BY),
    )
    if not found.operations and number > 1:
        return redirect(here(page=None))
    filtered = replace(wanted, status=None) != Filter()
    return render_template(
        "operations.html",
        found=found,
        counts={name: lists.count(replace(wanted, status=name))[0] for name in STATUSES}
        if filtered
        else lists.by_status(),
        kept=kept,
        filtered=filtered,
        counted=COUNTED,
        page=number,
        pages=LAST_PAGE if found.more else max(1, min(LAST_PAGE, -(-found.total // PAGE_SIZE))),
    )


def _filter_of_address() -> tuple[Filter, dict[str, str]]:
    """The filter that the address names, and its parts as they go into the next address."""
    kept = {
        name: text
        for name in ("status", "q", "error", "age", "doubt")
        if (text := request.args.get(name, "").strip())
    }
    ages = _AGES | {"stale": (timedelta(hours=runtime.config.monitoring_stale_operation_hours), None)}
    newest, oldest = ages.get(kept.get("age", ""), (None, None))
    now = runtime.clock()
    wanted = Filter(
        status=kept.get("status"),
        error_class=kept.get("error"),
        in_doubt="doubt" in kept,
        since=None if oldest is None else now - oldest,
        until=None if newest is None else now - newest,
    )
    return runtime.operation_lists.understand(wanted, kept.get("q", "")), kept


@blueprint.app_template_global()
def actions_of(row: Mapping[str, Any]) -> list[str]:
    """What may be done with an operation now."""
    if row["applied"] == "unknown":
        return ["confirm"]
    return [name for name, statuses in ACTIONS.items() if row["status"] in statuses]


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


@blueprint.post("/operations/<operation_id>/confirm/<any(yes, no):moved>")
def confirm(operation_id: str, moved: str) -> Any:
    """Say what an operation in doubt came to."""
    runtime.service.confirm(operation_id, moved == "yes", actor=actor(), reason=request.form.get("reason"))
    return back(_("Thank you: noted as moved.") if moved == "yes" else _("Thank you: noted as not moved."))


@blueprint.post(f"/operations/bulk/<any({', '.join(ACTIONS)}):action>")
def bulk(action: str) -> Any:
    """One action on the rows that were chosen, or a retry of one."""
    return _act(
        action,
        (request.form.getlist("retry", type=UUID) or request.form.getlist("id", type=UUID))[:PAGE_SIZE],
    )


@blueprint.route(f"/operations/all/<any({', '.join(ACTIONS)}):action>", methods=["GET", "POST"])
def all_of(action: str) -> Any:
    """What an action on all that match would come to; when the form is sent, the action: some 20 seconds of it."""
    demand("operator")
    wanted, kept = _filter_of_address()
    filters = [
        replace(wanted, status=status)
        for status in STATUSES
        if status in ACTIONS[action] and wanted.status in (None, status)
    ]
    if request.method == "POST":
        return _act(
            action,
            islice(chain.from_iterable(matching(runtime.operation_lists, one) for one in filters), COUNTED),
        )
    counts = [(one.status, *runtime.operation_lists.count(one)) for one in filters]
    return render_template(
        "all.html",
        action=action,
        kept=kept,
        counts=counts,
        total=sum(count for _status, count, _more in counts),
        more=any(more for _status, _count, more in counts),
    )


def _act(action: str, ids: Iterable[UUID]) -> Any:
    """Do the action, and say what was done and what was skipped."""
    who, reason = actor(), request.form.get("reason", "")
    if action == "cancel":
        check_word("reason", reason)  # at once, not of every operation
        put_back = request.form.get("stock") == "put_back"
        report = act_on(
            ids, lambda one: runtime.service.cancel(one, actor=who, reason=reason, put_back=put_back)
        )
        said = ngettext("%(num)s operation cancelled.", "%(num)s operations cancelled.", report.done)
    else:
        report = act_on(ids, lambda one: runtime.service.retry(one, actor=who, reason=reason))
        said = ngettext("%(num)s operation goes out again.", "%(num)s operations go out again.", report.done)
    if report.skipped:
        said += " " + _(
            "Skipped: %(n)s (%(why)s).",
            n=report.skipped.total(),
            why=", ".join(f"{words.word('SKIPPED', why)}: {n}" for why, n in report.skipped.most_common()),
        )
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
    found = runtime.queries.order(request.args.get("seller", token_id), request.args.get("id", order_id))
    return render_template("order.html", order=found, story=order_story(found["log"], found["operations"]))


def order_story(log: list[dict[str, Any]], operations: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The log of all operations of an order, as far as it has sentences, the oldest first.

    One sentence tells of entries that were written together, or that say the same of one attempt after the other.
    """
    rows, places = {row["id"]: row for row in operations}, [*words.WORDS["STORY"]]
    asked = {entry["operation_id"] for entry in log if entry["action"] == "in_doubt"}
    told = [
        entry | {"operation": rows[entry["operation_id"]], "sentence": sentence}
        for entry in log
        if (sentence := _sentence(entry)) in places
        # A warehouse program that was asked has a sentence of its own.
        and not (entry["action"] == "created" and entry["operation_id"] in asked)
    ]
    told.sort(key=lambda entry: (entry["timestamp"], places.index(entry["sentence"])))
    return [list(group) for _same, group in groupby(told, _told_together)]


def _sentence(entry: dict[str, Any]) -> str:
    """Which sentence tells of it: what was done, and what of, or what came of it."""
    details = entry["details"]
    return " ".join(
        (
            entry["action"],
            *(str(details[name]) for name in ("type", "told", "stock", "done") if name in details),
        )
    )


def _told_together(entry: dict[str, Any]) -> list[Any]:
    at = None if entry["action"] in ("sync_failed", "sync_error", "rescued") else entry["timestamp"]
    return [entry["sentence"], at, *map(entry["details"].get, ("class", "message", "actor", "reason"))]


@blueprint.post("/orders/tell")
def tell_again() -> Any:
    """Have the remote told again, whatever it says."""
    runtime.reconciliation.tell_again(
        request.form.get("seller", ""),
        request.form.get("id", ""),
        actor=actor(),
        reason=request.form.get("reason", ""),
    )
    return back(_("The orders service will be told again at once."))
