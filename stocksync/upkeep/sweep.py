"""The sweep: returns what dead workers left and wakes every lane with due work. It alone is enough to deliver all."""

import logging
from typing import NamedTuple

from stocksync.store.context import Wakeups
from stocksync.store.deliveries import Deliveries
from stocksync.store.identifiers import Clock

log = logging.getLogger(__name__)

_BATCH = 500


class SweepReport(NamedTuple):
    """`rescued`: orders whose lease ran out; `woken`: lanes with due work that could be woken; `planned`: lanes due later."""

    rescued: int
    woken: int
    planned: int

    def as_dict(self) -> dict[str, int]:
        """For JSON."""
        return self._asdict()


def sweep(
    deliveries: Deliveries, wakeups: Wakeups, clock: Clock, max_attempts: int, max_batches: int = 200
) -> SweepReport:
    """One sweep, of at most `max_batches` batches of rescues.

    Lanes that are due later get their entry at rq-scheduler back, which a flushed Redis has lost.
    """
    rescued, batch = 0, _BATCH
    while batch == _BATCH and rescued < max_batches * _BATCH:
        batch = deliveries.rescue(clock(), max_attempts, _BATCH)
        rescued += batch
    now, lanes = clock(), deliveries.due_lanes()
    later = {lane: moment for lane, moment in lanes.items() if moment > now}
    woken = sum(wakeups.wake(lane, force=True) for lane in lanes if lane not in later)
    for lane, moment in later.items():
        wakeups.wake_at(lane, moment)
    if rescued or woken:
        log.info("sweep: %d orders rescued, %d lanes woken", rescued, woken)
    return SweepReport(rescued, woken, len(later))
