"""The overview, and the lists behind it: sellers, comparisons with the remote, alerts, stock; what a person may do there."""

from collections import Counter
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Any
from uuid import UUID

from flask import abort, render_template, request, url_for
from flask_babel import get_locale, gettext as _, ngettext

from stocksync.delivery.breaker import CREDENTIALS, OUTAGE
from stocksync.queue.wakeups import RedisWakeups
from stocksync.store.operation_lists import Filter
from stocksync.store.queries import LEVELS_BY
from stocksync.store.states import DIFFERENCE_STATUSES
from stocksync.store.tallies import WAIT_BOUNDS, Counts
from stocksync.store.values import check_word
from stocksync.upkeep import alert_texts
from stocksync.upkeep.discrepancies import MENDABLE
from stocksync.web import words
from stocksync.web.auth import actor
from stocksync.web.frame import PAGE_SIZE, back, blueprint, choice_of, order_of, page_number, runtime
from stocksync.web.health import asked

_ON_NO_OTHER_PAGE = ("audit", "unclaimed", "failure_rate", "pending", "reconciliation")
"""Alerts of what no sentence of the overview says by itself."""
SPANS = {"1h": (timedelta(hours=1), 60), "24h": (timedelta(hours=24), 1800), "7d": (timedelta(days=7), 21600)}
"""What the charts show: name -> (how long, seconds of a step)."""


@blueprint.get("/")
def overview() -> str:
    """Is all well, what hangs, why, since when."""
    span, now = choice_of("span", ("24h", *SPANS)), runtime.clock()
    length, seconds = SPANS[span]
    state = runtime.queries.status(now, runtime.config.monitoring_stale_operation_hours)
    steps = runtime.tallies.series(now - length, seconds, now)
    series = [_point(*step) for step in steps]
    breaker, alive = runtime.breaker.opened()[1], _who_is_alive()
    return render_template(
        "overview.html",
        findings=findings(alive, state, breaker),
        alive=alive,
        breaker=breaker,
        state=state,
        waited=(now - state["next_due_at"]).total_seconds() if state["next_due_at"] else 0,
        matrix=runtime.operation_lists.errors(now),
        span=span,
        spans=SPANS,
        series=series,
        total=_point(now, Counts(sum((counts for _at, counts in steps), Counter()))),
        chart=lambda *names: [
            [int(point["at"].timestamp()) for point in series],
            *([point[name] for point in series] for name in names),
        ],
    )


def _who_is_alive() -> dict[str, bool]:
    """Which of `redis`, `worker` and `scheduler` live; without Redis nobody knows of the others."""
    if not isinstance(runtime.wakeups, RedisWakeups):
        return {}
    answers, alive = asked(runtime.processes_alive)
    return {"redis": answers == "ok", **(alive or {})}


def findings(
    alive: dict[str, bool], state: dict[str, Any], breaker: str | None
) -> list[tuple[str, str, str | None]]:
    """What is not well, the worst first, a part that is down before all else. Empty: all is well.

    Each finding is `bad` or `wait`, a sentence, and where to look. `breaker`: why it is open.
    """
    spoken, now = str(get_locale()), runtime.clock()
    figures, waiting, lost = state["statistics"], state["orders_waiting"], state["lost"]
    failed, stale = figures["failed_operations"], 0 if breaker else figures["stale_operations"]
    lanes = runtime.queries.lanes()
    paused = sum(bool(lane["paused"]) for lane in lanes)
    put_off = (lane["paused_reason"] for lane in lanes if (lane["snoozed_until"] or now) > now)
    doubt, _more = runtime.operation_lists.count(Filter(in_doubt=True))
    differences = runtime.reconciliation.records.count_open()
    found: list[tuple[int, str, str, str | None]] = [
        (alive.get("redis") is False, "bad", alert_texts.title("redis_away", spoken), None),
        (alive.get("worker") is False, "bad", alert_texts.title("worker_silent", spoken), None),
        (alive.get("scheduler") is False, "bad", alert_texts.title("scheduler_silent", spoken), None),
        (lost, "bad", ngettext("%(num)s order would never be told. Call the developer.",
                               "%(num)s orders would never be told. Call the developer.", lost), None),
        (failed, "bad", ngettext("%(num)s operation was not delivered and waits for a person.",
                                 "%(num)s operations were not delivered and wait for a person.", failed),
         url_for("pages.operations", status="failed")),
        (doubt, "bad", ngettext("Of %(num)s operation it is not known whether the stock was moved: please say.",
                                "Of %(num)s operations it is not known whether the stock was moved: please say.",
                                doubt), url_for("pages.operations", doubt=1)),
        (breaker == CREDENTIALS or CREDENTIALS in put_off, "bad",
         _("The orders service refuses our key. Call the administrator; nothing is lost."), url_for("pages.lanes")),
        *((count, "bad", alert_texts.title(kind, spoken), url_for("pages.alerts"))
          for kind, count in runtime.alerts.kinds_open().items() if kind in _ON_NO_OTHER_PAGE),
        (breaker == OUTAGE, "wait", ngettext("The orders service does not answer; %(num)s order waits and will go by itself.",
                                  "The orders service does not answer; %(num)s orders wait and will go by themselves.",
                                  waiting), url_for("pages.lanes")),
        (paused, "wait", ngettext("%(num)s seller is paused: nothing is sent for them.",
                                  "%(num)s sellers are paused: nothing is sent for them.", paused),
         url_for("pages.lanes")),
        (differences, "wait", ngettext("%(num)s order differs from the orders service and waits for a decision.",
                                       "%(num)s orders differ from the orders service and wait for a decision.",
                                       differences), url_for("pages.reconciliation")),
        (stale, "wait", ngettext("%(num)s operation has been waiting for too long.",
                                 "%(num)s operations have been waiting for too long.", stale),
         url_for("pages.operations", status="pending", age="stale")),
    ]  # fmt: skip
    return [(kind, sentence, address) for count, kind, sentence, address in found if count]


