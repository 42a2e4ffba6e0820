"""The composition root: settings in, ready parts out, each made at first use. Nobody else builds them.

`current()` is the process's own, from the environment, and made anew after a fork: connections are not inherited.
"""

import logging
import os
import random
import threading
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, cast
from uuid import UUID

from redis import Redis
from rq.queue import Queue

from stocksync.config import StockSyncConfig
from stocksync.delivery.breaker import Breaker, LocalMemory
from stocksync.delivery.client import ForeignClient, OrdersClient, OrdersReader
from stocksync.delivery.engine import DeliveryEngine
from stocksync.delivery.sender_pool import Sender
from stocksync.delivery.settlement import DrainReport
from stocksync.delivery.tracing import Tracing
from stocksync.errors import ConfigurationError, RemoteError, SchemaBehind, needs_extra
from stocksync.orders.inventory import InventoryManager, InventoryManagerWithSync
from stocksync.orders.service import StockSynchronizationService
from stocksync.orders.whole_orders import AllegroStockService
from stocksync.queue.embedded import EmbeddedRedis
from stocksync.queue.shutdown import Stop
from stocksync.queue.wakeups import RedisWakeups, connect_redis, make_queue, processes_alive
from stocksync.store.context import Context, Wakeups, no_span
from stocksync.store.database import Database, bind_models, open_database
from stocksync.store.deliveries import Deliveries
from stocksync.store.identifiers import Clock, IdFactory
from stocksync.store.migrate import pending
from stocksync.store.operation_lists import OperationLists
from stocksync.store.outages import DATABASE, REDIS, Outage, is_unavailable, utc_now
from stocksync.store.queries import Queries
from stocksync.store.tallies import Tallies
from stocksync.store.upkeep import Alerts
from stocksync.upkeep.messenger import AppriseMessenger, log_alerts
from stocksync.upkeep.monitor import Monitor
from stocksync.upkeep.periodic import PeriodicTasks
from stocksync.upkeep.reconcile import Reconciliation

if TYPE_CHECKING:
    from requests import Session

    from stocksync.queue.scheduler import StockSyncScheduler

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")


