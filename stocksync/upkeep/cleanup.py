"""Clean-up: takes away what is long at an end, in batches so short that deliveries beside it never wait long."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from stocksync.store.cleanup import KINDS, OPERATIONS, START, CleanUpStore
from stocksync.store.identifiers import Clock

log = logging.getLogger(__name__)

# Seconds. On SQLite a batch keeps every other writer waiting; one that waits looks again after at most PAUSE, as
# long as no batch takes much longer than TOO_LONG.
TOO_LONG = 0.05
SHORT = 0.02
PAUSE = 0.025
_SMALLEST, _FIRST, _LARGEST = 5, 50, 250


@dataclass(slots=True)
class CleanUpReport:
    """`gone`: rows by what they were. `more`: it was stopped before the end; call again. `longest`: batch, seconds."""

    dry_run: bool
    gone: Counter[str] = field(default_factory=Counter)
    batches: int = 0
    longest: float = 0.0
    more: bool = False

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        names = ("operations", "logs", *(kind for kind in KINDS if kind not in OPERATIONS))
        return {name: self.gone[name] for name in names} | {
            "batches": self.batches,
            "longest_batch_ms": round(self.longest * 1000),
            "more": self.more,
            "dry_run": self.dry_run,
        }


def clean_up(
    store: CleanUpStore,
    days: Mapping[str, int],
    clock: Clock,
    *,
    dry_run: bool = False,
    seconds: float = math.inf,
    wait: Callable[[float], bool],
    monotonic: Callable[[], float] = time.monotonic,
) -> CleanUpReport:
    """Take away what ended more than `days` ago, until nothing more may go.

    Args:
        days: for each of `KINDS`.
        dry_run: count what would go, and write nothing.
        seconds: stop after them, at the end of a batch.
        wait: rests so many seconds; True: the process is to stop.

    Raises:
        DatabaseUnavailable: what went before it is gone, and well.
    """
    report, until, limit = CleanUpReport(dry_run), monotonic() + seconds, _FIRST
    todo = [(kind, START) for kind in reversed(KINDS)]
    while todo and not report.more:
        (kind, after), began, now = todo.pop(), monotonic(), clock()
        before = now - timedelta(days=days[kind])
        following, gone = store.page(kind, after, limit, before, now, dry_run=dry_run)
        took = monotonic() - began
        report.gone += gone
        report.batches += 1
        report.longest = max(report.longest, took)
        if following is not None:
            todo.append((kind, following))
        if took > TOO_LONG:
            limit = max(_SMALLEST, limit // 2)
        elif took < SHORT:
            limit = min(_LARGEST, limit + limit // 4 + 1)
        stopped = not dry_run and wait(max(PAUSE, took))
        report.more = bool(todo) and (stopped or began + took >= until)
    if report.gone and not dry_run:
        log.info("clean-up: %s", ", ".join(f"{number} {name}" for name, number in report.gone.items()))
    return report
