"""The composition root: settings in, ready objects out. Nobody else builds them.

`current()` is the process's own runtime, composed at first use from the environment and composed anew after a
fork, because a child must not use its parent's connections.
"""

from __future__ import annotations

import math
import os
import random
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from redis import Redis
from rq.queue import Queue

from stocksync.config import StockSyncConfig
from stocksync.delivery import DeliveryEngine, DeliverySettings, Wakeups
from stocksync.domain.errors import ConfigurationError, RemoteError
from stocksync.domain.identifiers import Clock, IdFactory
from stocksync.domain.retry import RetryPolicy
from stocksync.embedded import embedded_redis_url
from stocksync.inventory import InventoryManager
from stocksync.orders import AllegroStockService
from stocksync.outcomes import Outcomes
from stocksync.queueing import RedisWakeups, connect_redis, heard_from, make_queue
from stocksync.recording import Recorder
from stocksync.remote.breaker import (
    Breaker,
    BreakerMemory,
    BreakerSettings,
    LocalBreakerMemory,
    RedisBreakerMemory,
)
from stocksync.remote.client import ForeignClient, OrdersClient, OrdersReader, StatusClient
from stocksync.sending import Sender
from stocksync.service import StockSynchronizationService
from stocksync.settling import DrainReport
from stocksync.stopping import Stop
from stocksync.store.alerts import Alerts
from stocksync.store.cleanup import KINDS, OPERATIONS, CleanUpStore
from stocksync.store.conditions import Conditions
from stocksync.store.database import Database, bind_models, open_database
from stocksync.store.deliveries import Deliveries
from stocksync.store.interventions import OperationInterventions
from stocksync.store.inventory import OrderLines, StockLedger
from stocksync.store.lanes import Lanes
from stocksync.store.logs import OperationLog
from stocksync.store.migrate import require_current
from stocksync.store.operation_lists import OperationLists
from stocksync.store.operations import Operations
from stocksync.store.queries import Queries
from stocksync.store.reconciliation import ReconciliationRecords
from stocksync.store.tallies import Tallies
from stocksync.store.task_runs import TaskRuns
from stocksync.synced_inventory import InventoryManagerWithSync
from stocksync.upkeep.alerts import AppriseMessenger, LogMessenger
from stocksync.upkeep.audit import audit
from stocksync.upkeep.cleanup import CleanUpReport, clean_up
from stocksync.upkeep.monitor import Monitor, MonitorSettings, Sources
from stocksync.upkeep.reconcile import Reconciliation, ReconciliationSettings
from stocksync.upkeep.sweep import SweepReport, sweep
from stocksync.upkeep.tasks import LONGEST_RUN, run_recorded

if TYPE_CHECKING:
    from stocksync.scheduling import PeriodicTask, StockSyncScheduler


_AUDIT_EVERY = timedelta(minutes=55)


def utc_now() -> datetime:
    """The wall clock, aware UTC."""
    return datetime.now(UTC)


