"""The composition root: settings in, ready objects out. Nobody else builds them.

`current()` is the process's own runtime, composed at first use from the environment and composed anew after a
fork, because a child must not use its parent's connections.
"""

import logging
import math
import os
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from rq.queue import Queue

from stocksync.composition import Parts
from stocksync.config import StockSyncConfig
from stocksync.delivery.settlement import DrainReport
from stocksync.errors import needs_extra
from stocksync.queue.wakeups import TASKS, RedisWakeups, heard_from, make_queue
from stocksync.store.audit import audit
from stocksync.store.cleanup import CleanUp
from stocksync.store.database import bind_models
from stocksync.store.migrate import require_current
from stocksync.store.outages import is_unavailable
from stocksync.store.task_runs import LONGEST_RUN
from stocksync.upkeep.messenger import AppriseMessenger, LogMessenger, Messenger
from stocksync.upkeep.monitor import Monitor
from stocksync.upkeep.sweep import sweep

if TYPE_CHECKING:
    from stocksync.queue.scheduler import StockSyncScheduler


log = logging.getLogger(__name__)

_AUDIT_EVERY = timedelta(minutes=55)
_LATE = timedelta(minutes=2)

Answer = TypeVar("Answer")


class Runtime(Parts):
    """Every part, and what workers, the scheduler and the command line do with them."""

    def queue_reconciliation(self, actor: str) -> UUID:
        """Begin a run of every active seller and have a worker go on with them; answers with the job's id."""
        self.reconciliation.begin_all(actor)
        job = self._new_id()
        if isinstance(self.wakeups, RedisWakeups):  # else the next periodic run does it
            self.wakeups.again(f"{TASKS}reconcile", str(job))
        return job

    def reconcile_slice(self) -> dict[str, Any]:
        """Some seconds of reconciliation."""
        return self.reconciliation.slice(self.stop.is_set)

    def deliver_lane(self, lane: str) -> DrainReport:
        """One slice of a lane, as its wake-up asks for.

        A lane whose next wake-up was queued during its own slice, before another lane's, lets that one go first.
        """
        if isinstance(self.wakeups, RedisWakeups):
            self.wakeups.clear_marker(lane)
            again, self._last_lane = self._last_lane == lane, lane
            if again and self.wakeups.others_wait() and self.wakeups.wake(lane):
                self._last_lane = None  # once: the one that waits may be this lane's too
                return DrainReport(lane, held_back="turn")
        with self.database.scope():
            return self.engine.drain(lane, self.stop.is_set)

    def sweep(self) -> dict[str, int]:
        """Rescue and wake; see `upkeep.sweep`."""
        with self.database.scope():
            self.tallies.fold(self.clock())
            return sweep(self.context)

    def cleanup(self, *, dry_run: bool = False, seconds: float = math.inf) -> dict[str, Any]:
        """Take away what is long at an end, for at most `seconds`; see `store.cleanup`."""
        with self.database.scope():
            return CleanUp(self.context).run(dry_run=dry_run, seconds=seconds, wait=self.stop.wait)

    def _tasks(self) -> dict[str, tuple[int, str, Callable[[], Mapping[str, Any]]]]:
        """What comes back by itself: name -> (seconds between runs, what it is for, what it does)."""
        return {
            "sweep": (
                self.config.sweep_interval_seconds,
                "return what dead workers left, wake lanes with due work",
                self.sweep,
            ),
            "reconcile": (
                self.config.reconciliation_interval_minutes * 60,
                "compare our orders with the remote's, repair what may be",
                self.reconcile_slice,
            ),
            "monitor": (
                self.config.monitoring_interval_minutes * 60,
                "look at everything that can go wrong, have people told",
                self.monitor,
            ),
            "cleanup": (
                86400,
                "take away what is long at an end",
                lambda: self.cleanup(seconds=self.config.delivery_slice_seconds),
            ),
        }

    def run_task(self, name: str) -> dict[str, Any]:
        """One run of a periodic task, recorded; nothing is done while another of the same is under way.

        What is left of its work is queued again behind what waits.
        """
        interval, _, act = self._tasks()[name]
        report = self.task_runs.run(name, act, min(interval, LONGEST_RUN))
        # After the end of this run, or another worker would find it under way still.
        if report.get("more") and isinstance(self.wakeups, RedisWakeups):
            self.wakeups.again(f"{TASKS}{name}")
        return report

    def stand_in(self) -> None:
        """Run the monitor here when its own run is late. Never raises.

        Its job needs Redis, a scheduler that queues it and a worker that runs it: each of them may be what failed. So
        every process that lives looks once a minute whether somebody did.
        """
        try:
            self.with_database(self._run_late_monitor)
        except Exception:  # whatever fails here, the process has its own work to do
            log.exception("the monitor could not be run in this process", extra={"task": "monitor"})

    def _run_late_monitor(self) -> None:
        interval = timedelta(minutes=self.config.monitoring_interval_minutes)
        last = next(iter(self.task_runs.latest("monitor")), None)
        if self.clock() - (last["started_at"] if last else self.began_at) >= interval + _LATE:
            log.warning("the monitor is late; it runs in this process", extra={"task": "monitor"})
            self.run_task("monitor")

    def with_database(self, act: Callable[[], Answer]) -> Answer | None:
        """Call `act`. None: the database does not answer, which is no fault of ours; that it begins and ends is logged."""
        outage = self.database_outage
        try:
            if outage.lasts:
                with self.database.transaction_scope():
                    pass  # whoever only reads does not notice that SQLite is locked
            answer = act()
        except Exception as error:
            if not is_unavailable(error):
                raise
            outage.begins(error)
            return None
        outage.ends()
        return answer

    def tasks(self) -> list[dict[str, Any]]:
        """Every periodic task with its interval (seconds) and its newest run (None: it never ran)."""
        return [
            {"task": name, "interval": interval, "last": next(iter(self.task_runs.latest(name)), None)}
            for name, (interval, _, _) in self._tasks().items()
        ]

    @cached_property
    def messenger(self) -> Messenger:
        """Carries alerts. Raises MissingExtra."""
        urls = self.config.messengers
        return AppriseMessenger(urls, self.config.telegram_api_url) if urls else LogMessenger()

    @cached_property
    def _monitor(self) -> Monitor:
        return Monitor(self.context, self.messenger, self.breaker, self.heard_from, self.audited)

    def monitor(self) -> dict[str, Any]:
        """Look at everything that can go wrong, and have people told; see `upkeep.monitor`."""
        with self.database.scope():
            return self._monitor.run()

    def heard_from(self) -> dict[str, bool]:
        """Whether a worker and a scheduler live. Raises RedisError."""
        return heard_from(
            self.connect_redis(), self.config.queue_name, self.config.redis_prefix, self.clock()
        )

    def audited(self) -> list[str]:
        """The promises that the audit found broken; it is run at most once an hour for this."""
        last = next(iter(self.task_runs.latest("audit")), None)
        if last is None or last["status"] == "failed" or self.clock() - last["started_at"] >= _AUDIT_EVERY:
            broken = lambda: {"broken": [finding.check for finding in audit(self.database)]}  # noqa: E731
            self.task_runs.run("audit", broken, LONGEST_RUN)
            last = next(iter(self.task_runs.latest("audit")))
        found: list[str] = last["result"].get("broken", [])
        return found

    def worker_queue(self) -> Queue:
        """The queue on a connection for blocking calls."""
        return make_queue(self.connect_redis(blocking=True), self.config.queue_name)

    def scheduler(self) -> "StockSyncScheduler":
        """rq-scheduler, hardened, with the periodic tasks."""
        with needs_extra("worker"):
            from stocksync.queue.scheduler import StockSyncScheduler  # the worker has no need of its memory

        wakeups = RedisWakeups(self.worker_queue(), self.config.redis_prefix, self.redis_outage)
        tasks = {name: (interval, purpose) for name, (interval, purpose, _) in self._tasks().items()}
        return StockSyncScheduler(wakeups, tasks)

    def require_schema(self) -> None:
        """Raises SchemaBehind, DatabaseUnavailable."""
        require_current(self.database)

    def close(self) -> None:
        """End the sender threads and close the connections of this thread and the idle ones."""
        if "engine" in self.__dict__:
            self.engine.close()
        if "database" in self.__dict__:
            self.database.close_all()


_lock = threading.Lock()
_current: Runtime | None = None
_owner = 0


def current() -> Runtime:
    """This process's runtime. Raises ConfigurationError with every fault of the environment."""
    global _current, _owner
    with _lock:
        if _current is None or _owner != os.getpid():
            _current, _owner = Runtime(StockSyncConfig.load()), os.getpid()
            # Made under the lock: threads that ask at once must share one database and its pool.
            _ = _current.orders, _current.inventory, _current.queries
        return _current


def use(runtime: Runtime | None) -> Runtime | None:
    """Make `runtime` this process's own (None: compose it anew when asked for); answers with the one before."""
    global _current, _owner
    with _lock:
        before = _current if _owner == os.getpid() else None
        _current, _owner = runtime, os.getpid()
        if runtime is not None:
            bind_models(runtime.database)
    return before
