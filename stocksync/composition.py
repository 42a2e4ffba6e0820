"""The parts, each made at first use from the settings. `runtime.Runtime` adds what the processes do with them."""

from __future__ import annotations

import random
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, cast

from redis import Redis

from stocksync.config import StockSyncConfig
from stocksync.delivery import DeliveryEngine, DeliverySettings, Wakeups
from stocksync.domain.errors import ConfigurationError, RemoteError
from stocksync.domain.identifiers import Clock, IdFactory
from stocksync.domain.retry import RetryPolicy
from stocksync.embedded import embedded_redis_url
from stocksync.inventory import InventoryManager
from stocksync.orders import AllegroStockService
from stocksync.outages import DATABASE, REDIS, Outage, utc_now
from stocksync.outcomes import Outcomes
from stocksync.queue.wakeups import RedisWakeups, connect_redis, make_queue
from stocksync.recording import Recorder
from stocksync.remote.breaker import (
    Breaker,
    BreakerMemory,
    BreakerSettings,
    LocalBreakerMemory,
    RedisBreakerMemory,
)
from stocksync.remote.client import OrdersClient, OrdersReader, StatusClient
from stocksync.remote.foreign import ForeignClient
from stocksync.sending import Sender
from stocksync.service import StockSynchronizationService
from stocksync.stopping import Stop
from stocksync.store.alerts import Alerts
from stocksync.store.conditions import Conditions
from stocksync.store.database import Database, bind_models, open_database
from stocksync.store.deliveries import Deliveries
from stocksync.store.interventions import OperationInterventions
from stocksync.store.inventory import StockLedger
from stocksync.store.lanes import Lanes
from stocksync.store.logs import OperationLog
from stocksync.store.operation_lists import OperationLists
from stocksync.store.operations import Operations
from stocksync.store.order_lines import OrderLines
from stocksync.store.queries import Queries
from stocksync.store.reconciliation import ReconciliationRecords
from stocksync.store.tallies import Tallies
from stocksync.store.task_runs import TaskRuns
from stocksync.synced_inventory import InventoryManagerWithSync
from stocksync.upkeep.reconcile import Reconciliation, ReconciliationSettings

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
        session: Session | None = None,
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

    # The store

    @cached_property
    def database(self) -> Database:
        database = open_database(self.config.database, busy_timeout=self.config.database_busy_timeout)
        bind_models(database)
        return database

    @cached_property
    def database_outage(self) -> Outage:
        return Outage(DATABASE, self.clock)

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

    @cached_property
    def alerts(self) -> Alerts:
        return Alerts(self.database, self._new_id)

    @cached_property
    def conditions(self) -> Conditions:
        return Conditions(self.database)

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
        return AllegroStockService(self.service, seller_cancels=self.config.seller_cancellation == "restock")

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
            self.database_outage,
            clock=self.clock,
            new_id=self._new_id,
        )

    # Redis

    @cached_property
    def redis_outage(self) -> Outage:
        return Outage(REDIS, self.clock)

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
            self.redis_outage,
            pause=self.config.caller_redis_pause,
        )
