"""The overview: one sentence that says whether all is well, the worst first, and the figures behind it."""

from bisect import bisect_left
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Any

from flask import render_template, request, url_for
from flask_babel import gettext as _
from flask_babel import ngettext
from redis.exceptions import RedisError

from stocksync.queue.wakeups import RedisWakeups
from stocksync.store.operation_lists import Filter
from stocksync.store.tallies import WAIT_BOUNDS, Counts
from stocksync.upkeep import alert_texts as alerts
from stocksync.web.frame import blueprint, language, runtime

SPANS = {"1h": (timedelta(hours=1), 60), "24h": (timedelta(hours=24), 1800), "7d": (timedelta(days=7), 21600)}
"""What the charts show: name -> (how long, seconds of a step)."""


@blueprint.get("/")
def overview() -> str:
    """Is all well, what hangs, why, since when."""
    span, now = request.args.get("span"), runtime.clock()
    span = span if span in SPANS else "24h"
    with runtime.database.scope():
        state = runtime.queries.status(now, runtime.config.monitoring_stale_operation_hours)
        lanes, matrix = runtime.queries.lanes(), runtime.operation_lists.errors(now)
        doubt, _more = runtime.operation_lists.count(Filter(in_doubt=True))
        differences, series = runtime.reconciliation.records.count_open(), _series(span, now)
    breaker, alive = runtime.breaker.open_until(), _who_is_alive()
    return render_template(
        "overview.html",
        findings=findings(alive, state, lanes, doubt, differences, breaker is not None),
        health=health(alive, breaker),
        state=state,
        waited=(now - state["next_due_at"]).total_seconds() if state["next_due_at"] else 0,
        matrix=matrix,
        span=span,
        spans=SPANS,
        series=series,
        chart=lambda *names: [
            [int(point["at"].timestamp()) for point in series],
            *([point[name] for point in series] for name in names),
        ],
    )


def _who_is_alive() -> dict[str, bool]:
    """Which of `redis`, `worker` and `scheduler` live; without Redis nobody knows of the others."""
    if not isinstance(runtime.wakeups, RedisWakeups):
        return {}
    try:
        return {"redis": True, **runtime.heard_from()}
    except (RedisError, OSError):
        return {"redis": False}


def health(alive: dict[str, bool], breaker: datetime | None) -> list[tuple[str, str, str]]:
    """The parts: (name, `good`, `wait`, `bad` or `unknown`, a few words)."""
    fine, silence = ("good", _("answers")), ("bad", _("does not answer"))
    said = {True: fine, False: silence, None: ("unknown", _("unknown"))}
    return [
        (_("Database"), *fine),
        ("Redis", *said[alive.get("redis")]),
        (_("Worker"), *said[alive.get("worker")]),
        (_("Scheduler"), *said[alive.get("scheduler")]),
        (_("Orders service"), *(("wait", silence[1]) if breaker else fine)),
    ]


def findings(
    alive: dict[str, bool],
    state: dict[str, Any],
    lanes: list[dict[str, Any]],
    doubt: int,
    differences: int,
    outage: bool,
) -> list[tuple[str, str, str | None]]:
    """What is not well, the worst first, a part that is down before all else. Empty: all is well.

    Each finding is `bad` or `wait`, a sentence, and where to look.
    """
    spoken, figures, waiting, lost = language(), state["statistics"], state["orders_waiting"], state["lost"]
    failed, stale = figures["failed_operations"], 0 if outage else figures["stale_operations"]
    paused = sum(bool(lane["paused"]) for lane in lanes)
    silent = {part for part, lives in alive.items() if not lives}
    found: list[tuple[int, str, str, str | None]] = [
        ("redis" in silent, "bad", alerts.title("redis_away", spoken), None),
        ("worker" in silent, "bad", alerts.title("worker_silent", spoken), None),
        ("scheduler" in silent, "bad", alerts.title("scheduler_silent", spoken), None),
        (lost, "bad", ngettext("%(num)s order would never be told. Call the developer.",
                               "%(num)s orders would never be told. Call the developer.", lost), None),
        (failed, "bad", ngettext("%(num)s operation was not delivered and waits for a person.",
                                 "%(num)s operations were not delivered and wait for a person.", failed),
         url_for("pages.operations", status="failed")),
        (doubt, "bad", ngettext("Of %(num)s operation it is not known whether the stock was moved: please say.",
                                "Of %(num)s operations it is not known whether the stock was moved: please say.",
                                doubt), url_for("pages.operations", doubt=1)),
        (outage, "wait", ngettext("The orders service does not answer; %(num)s order waits and will go by itself.",
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


def _series(span: str, now: datetime) -> list[dict[str, Any]]:
    """What deliveries came to, step by step."""
    length, step = SPANS[span]
    return [
        {
            "at": moment,
            "delivered": counts["delivered"],
            "failed": counts["failed"] + counts["put_off"],
            "wait": _mean_wait(counts),
            "slow": _slow_wait(counts),
        }
        for moment, counts in runtime.tallies.series(now - length, step, now)
    ]


def _mean_wait(counts: Counts) -> float | None:
    wait = counts.success()["mean_wait_seconds"]
    return None if wait is None else round(float(wait), 1)


def _slow_wait(counts: Counts) -> float | None:
    """Seconds that 95 of 100 waited at most, as far as the histogram tells; None: nothing was delivered."""
    reached = list(accumulate(counts[f"wait_le_{bound}"] for bound in (*WAIT_BOUNDS, "inf")))
    place = bisect_left(reached, 0.95 * reached[-1])
    if place < len(WAIT_BOUNDS):
        return WAIT_BOUNDS[place] if reached[-1] else None
    return max(WAIT_BOUNDS[-1], _mean_wait(counts) or 0)
