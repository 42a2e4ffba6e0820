"""Whether a soak was well: what is judged, and by which bounds. Pure; every fault is a sentence."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

MEMORY_SHARE, MEMORY_MB = 1.05, 4.0
"""Flat: the median of the last third is at most that of the second, times and plus this."""
CONNECTIONS = 2
"""Flat: the most of the last third is at most that of the second, plus this."""
PACE = 0.99
"""At least this share of the calls that were wanted must have been made."""
_SHOWN = 5


def thirds(values: Sequence[float]) -> tuple[Sequence[float], Sequence[float]]:
    """The second and the last third. Raises ValueError: too few to tell."""
    if len(values) < 6:
        raise ValueError(f"{len(values)} samples are too few to tell whether they are flat")
    third = len(values) // 3
    return values[-2 * third : -third], values[-third:]


def memory_grows(name: str, megabytes: Sequence[float]) -> Iterator[str]:
    """A fault if it is not flat, or if the process was gone at a time."""
    second, last = thirds(megabytes)
    before, after = statistics.median(second), statistics.median(last)
    if not all(megabytes):
        yield f"{name} was gone when it was measured"
    if after > before * MEMORY_SHARE + MEMORY_MB:
        yield f"the memory of {name} grows: {before:.1f} MB in the second third, {after:.1f} MB in the last"


def connections_grow(name: str, numbers: Sequence[float]) -> Iterator[str]:
    """A fault if it is not flat."""
    second, last = thirds(numbers)
    if max(last) > max(second) + CONNECTIONS:
        yield f"connections to {name} grow: {max(second):.0f} in the second third, {max(last):.0f} in the last"


def deliveries(
    recorded: Collection[str], retried: Sequence[str], journal: Sequence[tuple[str, str]]
) -> Iterator[str]:
    """Faults in what the remote heard: it must have heard of each order once, under one key, and of nothing else.

    Args:
        recorded: orders that callers recorded, each once.
        retried: the order of each operation that a person had delivered again.
        journal: order and idempotency key of every request.
    """
    requests, keys = Counter(order for order, _key in journal), Counter(key for _order, key in journal)
    yield from _said("never came to the remote", [order for order in recorded if not requests[order]])
    yield from _said("came more than once under one key", [key for key, times in keys.items() if times > 1])
    most = Counter(dict.fromkeys(recorded, 1)) + Counter(retried)
    yield from _said(
        "came more often than it was recorded or retried",
        [order for order, times in requests.items() if most[order] and times > most[order]],
    )
    yield from _said("came though nobody recorded it", [order for order in requests if not most[order]])
    yield from _said("was retried and never came", [order for order in set(retried) if not requests[order]])


def _said(what: str, names: Sequence[str]) -> Iterator[str]:
    if names:
        yield f"{len(names)}: {what}: {', '.join(sorted(names)[:_SHOWN])}"


def pace(wanted: int, made: int) -> Iterator[str]:
    """A fault if callers did not keep up."""
    if made < wanted * PACE:
        yield f"{made} of {wanted} calls were made in time"


def faults(
    *,
    wanted: int,
    in_time: int,
    recorded: Collection[str],
    retried: Sequence[str],
    journal: Sequence[tuple[str, str]],
    errors: Sequence[str],
    backlog: int,
    broken: Sequence[str],
    memory: Mapping[str, Sequence[float]],
    connections: Mapping[str, Sequence[float]],
) -> list[str]:
    """Everything that was not well; empty: the soak is passed.

    Args:
        wanted: calls that should have been made by the end; `in_time`: that were.
        errors: of callers, pages, bursts and the processes' logs, in words.
        backlog: orders of the soak that waited still when it had had its time to drain.
        broken: what the audit found.
        memory: process -> megabytes, sample by sample; `connections` likewise, by server.
    """
    found = [*pace(wanted, in_time), *deliveries(recorded, retried, journal)]
    found += [f"{len(errors)} errors: {'; '.join(errors[:_SHOWN])}"] if errors else []
    found += [f"{backlog} orders are not delivered"] if backlog else []
    found += [f"the audit found: {check}" for check in broken]
    for judge, series in ((memory_grows, memory), (connections_grow, connections)):
        for name, values in series.items():
            try:
                found += judge(name, values)
            except ValueError as error:
                found.append(f"{name}: {error}")
    return found
