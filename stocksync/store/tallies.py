"""What deliveries came to, counted in the transaction that settles them: the one source of every figure.

A row is added for each settlement and never changed, so that no writer waits for another. `fold` sums rows up as
they age: to the minute, after a day to the hour, after a week to the day. `counts` holds by name:

    completed, pruned         operations completed, and taken away by clean-up; their difference is a column too
    at_once, retried          of these, told at the first attempt, or after one had failed
    retry_ms                  milliseconds from the first failure to the delivery, of those retried
    wait_le_N, wait_ms        operations by seconds from being recorded to being delivered, and their sum
    delivered, failed         orders sent: accepted, or an attempt used up
    deferred                   orders sent in vain that used up none (outage, 429)
    took_le_N, took_ms        orders sent by milliseconds of the request, and their sum
    given_up, rescued         operations that ended as failed; orders that a dead worker had left
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from peewee import fn

from stocksync.store.context import Part, connected
from stocksync.store.database import Statement
from stocksync.store.models import Tally
from stocksync.store.values import as_utc

WAIT_BOUNDS = (1, 5, 15, 60, 300, 900, 3600, 14400)
"""Seconds."""
TOOK_BOUNDS = (25, 50, 100, 250, 500, 1000, 2500, 8000)
"""Milliseconds."""
_WAITS = (*(f"wait_le_{bound}" for bound in WAIT_BOUNDS), "wait_le_inf")
_TOOK = (*(f"took_le_{bound}" for bound in TOOK_BOUNDS), "took_le_inf")

# What is older than `age` is summed up into rows of `grain` seconds.
_GRAINS = (
    (0, 60, timedelta(minutes=2)),
    (60, 3600, timedelta(hours=26)),
    (3600, 86400, timedelta(days=9)),
)


class Counts(Counter[str]):
    """What one settlement, or a span of time, came to; names as the module says."""

    def completed(self, waited: float, since_failure: float | None) -> None:
        """Count one operation that was told, `waited` seconds after it was recorded.

        Args:
            since_failure: seconds since its first failed attempt; None: it never failed.
        """
        self.update(
            {"completed": 1, "wait_ms": round(waited * 1000), _WAITS[bisect_left(WAIT_BOUNDS, waited)]: 1},
            **{"at_once": 1}
            if since_failure is None
            else {"retried": 1, "retry_ms": round(since_failure * 1000)},
        )

    def sent(self, result: str, duration_ms: int) -> None:
        """Count one order that was sent: `delivered`, `failed` or `deferred`."""
        self.update({result: 1, "took_ms": duration_ms, _TOOK[bisect_left(TOOK_BOUNDS, duration_ms)]: 1})

    def success(self) -> dict[str, Any]:
        """The plan's figures of success; None where nothing was delivered, or nothing retried."""
        told = self["at_once"] + self["retried"]
        return {
            "delivered_operations": told,
            "first_attempt_share": self["at_once"] / told if told else None,
            "mean_retry_seconds": self["retry_ms"] / 1000 / self["retried"] if self["retried"] else None,
            "mean_wait_seconds": self["wait_ms"] / 1000 / told if told else None,
            "recovered_operations": self["retried"],
            "given_up_operations": self["given_up"],
            "failed_attempts": self["failed"],
        }


class Tallies(Part):
    """Adds counts, sums them up, folds them."""

    def add(self, counts: Counts, at: datetime, grain: int = 0) -> None:
        """Insert `counts` in the caller's transaction; skip the row if every count is zero.

        Args:
            grain: the seconds that the row stands for, from `at` on; 0: one settlement.
        """
        kept = {name: number for name, number in counts.items() if number}
        if kept:
            self._database.run(
                Statement("""
                    INSERT INTO stock_sync_tallies (id, at, grain, completed, counts)
                    VALUES (:id, :at, :grain, :completed, :counts)"""),
                id=self._new_id(),
                at=at,
                grain=grain,
                completed=counts["completed"] - counts["pruned"],
                counts=kept,
            )

    @connected
    def completed(self) -> int:
        """How many completed operations there are."""
        return int(Tally.select(fn.SUM(Tally.completed)).scalar() or 0)

    def since(self, moment: datetime) -> Counts:
        """The sums since `moment` (as exact as the rows of that age: to the minute, the hour, the day)."""
        total = Counts()
        for _, counts in self._counted(moment):
            total.update(counts)
        return total

    def series(self, since: datetime, step: int, until: datetime) -> list[tuple[datetime, Counts]]:
        """The sums of every `step` seconds from `since` (rounded down to a step) up to `until`, gaps included."""
        first, last = int(since.timestamp()) // step, int(until.timestamp()) // step
        spans: dict[int, Counts] = defaultdict(Counts)
        for at, counts in self._counted(datetime.fromtimestamp(first * step, UTC)):
            spans[int(at.timestamp()) // step].update(counts)
        return [
            (datetime.fromtimestamp(number * step, UTC), spans[number]) for number in range(first, last + 1)
        ]

    def fold(self, now: datetime, limit: int = 5000) -> int:
        """Sum up what has aged, at most `limit` rows of each grain. Returns how many rows went."""
        folded = 0
        for fine, coarse, age in _GRAINS:
            before = datetime.fromtimestamp((now - age).timestamp() // coarse * coarse, UTC)
            with self._database.transaction_scope():
                spans: dict[int, Counts] = defaultdict(Counts)
                rows = self._rows(
                    Statement("""
                        DELETE FROM stock_sync_tallies WHERE id IN (
                          SELECT id FROM stock_sync_tallies WHERE grain = :grain AND at < :before ORDER BY at LIMIT :limit {skip_locked})
                        RETURNING at, counts"""),
                    grain=fine,
                    before=before,
                    limit=limit,
                )
                for at, counts in rows:
                    spans[int(cast(datetime, as_utc(at)).timestamp()) // coarse].update(
                        Tally.counts.python_value(counts)
                    )
                for number, total in spans.items():
                    self.add(total, datetime.fromtimestamp(number * coarse, UTC), coarse)
            folded += len(rows)
        return folded

    @connected
    def _counted(self, since: datetime) -> list[tuple[datetime, dict[str, int]]]:
        return list(Tally.select(Tally.at, Tally.counts).where(Tally.at >= since).tuples())


def seconds_between(written: Any, now: datetime) -> float:
    """Seconds from a moment, as the database returned it, to `now`; never below zero (clocks differ)."""
    moment = as_utc(written)
    return 0.0 if moment is None else max(0.0, (now - moment).total_seconds())