def _point(at: datetime, counts: Counts) -> dict[str, Any]:
    """What deliveries came to in one step of the charts.

    `wait`: the mean in seconds. `slow`: what 95 of 100 waited at most, as far as the histogram tells.
    """
    success = counts.success()
    mean, most = success["mean_wait_seconds"], 0.95 * success["delivered_operations"]
    wait = 0.0 if mean is None else round(mean, 1)
    delivered = accumulate(counts[f"wait_le_{bound}"] for bound in WAIT_BOUNDS)
    slow = next(
        (bound for bound, number in zip(WAIT_BOUNDS, delivered, strict=True) if number >= most),
        max(WAIT_BOUNDS[-1], wait),
    )
    return {
        "at": at,
        "delivered": counts["delivered"],
        "failed": counts["failed"] + counts["deferred"],
        "wait": None if mean is None else wait,
        "slow": None if mean is None else slow,
    }


@blueprint.get("/lanes")
def lanes() -> str:
    """Every seller: what waits, and whether it is worked on; the remote's breaker; the periodic tasks."""
    return render_template(
        "lanes.html",
        lanes=runtime.queries.lanes(),
        order=order_of("token_id", "orders_waiting", "next_due_at"),
        tasks=runtime.periodic.latest(),
        breaker=runtime.breaker.open_until(),
    )


@blueprint.post("/lanes/pause")
def pause() -> Any:
    """Deliver nothing of one seller until it is resumed."""
    why = f"{words.word('ACTOR', actor())}: {check_word('reason', request.form.get('reason'))}"
    changed = runtime.deliveries.pause(request.form.get("lane", ""), why)
    return back(_("Paused: nothing is sent for this seller.") if changed else _("It was paused already."))


@blueprint.post("/lanes/resume")
def resume() -> Any:
    """Deliver one seller's orders again, at once."""
    lane = request.form.get("lane", "")
    if not runtime.deliveries.resume(lane):
        abort(404)
    runtime.wakeups.wake(lane, force=True)
    return back(_("Going on."))


@blueprint.get("/reconciliation")
def reconciliation() -> str:
    """Differences that wait for a person, and the newest comparisons."""
    records, status = runtime.reconciliation.records, choice_of("status", ("open", *DIFFERENCE_STATUSES))
    order = order_of("first_seen_at", "order_id", "kind")
    differences = records.differences(
        status=status,
        after=request.args.get("after", type=UUID),
        limit=PAGE_SIZE + 1,
        newest_first=order == "-first_seen_at",
    )
    return render_template(
        "reconciliation.html",
        differences=differences[:PAGE_SIZE],
        order=order,
        following=differences[PAGE_SIZE - 1]["id"] if len(differences) > PAGE_SIZE else None,
        status=status,
        waiting=records.count_open(),
        runs=records.runs(limit=15),
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
    number, order = page_number(), order_of("-resolved_at", "raised_at", "kind")  # what lasts goes first
    rows = runtime.alerts.find(
        limit=PAGE_SIZE + 1,
        offset=(number - 1) * PAGE_SIZE,
        order="raised_at" if order == "raised_at" else "-raised_at",
    )
    return render_template(
        "alerts.html",
        alerts=rows[:PAGE_SIZE],
        order=order,
        texts=alert_texts,
        page=number,
        pages=number + (len(rows) > PAGE_SIZE),
    )


@blueprint.post("/alerts/<uuid:alert_id>")
def acknowledge(alert_id: UUID) -> Any:
    """Note that a person has seen it."""
    noted = runtime.alerts.acknowledge(alert_id, actor(), runtime.clock())
    return (
        back(_("Noted: it is not repeated."))
        if noted
        else back(_("Somebody was faster: it was seen already."), "wait")
    )


@blueprint.get("/stock")
def stock() -> str:
    """Stock levels, found by a part of the SKU."""
    number, text, order = page_number(), request.args.get("q", "").strip()[:200], order_of(*LEVELS_BY)
    levels, total = runtime.queries.levels(
        text, limit=PAGE_SIZE, offset=(number - 1) * PAGE_SIZE, order=order
    )
    return render_template(
        "stock.html",
        levels=levels,
        order=order,
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
    return render_template(
        "sku.html",
        sku=wanted,
        levels=runtime.queries.stock(wanted),
        sums=runtime.queries.movement_sums(wanted),
    )
