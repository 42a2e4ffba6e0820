"""What a drill came to: a document for programs, and the table of faults, the figures and the checks for people."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from benchmarks.drill.checks import Facts, out_of_turn
from benchmarks.drill.run import Happened, Outcome

_LEGEND = (
    "seconds: how long the fault lasted, in all; calls: that returned meanwhile; next delivery: the longest time from",
    "the end of a fault until one; call to remote: the longest time from a call made meanwhile until the remote was told.",
)


def rows(happened: list[Happened], facts: Facts) -> list[dict[str, Any]]:
    """The table: of each kind of fault how often it came, for how long, and what callers and deliveries did."""
    calls = sorted((at, order) for kept in facts.journals.values() for at, _, order in kept.done)
    told = defaultdict[str, list[float]](list)
    for entry in facts.told:
        told[entry["order"]].append(entry["at"])
    table: dict[str, dict[str, Any]] = {}
    for one in happened:
        row = table.setdefault(
            one.name,
            {"fault": one.name, "times": 0, "seconds": 0.0, "calls": 0, "next_delivery": 0.0, "told_after": 0.0},
        )  # fmt: skip
        during = [call for call in calls if one.started <= call[0] <= one.ended]
        row["times"] += 1
        row["seconds"] += one.ended - one.started
        row["calls"] += len(during)
        row["told_after"] = max([row["told_after"], *_waits(during, told)])
        known = row["next_delivery"] is not None and one.next_delivery is not None
        row["next_delivery"] = max(row["next_delivery"], one.next_delivery) if known else None
    return [_rounded(row) for row in table.values()]


def _waits(calls: list[tuple[float, str]], told: dict[str, list[float]]) -> Iterator[float]:
    """From each call until the remote was told of its order; nothing where it was told in the middle of the call."""
    for at, order in calls:
        moments = told[order]
        if (next_one := bisect_left(moments, at)) < len(moments):
            yield moments[next_one] - at


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 1) if isinstance(value, float) else value for name, value in row.items()}


def document(outcome: Outcome) -> dict[str, Any]:
    """For JSON."""
    facts = outcome.facts
    assert facts is not None
    journals = facts.journals.values()
    durations = sorted(seconds for kept in journals for _, seconds, _ in kept.done)
    return {
        "ok": outcome.ok,
        "database": outcome.plan.database,
        "seed": outcome.plan.seed,
        "hosts": outcome.network,
        "previous_release": outcome.previous,
        "seconds": round(outcome.seconds, 1),
        "faults": rows(outcome.happened, facts),
        "skipped": outcome.skipped,
        "calls": len(durations),
        "slowest_call": durations[-1] if durations else None,
        "median_call": durations[len(durations) // 2] if durations else None,
        "raised": sum(len(kept.raised) for kept in journals),
        "orders": sum(len(kept.book.orders) for kept in journals),
        "operations": len(facts.operations),
        "told": len(facts.told),
        "told_again": sum(entry["again"] for entry in facts.told),
        "out_of_turn": len(out_of_turn(facts.told)),
        "repaired": len(facts.repaired),
        "actions": dict(sorted(facts.actions.items())),
        "drained_after": facts.drained_after and round(facts.drained_after, 1),
        "memory": [round(each / 2**20, 1) for each in facts.memory],
        "page": outcome.visits,
        "checks": [{"check": each.name, "held": each.held, "said": each.said} for each in outcome.checks],
    }


def lines(found: dict[str, Any]) -> Iterator[str]:
    """For people."""
    yield f"{'fault':<38} {'times':>5} {'seconds':>8} {'calls':>6} {'next delivery':>14} {'call to remote':>15}"
    for row in found["faults"]:
        until = "none came" if row["next_delivery"] is None else f"{row['next_delivery']:.1f} s"
        yield (
            f"{row['fault']:<38} {row['times']:>5} {row['seconds']:>8.1f} {row['calls']:>6} {until:>14} "
            f"{row['told_after']:>13.1f} s"
        )
    for name, why in found["skipped"].items():
        yield f"{name:<38} skipped: {why}"
    yield from ("", *_LEGEND, "")
    yield f"{found['database']}, seed {found['seed']}, {found['seconds']:.0f} s; hosts: {found['hosts']}"
    if found["previous_release"]:
        yield f"the release beside this one: {found['previous_release']}"
    yield (
        f"{found['calls']} calls returned (median {1000 * (found['median_call'] or 0):.0f} ms, slowest "
        f"{found['slowest_call'] or 0:.1f} s), {found['raised']} raised and were repeated"
    )
    yield (
        f"{found['orders']} orders, {found['operations']} operations; the remote was told {found['told']} times, "
        f"{found['told_again']} of them a repeat"
    )
    yield (
        f"{found['out_of_turn']} orders heard of an older state after a newer one, from a request that hung; "
        f"{found['repaired']} were repaired by reconciliation"
    )
    yield f"the logs say: {_counted(found['actions'])}"
    before, after = found["memory"]
    yield f"drained after {found['drained_after']} s; the worker's memory {before} MB after the warm-up, {after} MB at the end"
    yield f"the page answered: {_counted(found['page'])}"
    yield ""
    for each in found["checks"]:
        yield f"{'ok' if each['held'] else 'NOT SO':<7} {each['check']}"
        yield from (f"          {what}" for what in each["said"])


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} x {what}" for what, count in sorted(counts.items()))
