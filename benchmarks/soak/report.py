"""A soak in lines: one each minute, and tables at the end."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from benchmarks.soak.figures import Ledger, Minute, mean, percentile

_COLUMNS = (
    *(
        "min",
        "wanted/s",
        "made/s",
        "call p50",
        "p95",
        "p99",
        "max",
        "heard p50",
        "p95",
        "p99",
        "page p50",
        "p95",
    ),
    *(
        "burst/s",
        "errors",
        "backlog",
        "worker",
        "scheduler",
        "web",
        "callers",
        "Redis",
        "DB conn",
        "Redis conn",
    ),
    "database",
)
UNITS = (
    "call: milliseconds from the planned moment to the call's return; heard: from the return to the request at the"
    " remote; page: of the operator; burst: answers a second of the API; worker to Redis: MB of memory (PSS; Redis'"
    " own figure); conn: connections; database: MB"
)


def heading() -> str:
    """Above the minutes."""
    return " ".join(f"{name:>9}" for name in _COLUMNS)


def line(number: int, minute: Minute, seconds: float, rate: float) -> str:
    """One minute, of which `seconds` were measured, with `rate` calls a second wanted."""
    now = minute.samples

    def memory(name: str) -> float:
        return sum(value for key, value in now.items() if key.startswith(name) and key.endswith("MB"))

    cells: list[float] = [
        number,
        rate,
        minute.made / seconds,
        *(percentile(minute.calls, share) for share in (0.5, 0.95, 0.99, 1.0)),
        *(percentile(minute.pickups, share) for share in (0.5, 0.95, 0.99)),
        *(percentile(minute.pages, share) for share in (0.5, 0.95)),
        mean(minute.rates),
        minute.errors,
        now.get("backlog", math.nan),
        *(memory(name) for name in ("worker", "scheduler", "web", "caller", "Redis")),
        now.get("PostgreSQL connections", math.nan),
        now.get("Redis connections", math.nan),
        now.get("database MB", math.nan),
    ]
    return " ".join(f"{_short(cell):>9}" for cell in cells)


def _short(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"


def tables(
    ledger: Ledger, memory: Mapping[str, Sequence[float]], connections: Mapping[str, Sequence[float]]
) -> Iterator[str]:
    """All minutes together, every kind of page, and what was to stay flat."""
    calls = [value for minute in ledger.minutes.values() for value in minute.calls]
    heard = [value for minute in ledger.minutes.values() for value in minute.pickups]
    yield ""
    yield f"{'all minutes':<28}{'number':>9}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}{'max ms':>9}"
    for name, values in {
        "calls": calls,
        "heard by the remote": heard,
        **{f"page: {kind}": took for kind, took in sorted(ledger.pages.items())},
    }.items():
        shares = "".join(f"{_short(percentile(values, share)):>9}" for share in (0.5, 0.95, 0.99, 1.0))
        yield f"{name:<28}{len(values):>9,}{shares}"
    yield ""
    yield f"{'flat?':<28}{'first':>9}{'least':>9}{'most':>9}{'last':>9}"
    for unit, series in (("MB", memory), ("connections", connections)):
        for name, sampled in series.items():
            ends = "".join(
                f"{_short(each):>9}" for each in (sampled[0], min(sampled), max(sampled), sampled[-1])
            )
            yield f"{f'{name}, {unit}':<28}{ends}"