class Runtime:
    """Every part of one process. `stop` is set when the process should end."""

    def __init__(
        self,
        config: StockSyncConfig,
        *,
        clock: Clock = utc_now,
        rng: random.Random | None = None,
        client: Any = None,
        session: "Session | None" = None,
        wakeups: Wakeups | None = None,
    ) -> None:
        """
        Args:
            rng: for jitter and ids; None: the system's, which a fork does not repeat.
            client: the monolith's own client of the microservice; None: OrdersClient.
            session: for OrdersClient to stand on, with the monolith's proxies, certificates, headers and auth.
            wakeups: how lanes are woken; None: through Redis.
        """
        self.config = config
        self.clock = clock
        self.rng = rng or random.SystemRandom()
        self.stop = Stop()
        self.new_id = IdFactory(clock, self.rng)
        self._client = client
        self._session = session
        if wakeups is not None:
            self.wakeups = wakeups

    @cached_property
    def context(self) -> Context:
        """What every part works with. Raises MissingExtra."""
        return Context(
            self.config, self.database, self.wakeups, self.clock, self.new_id, self.rng,
            Tracing().span if self.config.tracing else no_span,
        )  # fmt: skip

    @cached_property
    def database(self) -> Database:
        database = open_database(self.config.database, busy_timeout=self.config.database_busy_timeout)
        bind_models(database)
        return database

    database_outage = cached_property(lambda runtime: Outage(DATABASE, runtime.clock))

    def with_database(self, act: Callable[[], Answer]) -> Answer | None:
        """Call `act`. None: the database does not answer, which is no fault of ours; that it begins and ends is logged."""
        try:
            if self.database_outage.lasts:
                with self.database.transaction_scope():
                    pass  # whoever only reads does not notice that SQLite is locked
            answer = act()
        except Exception as error:
            if not is_unavailable(error):
                raise
            self.database_outage.begins(error)
            return None
        self.database_outage.ends()
        return answer

    def require_schema(self) -> None:
        """Raises SchemaBehind, DatabaseUnavailable."""
        if missing := pending(self.database):
            raise SchemaBehind(missing)

    alerts = cached_property(lambda runtime: Alerts(runtime.context))
    deliveries = cached_property(lambda runtime: Deliveries(runtime.context))
    operation_lists = cached_property(lambda runtime: OperationLists(runtime.context))
    queries = cached_property(lambda runtime: Queries(runtime.context))
    tallies = cached_property(lambda runtime: Tallies(runtime.context))

    # What the monolith calls

    @cached_property
    def service(self) -> StockSynchronizationService:
        return StockSynchronizationService(
            self.context,
            engine=lambda: self.engine,
            reconcile=lambda token, limit: self.reconciliation.run(token, limit=limit),
        )

    inventory = cached_property(lambda runtime: InventoryManager(runtime.context))
    orders = cached_property(lambda runtime: AllegroStockService(runtime.service))

    inventory_with_sync = cached_property(
        lambda runtime: InventoryManagerWithSync(runtime.inventory, runtime.service)
    )
    """Around our own stock; for an inventory kept elsewhere make `InventoryManagerWithSync(it, service)`."""

    @cached_property
    def sender(self) -> Sender:
        config, client = self.config, self._client
        if client is not None:
            return (
                client
                if isinstance(client, OrdersClient)
                else ForeignClient(client, config.microservice_timeout)
            )
        if config.microservice_base_url is None:
            raise ConfigurationError(
                ["ALLEGRO_MICROSERVICE_BASE_URL is not set: where is the orders microservice?"]
            )
        return OrdersClient(
            config.microservice_base_url,
            config.jwt_token,
            connect_timeout=config.microservice_connect_timeout,
            timeout=config.microservice_timeout,
            status_path=config.microservice_status_path,
            health_path=config.microservice_health_path,
            orders_path=config.microservice_orders_path,
            order_path=config.microservice_order_path,
            session=self._session,
        )

    @cached_property
    def breaker(self) -> Breaker:
        memory = self.connect_redis() if isinstance(self.wakeups, RedisWakeups) else LocalMemory()
        return Breaker(memory, self.config.redis_prefix, self.clock)

    @cached_property
    def engine(self) -> DeliveryEngine:
        return DeliveryEngine(self.context, self.sender, self.breaker, self.database_outage)

    def deliver_lane(self, lane: str) -> DrainReport:
        """One slice of a lane, as its wake-up asks for."""
        self.wakeups.begin(lane)
        with self.database.scope():
            return self.engine.drain(lane, self.stop.is_set)

    reconciliation = cached_property(lambda runtime: Reconciliation(runtime.context, runtime._reader))

    def _reader(self) -> OrdersReader:
        reader = self.sender if self._client is None else self._client
        if not (hasattr(reader, "list_orders") and hasattr(reader, "find_order")):
            raise RemoteError(
                "NotOffered", "this client offers no list_orders and find_order: nothing can be compared"
            )
        return cast(OrdersReader, self.sender)  # around a foreign one: within a time, and checked

    def queue_reconciliation(self, actor: str) -> UUID:
        """Begin a run of every active seller and have a worker go on with them; answers with the job's id."""
        self.reconciliation.begin_all(actor)
        job = self.new_id()
        self.wakeups.again("reconcile", str(job))
        return job

    @cached_property
    def messenger(self) -> Callable[[str], bool]:
        """Carries alerts. Raises MissingExtra."""
        urls = self.config.messengers
        return AppriseMessenger(urls, self.config.telegram_api_url) if urls else log_alerts

    @cached_property
    def monitor(self) -> Monitor:
        return Monitor(
            self.context, self.messenger, self.breaker, self.processes_alive, self.periodic.audited
        )

    @cached_property
    def periodic(self) -> PeriodicTasks:
        return PeriodicTasks(self.context, self.reconciliation, lambda: self.monitor, self.stop)

    def run_overdue_monitor(self) -> None:
        """Run the monitor here if its own run is overdue; every process that lives looks once a minute. Never raises."""
        try:
            self.with_database(self.periodic.run_overdue_monitor)
        except Exception:  # whatever fails here, the process has its own work to do
            log.exception("the monitor could not be run in this process", extra={"task": "monitor"})

    redis_outage = cached_property(lambda runtime: Outage(REDIS, runtime.clock))

    def connect_redis(self, *, blocking: bool = False) -> Redis:
        """A new client: short timeouts for callers, or (`blocking`) for a worker's waiting calls."""
        url = self.config.redis_url
        return connect_redis(
            url.get_secret_value() if url else EmbeddedRedis(self.config.data_dir).url,
            timeout=None if blocking else self.config.caller_redis_timeout,
            self_signed=self.config.redis_ssl_self_signed,
        )

    def queue(self, *, blocking: bool = False) -> Queue:
        """The queue, on a new client."""
        return make_queue(self.connect_redis(blocking=blocking), self.config.queue_name)

    @cached_property
    def wakeups(self) -> Wakeups:
        return RedisWakeups(
            self.queue(), self.config.redis_prefix, self.redis_outage, pause=self.config.caller_redis_pause
        )

    def processes_alive(self) -> dict[str, bool]:
        """Whether a worker and a scheduler live. Raises RedisError."""
        return processes_alive(
            self.connect_redis(), self.config.queue_name, self.config.redis_prefix, self.clock()
        )

    def scheduler(self) -> "StockSyncScheduler":
        """rq-scheduler, hardened, with the periodic tasks."""
        with needs_extra("worker"):
            from stocksync.queue.scheduler import StockSyncScheduler  # the worker has no need of its memory

        return StockSyncScheduler(
            RedisWakeups(self.queue(blocking=True), self.config.redis_prefix, self.redis_outage),
            self.periodic.table,
        )

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
