"""The parts, each made at first use from the settings. `runtime.Runtime` adds what the processes do with them."""

import random
from functools import cached_property
from typing import TYPE_CHECKING, cast

from redis import Redis

from stocksync.config import StockSyncConfig
from stocksync.delivery.breaker import Breaker, LocalMemory
from stocksync.delivery.client import ForeignClient, OrdersClient, OrdersReader, StatusClient
from stocksync.delivery.engine import DeliveryEngine
from stocksync.delivery.sender_pool import Sender
from stocksync.errors import ConfigurationError, RemoteError
from stocksync.orders.inventory import InventoryManager, InventoryManagerWithSync
from stocksync.orders.service import StockSynchronizationService
from stocksync.orders.whole_orders import AllegroStockService
from stocksync.queue.embedded import EmbeddedRedis
from stocksync.queue.stopping import Stop
from stocksync.queue.wakeups import RedisWakeups, connect_redis, make_queue
from stocksync.store.alerts import Alerts
from stocksync.store.context import Context, Wakeups
from stocksync.store.database import Database, bind_models, open_database
from stocksync.store.deliveries import Deliveries
from stocksync.store.due_work import Lanes
from stocksync.store.identifiers import Clock, IdFactory
from stocksync.store.operation_lists import OperationLists
from stocksync.store.outages import DATABASE, REDIS, Outage, utc_now
from stocksync.store.queries import Queries
from stocksync.store.tallies import Tallies
from stocksync.store.task_runs import TaskRuns
from stocksync.upkeep.reconcile import Reconciliation

if TYPE_CHECKING:
    from requests import Session


class Parts:
    """Everything that is composed. `stop` is set when the process should end."""

    def __init__(
        self,
        config: StockSyncConfig,
        *,
        clock: Clock = utc_now,
        rng: random.Random | None = None,
        client: StatusClient | None = None,
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
        self.began_at = clock()
        self.stop = Stop()
        self._rng = rng or random.SystemRandom()
        self._client = client
        self._http_session = session
        self._wakeups = wakeups
        self._new_id = IdFactory(clock, self._rng)
        self._last_lane: str | None = None

    @cached_property
    def context(self) -> Context:
        """What every part works with."""
        return Context(self.config, self.database, self.wakeups, self.clock, self._new_id, self._rng)

    @cached_property
    def database(self) -> Database:
        database = open_database(self.config.database, busy_timeout=self.config.database_busy_timeout)
        bind_models(database)
        return database

    @cached_property
    def database_outage(self) -> Outage:
        return Outage(DATABASE, self.clock)

    # What is read and written

    @cached_property
    def deliveries(self) -> Deliveries:
        return Deliveries(self.context)

    @cached_property
    def tallies(self) -> Tallies:
        return Tallies(self.context)

    @cached_property
    def lanes(self) -> Lanes:
        return Lanes(self.context)

    @cached_property
    def queries(self) -> Queries:
        return Queries(self.context)

    @cached_property
    def operation_lists(self) -> OperationLists:
        return OperationLists(self.context)

    @cached_property
    def task_runs(self) -> TaskRuns:
        return TaskRuns(self.context)

    @cached_property
    def alerts(self) -> Alerts:
        return Alerts(self.context)

    # What the monolith calls

    @cached_property
    def service(self) -> StockSynchronizationService:
        return StockSynchronizationService(
            self.context,
            engine=lambda: self.engine,
            reconcile=lambda token, limit: self.reconciliation.run(token, limit=limit),
        )

    @cached_property
    def inventory(self) -> InventoryManager:
        return InventoryManager(self.context)

    @cached_property
    def orders(self) -> AllegroStockService:
        return AllegroStockService(self.service)

    @cached_property
    def inventory_with_sync(self) -> InventoryManagerWithSync:
        """Around our own stock; for an inventory kept elsewhere make `InventoryManagerWithSync(it, service)`."""
        return InventoryManagerWithSync(self.inventory, self.service)

    # Delivery and comparison

    @cached_property
    def sender(self) -> Sender:
        if isinstance(self._client, OrdersClient):
            return self._client
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
            session=self._http_session,
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
        return Reconciliation(self.context, self._reader)

    @cached_property
    def breaker(self) -> Breaker:
        memory = self.connect_redis() if isinstance(self.wakeups, RedisWakeups) else LocalMemory()
        return Breaker(memory, self.config.redis_prefix, self.clock)

    @cached_property
    def engine(self) -> DeliveryEngine:
        return DeliveryEngine(self.context, self.sender, self.breaker, self.database_outage)

    # Redis

    @cached_property
    def redis_outage(self) -> Outage:
        return Outage(REDIS, self.clock)

    @cached_property
    def redis_url(self) -> str:
        """Holds a secret: never print it."""
        url = self.config.redis_url
        return url.get_secret_value() if url else EmbeddedRedis(self.config.data_dir).url

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
            self.redis_outage,
            pause=self.config.caller_redis_pause,
        )