class Runtime:
    """Every part, made at first use. `stop` is set when the process should end."""

    def __init__(
        self,
        config: StockSyncConfig,
        *,
        clock: Clock = utc_now,
        rng: random.Random | None = None,
        client: StatusClient | None = None,
        wakeups: Wakeups | None = None,
    ) -> None:
        """
        Args:
            rng: for jitter and ids; None: the system's, which a fork does not repeat.
            client: the monolith's own client of the microservice; None: OrdersClient.
            wakeups: how lanes are woken; None: through Redis.
        """
        self.config = config
        self.clock = clock
        self.stop = Stop()
        self._rng = rng or random.SystemRandom()
        self._client = client
        self._wakeups = wakeups
        self._new_id = IdFactory(clock, self._rng)
        self._last_lane: str | None = None

    # The store

    @cached_property
    def database(self) -> Database:
        database = open_database(self.config.database, busy_timeout=self.config.database_busy_timeout)
        bind_models(database)
        return database

    @cached_property
    def _log(self) -> OperationLog:
        return OperationLog(self.database, self._new_id)

    @cached_property
    def _operations(self) -> Operations:
        return Operations(
            self.database, self._new_id, self._log, self.tallies, self.config.retry_max_attempts
        )

    @cached_property
    def _recorder(self) -> Recorder:
        return Recorder(
            self.database,
            self._operations,
            OrderLines(self.database, self._new_id),
            self._ledger,
            self.wakeups,
            clock=self.clock,
            new_id=self._new_id,
        )

    @cached_property
    def _ledger(self) -> StockLedger:
        return StockLedger(self.database, self._new_id)

    @cached_property
    def deliveries(self) -> Deliveries:
        return Deliveries(self.database, self._log, self.tallies)

    @cached_property
    def tallies(self) -> Tallies:
        return Tallies(self.database, self._new_id)

    @cached_property
    def lanes(self) -> Lanes:
        return Lanes(self.database)

    @cached_property
    def queries(self) -> Queries:
        return Queries(self.database, self.operation_lists, self.tallies)

    @cached_property
    def operation_lists(self) -> OperationLists:
        return OperationLists(self.database, self.tallies)

    @cached_property
    def task_runs(self) -> TaskRuns:
        return TaskRuns(self.database, self._new_id)

    # What the monolith calls

    @cached_property
    def service(self) -> StockSynchronizationService:
        return StockSynchronizationService(
            self._recorder,
            OperationInterventions(
                self.database, self._operations, self._log, self.config.retry_max_attempts
            ),
            self.deliveries,
            engine=lambda: self.engine,
            reporting=self.queries,
            reconcile=lambda token, limit: self.reconciliation.run(token, limit=limit),
        )

    @cached_property
    def inventory(self) -> InventoryManager:
        return InventoryManager(self.database, self._ledger, clock=self.clock, new_id=self._new_id)

    @cached_property
    def orders(self) -> AllegroStockService:
        return AllegroStockService(self.service)

    @cached_property
    def inventory_with_sync(self) -> InventoryManagerWithSync:
        """Around our own stock; for an inventory kept elsewhere make `InventoryManagerWithSync(it, service)`."""
        return InventoryManagerWithSync(self.inventory, self.service)

    # Delivery

    @cached_property
    def sender(self) -> Sender:
        if self._client is not None:
            return ForeignClient(self._client, self.config.microservice_timeout)
        if self.config.microservice_base_url is None:
            raise ConfigurationError(
                ["ALLEGRO_MICROSERVICE_BASE_URL is not set: where is the orders microservice?"]
            )
        return OrdersClient(
            self.config.microservice_base_url,
            self.config.jwt_token,
            connect_timeout=self.config.microservice_connect_timeout,
            timeout=self.config.microservice_timeout,
            status_path=self.config.microservice_status_path,
            health_path=self.config.microservice_health_path,
            orders_path=self.config.microservice_orders_path,
            order_path=self.config.microservice_order_path,
        )

    def _reader(self) -> OrdersReader:
        reader = self.sender if self._client is None else self._client
        if not (hasattr(reader, "list_orders") and hasattr(reader, "find_order")):
            raise RemoteError(
                "NotOffered", "this client offers no list_orders and find_order: nothing can be compared"
            )
        return cast(OrdersReader, self.sender)  # around a foreign one: within a time, and checked

    @cached_property
    def reconciliation(self) -> Reconciliation:
        config = self.config
        return Reconciliation(
            ReconciliationRecords(self.database, self._log, self._new_id),
            self._reader,
            self.wakeups,
            ReconciliationSettings(
                config.reconciliation_batch_size,
                timedelta(minutes=config.reconciliation_interval_minutes),
                timedelta(hours=config.reconciliation_auto_fix_threshold_hours),
                timedelta(days=config.reconciliation_window_days),
                timedelta(seconds=config.reconciliation_grace_seconds),
                config.reconciliation_suspicious_share,
                config.reconciliation_suspicious_orders,
                config.reconciliation_lookup_cap,
                config.delivery_slice_seconds,
            ),
            clock=self.clock,
            new_id=self._new_id,
        )

    def queue_reconciliation(self, actor: str) -> UUID:
        """Begin a run of every active seller and have a worker go on with them; answers with the job's id."""
        self.reconciliation.begin_all(actor)
        job = self._new_id()
        if isinstance(self.wakeups, RedisWakeups):  # else the next periodic run does it
            self.wakeups.again("jobs.periodic.reconcile", str(job))
        return job

    def reconcile_slice(self) -> dict[str, Any]:
        """Some seconds of reconciliation."""
        return self.reconciliation.slice(self.stop.is_set)

    @cached_property
    def breaker(self) -> Breaker:
        memory: BreakerMemory = LocalBreakerMemory(self.clock)
        if isinstance(self.wakeups, RedisWakeups):
            memory = RedisBreakerMemory(self.connect_redis(), self.config.redis_prefix)
        return Breaker(memory, BreakerSettings(), self.clock)

    @cached_property
    def policy(self) -> RetryPolicy:
        config = self.config
        return RetryPolicy(
            config.retry_max_attempts,
            config.retry_initial_delay,
            config.retry_max_delay,
            config.retry_exponential_base,
            config.retry_jitter,
        )

    @cached_property
    def engine(self) -> DeliveryEngine:
        config = self.config
        return DeliveryEngine(
            self.deliveries,
            self.sender,
            self.breaker,
            self.lanes,
            Outcomes(self.sender, self.breaker, self.lanes, self.policy, self._rng),
            DeliverySettings(
                config.delivery_batch_size,
                config.delivery_concurrency,
                config.delivery_slice_seconds,
                config.delivery_lease_seconds,
                config.microservice_immediate_timeout,
            ),
            self.wakeups,
            clock=self.clock,
            new_id=self._new_id,
        )

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

    def sweep(self) -> SweepReport:
        """Rescue and wake; see `upkeep.sweep`."""
        with self.database.scope():
            self.tallies.fold(self.clock())
            return sweep(self.deliveries, self.wakeups, self.clock, self.config.retry_max_attempts)

    def cleanup(self, *, dry_run: bool = False, seconds: float = math.inf) -> CleanUpReport:
        """Take away what is long at an end, for at most `seconds`; see `upkeep.cleanup`."""
        config = self.config
        days = dict.fromkeys(KINDS, config.cleanup_reports_after_days)
        days |= dict.fromkeys(OPERATIONS, config.cleanup_after_days)
        days["keys"] = config.cleanup_keys_after_days
        store = CleanUpStore(self.database, self.tallies)
        with self.database.scope():
            return clean_up(store, days, self.clock, dry_run=dry_run, seconds=seconds, wait=self.stop.wait)

    def _tasks(self) -> dict[str, tuple[int, str, Callable[[], Mapping[str, Any]]]]:
        """What comes back by itself: name -> (seconds between runs, what it is for, what it does)."""
        return {
            "sweep": (
                self.config.sweep_interval_seconds,
                "return what dead workers left, wake lanes with due work",
                lambda: self.sweep().as_dict(),
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
                lambda: self.cleanup(seconds=self.config.delivery_slice_seconds).as_dict(),
            ),
        }

    def run_task(self, name: str) -> dict[str, Any]:
        """One run of a periodic task, recorded; nothing is done while another of the same is under way.

        What is left of its work is queued again behind what waits.
        """
        interval, _, act = self._tasks()[name]
        report = run_recorded(self.task_runs, name, act, self.clock, min(interval, LONGEST_RUN))
        # After the end of this run, or another worker would find it under way still.
        if report.get("more") and isinstance(self.wakeups, RedisWakeups):
            self.wakeups.again(f"jobs.periodic.{name}")
        return report

    def tasks(self) -> list[dict[str, Any]]:
        """Every periodic task with its interval (seconds) and its newest run (None: it never ran)."""
        return [
            {"task": name, "interval": interval, "last": next(iter(self.task_runs.latest(name)), None)}
            for name, (interval, _, _) in self._tasks().items()
        ]

    # Upkeep

    @cached_property
    def alerts(self) -> Alerts:
        return Alerts(self.database, self._new_id)

    @cached_property
    def conditions(self) -> Conditions:
        return Conditions(self.database)

    @cached_property
    def _monitor(self) -> Monitor:
        config = self.config
        urls, ping = config.messengers, config.monitoring_ping_url
        return Monitor(
            Sources(
                self.operation_lists,
                self.tallies,
                self.conditions,
                self.reconciliation.records,
                self.breaker,
                self.heard_from,
                self.audited,
            ),
            self.alerts,
            AppriseMessenger(urls, config.telegram_api_url) if urls else LogMessenger(),
            MonitorSettings(
                config.monitoring_max_pending_operations,
                config.monitoring_stale_operation_hours,
                config.monitoring_alert_on_failed_retries,
                config.monitoring_failure_share,
                config.monitoring_failure_deliveries,
                timedelta(minutes=config.monitoring_failure_window_minutes),
                timedelta(minutes=config.monitoring_breaker_minutes),
                timedelta(minutes=config.monitoring_unclaimed_minutes),
                timedelta(hours=config.alert_repeat_hours),
                config.alert_language,
                ping.get_secret_value() if ping else None,
            ),
            self.clock,
        )

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
            run_recorded(self.task_runs, "audit", broken, self.clock, LONGEST_RUN)
            last = next(iter(self.task_runs.latest("audit")))
        found: list[str] = last["result"].get("broken", [])
        return found

    # Redis

    @cached_property
    def redis_url(self) -> str:
        """Holds a secret: never print it."""
        url = self.config.redis_url
        return url.get_secret_value() if url else embedded_redis_url(self.config.data_dir)

    def connect_redis(self, *, blocking: bool = False) -> Redis:
        """A new client: short timeouts for callers, or (`blocking`) for a worker's waiting calls."""
        return connect_redis(
            self.redis_url,
            timeout=None if blocking else self.config.caller_redis_timeout,
            self_signed=self.config.redis_ssl_self_signed,
        )

    @cached_property
    def wakeups(self) -> Wakeups:
        if self._wakeups is not None:
            return self._wakeups
        return RedisWakeups(
            make_queue(self.connect_redis(), self.config.queue_name),
            self.config.redis_prefix,
            pause=self.config.caller_redis_pause,
        )

    def worker_queue(self) -> Queue:
        """The queue on a connection for blocking calls."""
        return make_queue(self.connect_redis(blocking=True), self.config.queue_name)

    def scheduler(self) -> StockSyncScheduler:
        """rq-scheduler, hardened, with the periodic tasks."""
        from stocksync.scheduling import StockSyncScheduler  # the worker has no need of its memory

        queue = make_queue(self.connect_redis(blocking=True), self.config.queue_name)
        # Its own wake-ups never rest: a tick that could not wake a lane is repeated by the next.
        wakeups = RedisWakeups(
            make_queue(self.connect_redis(), queue.name), self.config.redis_prefix, pause=0
        )
        return StockSyncScheduler(queue, wakeups, self.periodic_tasks(), self.config.redis_prefix)

    def periodic_tasks(self) -> list[PeriodicTask]:
        """What comes back by itself, as rq-scheduler keeps it."""
        from stocksync.scheduling import PERIODIC, PeriodicTask

        return [
            PeriodicTask(f"{PERIODIC}{name}", f"jobs.periodic.{name}", interval, description)
            for name, (interval, description, _) in self._tasks().items()
        ]

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


def use(runtime: Runtime | None) -> None:
    """Make `runtime` this process's own (None: compose it anew when asked for)."""
    global _current, _owner
    with _lock:
        _current, _owner = runtime, os.getpid()
