"""The overview: one sentence that says whether all is well, the worst first, and the figures behind it."""

from __future__ import annotations

from bisect import bisect_left
from datetime import datetime, timedelta
from typing import Any

from flask import render_template, request, url_for
from redis.exceptions import RedisError

from stocksync.queue.wakeups import RedisWakeups
from stocksync.runtime import Runtime
from stocksync.store.operation_lists import Filter
from stocksync.store.tallies import WAIT_BOUNDS, Counts
from stocksync.upkeep import alert_texts as alerts
from stocksync.web.language import gettext as _
from stocksync.web.language import language, ngettext
from stocksync.web.pages.frame import blueprint, runtime

SPANS = {"1h": (timedelta(hours=1), 60), "24h": (timedelta(hours=24), 1800), "7d": (timedelta(days=7), 21600)}
"""What the charts show: name -> (how long, seconds of a step)."""
Finding = tuple[str, str, str | None]
"""`bad` or `wait`, a sentence, where to look."""


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
        differences = at.reconciliation.records.count_open()
        matrix = at.operation_lists.errors(at.clock())
        series = _series(at, span)
    breaker, heard = at.breaker.open_until(), _heard(at)
    return render_template(
        "overview.html",
        findings=[*silent(heard), *findings(state, lanes, doubt, differences, breaker is not None)],
        health=health(heard, breaker),
        state=state,
        waited=(state["last_updated"] - state["next_due_at"]).total_seconds() if state["next_due_at"] else 0,
        matrix=matrix,
        span=span,
        spans=SPANS,
        series=series,
        chart=lambda *names: [
            [int(point["at"].timestamp()) for point in series],
            *([point[name] for point in series] for name in names),
        ],
    )


def _heard(at: Runtime) -> dict[str, bool]:
    """Which of `redis`, `worker` and `scheduler` live; without Redis nobody knows of the others."""
    if not isinstance(at.wakeups, RedisWakeups):
        return {}
    try:
        return {"redis": True, **at.heard_from()}
    except (RedisError, OSError):
        return {"redis": False}


def silent(heard: dict[str, bool]) -> list[Finding]:
    """A part that is down is the worst of all: nothing goes out."""
    kinds = {"redis": "redis_away", "worker": "worker_silent", "scheduler": "scheduler_silent"}
    return [
        ("bad", alerts.title(kinds[part], language()), None) for part, lives in heard.items() if not lives
    ]


def health(heard: dict[str, bool], breaker: datetime | None) -> list[tuple[str, str, str]]:
    """The parts: (name, `good`, `wait`, `bad` or `unknown`, a few words)."""
    fine, silence = _("answers"), _("does not answer")
    parts = [(_("Database"), "good", fine)]
    for part, name in (("redis", "Redis"), ("worker", _("Worker")), ("scheduler", _("Scheduler"))):
        lives = heard.get(part)
        words = _("unknown") if lives is None else fine if lives else silence
        parts.append((name, {None: "unknown", True: "good", False: "bad"}[lives], words))
    parts.append((_("Orders service"), "wait" if breaker else "good", silence if breaker else fine))
    return parts


def findings(
    state: dict[str, Any], lanes: list[dict[str, Any]], doubt: int, differences: int, outage: bool
) -> list[Finding]:
    """What is not well, the worst first. Empty: all is well."""
    figures, waiting, lost = state["statistics"], state["orders_waiting"], state["lost"]
    failed, stale = figures["failed_operations"], figures["stale_operations"]
    paused = sum(bool(lane["paused"]) for lane in lanes)
    found: list[tuple[int, Finding]] = [
        (
            lost,
            (
                "bad",
                ngettext(
                    "%(num)s order would never be told. Call the developer.",
                    "%(num)s orders would never be told. Call the developer.",
                    lost,
                ),
                None,
            ),
        ),
        (
            failed,
            (
                "bad",
                ngettext(
                    "%(num)s operation was not delivered and waits for a person.",
                    "%(num)s operations were not delivered and wait for a person.",
                    failed,
                ),
                url_for("pages.operations", status="failed"),
            ),
        ),
        (
            doubt,
            (
                "bad",
                ngettext(
                    "Of %(num)s operation it is not known whether the stock was moved: please say.",
                    "Of %(num)s operations it is not known whether the stock was moved: please say.",
                    doubt,
                ),
                url_for("pages.operations", doubt=1),
            ),
        ),
        (
            outage,
            (
                "wait",
                ngettext(
                    "The orders service does not answer; %(num)s order waits and will go by itself.",
                    "The orders service does not answer; %(num)s orders wait and will go by themselves.",
                    waiting,
                ),
                url_for("pages.lanes"),
            ),
        ),
        (
            paused,
            (
                "wait",
                ngettext(
                    "%(num)s seller is paused: nothing is sent for them.",
                    "%(num)s sellers are paused: nothing is sent for them.",
                    paused,
                ),
                url_for("pages.lanes"),
            ),
        ),
        (
            differences,
            (
                "wait",
                ngettext(
                    "%(num)s order differs from the orders service and waits for a decision.",
                    "%(num)s orders differ from the orders service and wait for a decision.",
                    differences,
                ),
                url_for("pages.reconciliation"),
            ),
        ),
        (
            stale if not outage else 0,
            (
                "wait",
                ngettext(
                    "%(num)s operation has been waiting for too long.",
                    "%(num)s operations have been waiting for too long.",
                    stale,
                ),
                url_for("pages.operations", status="pending", age="stale"),
            ),
        ),
    ]
    return [finding for count, finding in found if count]


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


def _slow_wait(counts: Counts) -> float | None:
    """Seconds that 95 of 100 waited at most, as far as the histogram tells; None: nothing was delivered."""
    numbers = [counts[f"wait_le_{bound}"] for bound in (*WAIT_BOUNDS, "inf")]
    reached = [sum(numbers[: place + 1]) for place in range(len(numbers))]
    if not reached[-1]:
        return None
    place = bisect_left(reached, 0.95 * reached[-1])
    return WAIT_BOUNDS[place] if place < len(WAIT_BOUNDS) else max(WAIT_BOUNDS[-1], _mean_wait(counts) or 0)
