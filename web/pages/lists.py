"""The smaller lists: sellers, comparisons with the remote, alerts, stock; and what a person may do about them."""

from typing import Any
from uuid import UUID

from flask import abort, render_template, request
from flask_babel import gettext as _

from stocksync.store.states import DIFFERENCE_STATUSES
from stocksync.store.values import check_word
from stocksync.upkeep import alert_texts
from stocksync.upkeep.discrepancies import MENDABLE
from stocksync.web.auth import actor
from stocksync.web.frame import PAGE_SIZE, back, blueprint, page_number, runtime


@blueprint.get("/lanes")
def lanes() -> str:
    """Every seller: what waits, and whether it is worked on; the remote's breaker; the periodic tasks."""
    with runtime.database.scope():
        found, tasks = runtime.queries.lanes(), runtime.tasks()
    return render_template("lanes.html", lanes=found, tasks=tasks, breaker=runtime.breaker.open_until())


@blueprint.post("/lanes/pause")
def pause() -> Any:
    """Deliver nothing of one seller until it is resumed."""
    reason = check_word("reason", request.form.get("reason"))
    changed = runtime.lanes.pause(request.form.get("lane", ""), f"{actor()}: {reason}")
    return back(_("Paused: nothing is sent for this seller.") if changed else _("It was paused already."))


@blueprint.post("/lanes/resume")
def resume() -> Any:
    """Deliver one seller's orders again, at once."""
    lane = request.form.get("lane", "")
    if not runtime.lanes.resume(lane):
        abort(404)
    runtime.wakeups.wake(lane, force=True)
    return back(_("Going on."))


@blueprint.get("/reconciliation")
def reconciliation() -> str:
    """Differences that wait for a person, and the newest comparisons."""
    records, status = runtime.reconciliation.records, request.args.get("status")
    status = status if status in DIFFERENCE_STATUSES else "open"
    after = request.args.get("after", type=UUID)
    with runtime.database.scope():
        differences = records.differences(status=status, after=after, limit=PAGE_SIZE + 1)
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
def compare() -> Any:
    """Have all sellers compared now, in a job."""
    runtime.queue_reconciliation(actor())
    return back(_("The comparison begins; its lines appear below as it goes on."))


@blueprint.post("/reconciliation/<difference_id>/fix")
def fix(difference_id: str) -> Any:
    """Have the remote told again what we say, where both sides still differ."""
    outcome = runtime.reconciliation.fix(difference_id, actor=actor(), reason=request.form.get("reason", ""))
    return back(
        _("Both sides agree by now: nothing had to be done.")
        if outcome == "gone"
        else _("The orders service will be told again at once.")
    )


@blueprint.post("/reconciliation/<difference_id>/leave")
def leave(difference_id: str) -> Any:
    """Leave a difference as it is."""
    runtime.reconciliation.leave(difference_id, actor=actor(), reason=request.form.get("reason", ""))
    return back(_("Left as it is; it comes up again only if it changes."))


@blueprint.get("/alerts")
def alerts() -> str:
    """What was brought up, the newest first."""
    number = page_number()
    rows = runtime.alerts.find(limit=PAGE_SIZE + 1, offset=(number - 1) * PAGE_SIZE)
    shown = sorted(rows[:PAGE_SIZE], key=lambda row: row["resolved_at"] is not None)  # what lasts goes first
    pages = number + (len(rows) > PAGE_SIZE)
    return render_template("alerts.html", alerts=shown, texts=alert_texts, page=number, pages=pages)


@blueprint.post("/alerts/<uuid:alert_id>")
def acknowledge(alert_id: UUID) -> Any:
    """Note that a person has seen it."""
    if runtime.alerts.acknowledge(alert_id, actor(), runtime.clock()):
        return back(_("Noted: it is not repeated."))
    return back(_("Somebody was faster: it was seen already."), "wait")


@blueprint.get("/stock")
def stock() -> str:
    """Stock levels, found by a part of the SKU."""
    number, text = page_number(), request.args.get("q", "").strip()[:200]
    levels, total = runtime.queries.levels(text, limit=PAGE_SIZE, offset=(number - 1) * PAGE_SIZE)
    return render_template(
        "stock.html",
        levels=levels,
        total=total,
        q=text,
        page=number,
        pages=max(1, -(-total // PAGE_SIZE)),
        unlinked=[] if text or number > 1 else runtime.queries.lines_without_sku(PAGE_SIZE),
    )


@blueprint.get("/stock/sku")
def sku() -> str:
    """One SKU: its levels, the sums of all its movements, and the newest of these."""
    wanted = request.args.get("sku", "")
    with runtime.database.scope():
        levels, sums = runtime.queries.stock(wanted), runtime.queries.movement_sums(wanted)
    return render_template("sku.html", sku=wanted, levels=levels, sums=sums)
