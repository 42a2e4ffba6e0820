"""What keeps the deliveries going: sellers' lanes and the breaker, comparisons with the remote, alerts."""

from __future__ import annotations

from typing import Any

from flask import abort, render_template, request

from stocksync.store.states import DIFFERENCE_STATUSES
from stocksync.store.values import check_word
from stocksync.upkeep import alert_texts as texts
from stocksync.upkeep.discrepancies import MENDABLE
from stocksync.web.auth import requires
from stocksync.web.language import gettext as _
from stocksync.web.language import language as spoken
from stocksync.web.pages.frame import PAGE_SIZE, actor, back, blueprint, ids_of, page_number, runtime


@blueprint.get("/lanes")
def lanes() -> str:
    """Every seller: what waits, and whether it is worked on; the remote's breaker; the periodic tasks."""
    at = runtime()
    with at.database.scope():
        found, tasks = at.queries.lanes(), at.tasks()
    return render_template("lanes.html", lanes=found, tasks=tasks, breaker=at.breaker.open_until())


@blueprint.post("/lanes/<action>")
@requires("operator")
def change_lane(action: str) -> Any:
    """Pause or resume one seller."""
    at, lane = runtime(), request.form.get("lane", "")
    if action == "pause":
        reason = check_word("reason", request.form.get("reason"))
        changed = at.lanes.pause(lane, f"{actor()}: {reason}")
        return back(_("Paused: nothing is sent for this seller.") if changed else _("It was paused already."))
    if action != "resume":
        abort(404)
    if not at.lanes.resume(lane):
        abort(404)
    at.wakeups.wake(lane, force=True)
    return back(_("Going on."))


@blueprint.get("/reconciliation")
def reconciliation() -> str:
    """Differences that wait for a person, and the newest comparisons."""
    records = runtime().reconciliation.records
    status = request.args.get("status", "open")
    status = status if status in DIFFERENCE_STATUSES else "open"
    with runtime().database.scope():
        differences = records.differences(
            status=status,
            after=next(iter(ids_of([request.args.get("after", "")])), None),
            limit=PAGE_SIZE + 1,
        )
        waiting, runs = records.count_open(), records.runs(limit=15)
    return render_template(
        "reconciliation.html",
        differences=differences[:PAGE_SIZE],
        following=differences[PAGE_SIZE - 1]["id"] if len(differences) > PAGE_SIZE else None,
        status=status,
        waiting=waiting,
        runs=runs,
        mendable=MENDABLE,
    )


@blueprint.post("/reconciliation")
@requires("operator")
def compare() -> Any:
    """Have all sellers compared now, in a job."""
    runtime().queue_reconciliation(actor())
    return back(_("The comparison begins; its lines appear below as it goes on."))


@blueprint.post("/reconciliation/<difference_id>/<action>")
@requires("operator")
def decide(difference_id: str, action: str) -> Any:
    """Fix a difference, or leave it."""
    at, reason = runtime().reconciliation, request.form.get("reason", "")
    if action == "leave":
        at.leave(difference_id, actor=actor(), reason=reason)
        return back(_("Left as it is; it comes up again only if it changes."))
    if action != "fix":
        abort(404)
    if at.fix(difference_id, actor=actor(), reason=reason) == "gone":
        return back(_("Both sides agree by now: nothing had to be done."))
    return back(_("The orders service will be told again at once."))


@blueprint.get("/alerts")
def alerts() -> str:
    """What was brought up, the newest first."""
    number, language = page_number(), spoken()
    rows = runtime().alerts.find(limit=PAGE_SIZE + 1, offset=(number - 1) * PAGE_SIZE)
    for row in rows:
        row["title"] = texts.title(row["kind"], language)
        row["text"] = texts.text(row["kind"], row["subject"], row["details"], language)
    pages = number + (len(rows) > PAGE_SIZE)
    shown = sorted(rows[:PAGE_SIZE], key=lambda row: row["resolved_at"] is not None)  # what lasts goes first
    return render_template("alerts.html", alerts=shown, page=number, pages=pages)


@blueprint.post("/alerts/<alert_id>")
@requires("operator")
def acknowledge(alert_id: str) -> Any:
    """Note that a person has seen it."""
    at = runtime()
    if not any(at.alerts.acknowledge(alert, actor(), at.clock()) for alert in ids_of([alert_id])):
        return back(_("Somebody was faster: it was seen already."), "wait")
    return back(_("Noted: it is not repeated."))
