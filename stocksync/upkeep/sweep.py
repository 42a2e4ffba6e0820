"""The sweep: returns what dead workers left and wakes every lane with due work. It alone is enough to deliver all."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass

from stocksync.store.context import Wakeups
from stocksync.store.deliveries import Deliveries
from stocksync.store.identifiers import Clock

log = logging.getLogger(__name__)

_BATCH = 500


@dataclass(frozen=True, slots=True)
class SweepReport:
    """`rescued`: orders whose lease ran out; `woken`: lanes with due work that could be woken; `planned`: lanes due later."""

    rescued: int
    woken: int
    planned: int

    def as_dict(self) -> dict[str, int]:
        """For JSON."""
        return asdict(self)


def sweep(
    deliveries: Deliveries, wakeups: Wakeups, clock: Clock, max_attempts: int, max_batches: int = 200
) -> SweepReport:
    """One sweep, of at most `max_batches` batches of rescues.

    Lanes that are due later get their entry at rq-scheduler back, which a flushed Redis has lost.
    """
    rescued = 0
    for _ in range(max_batches):
        batch = deliveries.rescue(clock(), max_attempts, _BATCH)
        rescued += batch
        if batch < _BATCH:
            break
    now, woken, planned = clock(), 0, 0
    for lane, moment in deliveries.due_lanes().items():
        if moment <= now:
            woken += wakeups.wake(lane, force=True)
        else:
            wakeups.wake_at(lane, moment)
            planned += 1
    if rescued or woken:
        log.info("sweep: %d orders rescued, %d lanes woken", rescued, woken)
    return SweepReport(rescued, woken, planned)
