"""The overview: one sentence that says whether all is well, the worst first, and the figures behind it."""

from __future__ import annotations

from bisect import bisect_left
from datetime import datetime, timedelta
from typing import Any

from flask import render_template, request, url_for
from redis.exceptions import RedisError

from stocksync.runtime import Runtime
from stocksync.store.operation_lists import Filter
from stocksync.store.tallies import WAIT_BOUNDS, Counts
from web.language import gettext as _
from web.language import ngettext
from web.pages.frame import blueprint, runtime

SPANS = {"1h": (timedelta(hours=1), 60), "24h": (timedelta(hours=24), 1800), "7d": (timedelta(days=7), 21600)}
"""What the charts show: name -> (how long, seconds of a step)."""


@blueprint.get("/")
def overview() -> str:
    """Is all well, what hangs, why, since when."""
    at = runtime()
    span = request.args.get("span", "24h")
    span = span if span in SPANS else "24h"
    with at.database.scope():
        state = at.queries.status(at.clock(), at.config.monitoring_stale_operation_hours)
        lanes = at.queries.lanes()
        doubt, _more = at.operation_lists.count(Filter(in_doubt=True))
        matrix = at.operation_lists.errors(at.clock())
        series = _series(at, span)
    breaker = at.breaker.open_until()
    return render_template(
        "overview.html",
        findings=findings(state, lanes, doubt, breaker is not None),
        state=state,
        breaker=breaker,
        matrix=matrix,
        span=span,
        spans=SPANS,
        series=series,
        waited=(state["last_updated"] - state["next_due_at"]).total_seconds() if state["next_due_at"] else 0,
        health=health(at, breaker),
        chart=lambda *names: [
            [int(point["at"].timestamp()) for point in series],
            *([point[name] for point in series] for name in names),
        ],
    )


def health(at: Runtime, breaker: datetime | None) -> list[tuple[str, str, str]]:
    """The parts: (name, `good`, `wait` or `bad`, a few words)."""
    try:
        heard: dict[str, bool] | None = at.heard_from()
    except (RedisError, OSError):
        heard = None
    fine, silent = _("answers"), _("not heard from")
    parts = [(_("Database"), "good", fine)]
    parts.append(("Redis", "good" if heard else "bad", fine if heard else _("does not answer")))
    for name, title in (("worker", _("Worker")), ("scheduler", _("Scheduler"))):
        known = heard is not None
        kind = ("good" if heard[name] else "bad") if heard is not None else "unknown"
        parts.append((title, kind, (_("works") if kind == "good" else silent) if known else _("unknown")))
    parts.append(
        (_("Orders service"), "wait" if breaker else "good", _("does not answer") if breaker else fine)
    )
    return parts


def findings(
    state: dict[str, Any], lanes: list[dict[str, Any]], doubt: int, outage: bool
) -> list[tuple[str, str, str | None]]:
    """What is not well, the worst first: (kind `bad` or `wait`, sentence, where to look). Empty: all is well."""
    found: list[tuple[str, str, str | None]] = []

    def say(kind: str, count: int, sentence: str, address: str | None) -> None:
        if count:
            found.append((kind, sentence, address))

    figures, waiting = state["statistics"], state["orders_waiting"]
    failed, stale, lost = figures["failed_operations"], figures["stale_operations"], state["lost"]
    say(
        "bad",
        lost,
        ngettext(
            "%(num)s order would never be told. Call the developer.",
            "%(num)s orders would never be told. Call the developer.",
            lost,
        ),
        None,
    )
    say(
        "bad",
        failed,
        ngettext(
            "%(num)s operation was not delivered and waits for a person.",
            "%(num)s operations were not delivered and wait for a person.",
            failed,
        ),
        url_for("pages.operations", status="failed"),
    )
    say(
        "bad",
        doubt,
        ngettext(
            "Of %(num)s operation it is not known whether the stock was moved: please say.",
            "Of %(num)s operations it is not known whether the stock was moved: please say.",
            doubt,
        ),
        url_for("pages.operations", doubt=1),
    )
    say(
        "wait",
        outage,
        ngettext(
            "The orders service does not answer; %(num)s order waits and will go by itself.",
            "The orders service does not answer; %(num)s orders wait and will go by themselves.",
            waiting,
        ),
        url_for("pages.lanes"),
    )
    paused = sum(bool(lane["paused"]) for lane in lanes)
    say(
        "wait",
        paused,
        ngettext(
            "%(num)s seller is paused: nothing is sent for them.",
            "%(num)s sellers are paused: nothing is sent for them.",
            paused,
        ),
        url_for("pages.lanes"),
    )
    say(
        "wait",
        stale and not outage,
        ngettext(
            "%(num)s operation has been waiting for too long.",
            "%(num)s operations have been waiting for too long.",
            stale,
        ),
        url_for("pages.operations", status="pending", age="stale"),
    )
    return found


def _series(at: Runtime, span: str) -> list[dict[str, Any]]:
    """What deliveries came to, step by step."""
    length, step = SPANS[span]
    now = at.clock()
    return [
        {
            "at": moment,
            "delivered": counts["delivered"],
            "failed": counts["failed"] + counts["put_off"],
            "wait": _mean_wait(counts),
            "slow": _slow_wait(counts),
        }
        for moment, counts in at.tallies.series(now - length, step, now)
    ]


def _mean_wait(counts: Counts) -> float | None:
    wait = counts.success()["mean_wait_seconds"]
    return None if wait is None else round(float(wait), 1)


def _slow_wait(counts: Counts) -> int | None:
    """Seconds that 95 of 100 waited at most, as far as the histogram tells; None: nothing was delivered."""
    numbers = [counts[f"wait_le_{bound}"] for bound in (*WAIT_BOUNDS, "inf")]
    reached = [sum(numbers[: place + 1]) for place in range(len(numbers))]
    if not reached[-1]:
        return None
    place = bisect_left(reached, 0.95 * reached[-1])
    return WAIT_BOUNDS[min(place, len(WAIT_BOUNDS) - 1)]
