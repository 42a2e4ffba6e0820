"""The sweep: returns what dead workers left and wakes every lane with due work. It alone is enough to deliver all."""

import logging

from stocksync.store.context import Context
from stocksync.store.deliveries import Deliveries

log = logging.getLogger(__name__)

_BATCH = 500
_MOST_RESCUES = 200 * _BATCH


def sweep(context: Context) -> dict[str, int]:
    """One sweep; the next one rescues what is left of more than `_MOST_RESCUES`.

    Lanes that are due later get their entry at rq-scheduler back, which a flushed Redis has lost.

    Returns:
        `rescued`: orders whose lease ran out; `woken`: lanes with due work that could be woken; `planned`: lanes due
        later.
    """
    deliveries, wakeups = Deliveries(context), context.wakeups
    rescued, batch = 0, _BATCH
    while batch == _BATCH and rescued < _MOST_RESCUES:
        batch = deliveries.rescue(context.clock(), context.config.retry_max_attempts, _BATCH)
        rescued += batch
    now, lanes = context.clock(), deliveries.due_lanes()
    later = {lane: moment for lane, moment in lanes.items() if moment > now}
    woken = sum(wakeups.wake(lane, force=True) for lane in lanes if lane not in later)
    for lane, moment in later.items():
        wakeups.wake_at(lane, moment)
    if rescued or woken:
        log.info("sweep: %d orders rescued, %d lanes woken", rescued, woken)
    return {"rescued": rescued, "woken": woken, "planned": len(later)}
