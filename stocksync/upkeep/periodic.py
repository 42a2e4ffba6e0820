"""Periodic tasks: what comes back by itself, how often, and its recorded runs."""

import logging
import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from stocksync.errors import StockSyncError
from stocksync.queue.shutdown import Stop
from stocksync.store.audit import audit
from stocksync.store.cleanup import CleanUp
from stocksync.store.context import Context, Part, connected
from stocksync.store.deliveries import Deliveries
from stocksync.store.tallies import Tallies
from stocksync.store.upkeep import LONGEST_RUN, TaskRuns
from stocksync.upkeep.monitor import Monitor
from stocksync.upkeep.reconcile import Reconciliation

log = logging.getLogger(__name__)

_BATCH = 500
_MOST_RESCUES = 200 * _BATCH
"""Of one sweep; the next one goes on."""
_LATE = timedelta(minutes=2)
_AUDIT_EVERY = timedelta(minutes=55)


class PeriodicTasks(Part):
    """Runs a task by its name, as its job asks for, or by the name of a method, as a person does."""

    def __init__(
        self,
        context: Context,
        reconciliation: Reconciliation,
        monitor: Callable[[], Monitor],
        stop: Stop,
    ) -> None:
        """`stop`: set when the process is to end."""
        super().__init__(context)
        self._reconciliation = reconciliation
        self._monitor = monitor
        self._stop = stop
        self.runs = TaskRuns(context)
        self._began_at = context.clock()

    @property
    def table(self) -> dict[str, tuple[int, str]]:
        """Every task: seconds between two runs, and what it is for."""
        config = self._config
        return {
            "sweep": (
                config.sweep_interval_seconds,
                "take back what dead workers hold, wake lanes with due work",
            ),
            "reconcile": (
                config.reconciliation_interval_minutes * 60,
                "compare our orders with the remote's, repair what may be repaired",
            ),
            "monitor": (
                config.monitoring_interval_minutes * 60,
                "check everything, send alerts",
            ),
            "cleanup": (86400, "delete old finished records"),
        }

    def run(self, name: str) -> dict[str, Any]:
        """One run, recorded; nothing is done while another of the same is under way.

        What is left of its work is queued again behind what waits.
        """
        acts = {
            "sweep": self.sweep,
            "reconcile": lambda: self._reconciliation.slice(self._stop.is_set),
            "monitor": self.monitor,
            "cleanup": lambda: self.cleanup(seconds=self._config.delivery_slice_seconds),
        }
        report = self.runs.run(name, acts[name], min(self.table[name][0], LONGEST_RUN))
        # After the end of this run, or another worker would find it under way still.
        if report.get("more"):
            self.context.wakeups.again(name)
        return report

    def latest(self) -> list[dict[str, Any]]:
        """Every task with its interval (seconds) and its newest run (None: it never ran)."""
        return [
            {"task": name, "interval": interval, "last": next(iter(self.runs.latest(name)), None)}
            for name, (interval, _) in self.table.items()
        ]

    def run_overdue_monitor(self) -> None:
        """Run the monitor here if its own run is overdue: what queues and runs it may be what failed."""
        last = next(iter(self.runs.latest("monitor")), None)
        due_at = (last["started_at"] if last else self._began_at) + timedelta(
            seconds=self.table["monitor"][0]
        )
        if self._clock() >= due_at + _LATE:
            log.warning("the monitor is late; it runs in this process", extra={"task": "monitor"})
            self.run("monitor")

    def audited(self) -> list[str]:
        """The promises that the audit found broken; it is run at most once an hour for this.

        Raises StockSyncError: this hour's was not finished.
        """
        last = next(iter(self.runs.latest("audit")), None)
        # Once an hour though it failed: one that takes longer than a job may would take every monitor with it.
        if last is None or self._clock() - last["started_at"] >= _AUDIT_EVERY:
            self.runs.run(
                "audit",
                lambda: {"broken": [finding.check for finding in audit(self._database)]},
                LONGEST_RUN,
            )
            (last,) = self.runs.latest("audit")
        if last["status"] != "done":
            raise StockSyncError("this hour's audit did not come to its end")
        return list(last["result"]["broken"])

    @connected
    def sweep(self) -> dict[str, int]:
        """Return what dead workers left and wake every lane with due work: alone enough to deliver all.

        Lanes that are due later get their entry at rq-scheduler back, which a flushed Redis has lost.

        Returns:
            `rescued`: orders whose lease ran out; `woken`: lanes with due work that could be woken; `planned`: lanes
            due later.
        """
        deliveries, wakeups = Deliveries(self.context), self.context.wakeups
        Tallies(self.context).fold(self._clock())
        rescued, batch = 0, _BATCH
        while batch == _BATCH and rescued < _MOST_RESCUES:
            batch = deliveries.rescue(self._clock(), self._config.retry_max_attempts, _BATCH)
            rescued += batch
        deliveries.bring_forward(self._clock())
        now, lanes = self._clock(), deliveries.due_lanes()
        later = {lane: moment for lane, moment in lanes.items() if moment > now}
        woken = sum(wakeups.wake(lane, force=True) for lane in lanes if lane not in later)
        for lane, moment in later.items():
            wakeups.wake_at(lane, moment)
        if rescued or woken:
            log.info("sweep: %d orders rescued, %d lanes woken", rescued, woken)
        return {"rescued": rescued, "woken": woken, "planned": len(later)}

    @connected
    def monitor(self) -> dict[str, Any]:
        """Look at everything that can go wrong, and have people told; see `upkeep.monitor`."""
        return self._monitor().run()

    @connected
    def cleanup(self, *, dry_run: bool = False, seconds: float = math.inf) -> dict[str, Any]:
        """Take away what is long at an end, for at most `seconds`; see `store.cleanup`."""
        return CleanUp(self.context).run(dry_run=dry_run, seconds=seconds, wait=self._stop.wait)
