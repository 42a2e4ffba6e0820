"""For the tests of a monolith: the real engine and tables, without Redis, without threads, without a microservice.

With pytest, a fixture that `conftest.py` takes from here:

    from stocksync.testing import stock_sync  # noqa: F401

    def test_an_order_is_told(stock_sync):
        sell("order-1")  # the monolith's own code
        assert stock_sync.deliver_now()["succeeded"] == 1
        assert stock_sync.remote.told == {("seller-1", "order-1"): True}

With unittest: `self.stock_sync = self.enterContext(harness())` in `setUp`.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import repeat
from tempfile import TemporaryDirectory
from typing import Any

from stocksync.config import StockSyncConfig
from stocksync.delivery.answers import Answer, RemoteOrder, RemotePage, Verdict, understand
from stocksync.errors import RemoteError
from stocksync.runtime import Runtime, use
from stocksync.store.context import Wakeups
from stocksync.store.migrate import migrate
from stocksync.store.operation_lists import Filter
from stocksync.store.outages import utc_now


@dataclass(eq=False)
class Clock:
    """Time that stands still until it is moved."""

    now: datetime
    """Aware UTC; may be set later as well."""

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float = 0, *, minutes: float = 0, hours: float = 0, days: float = 0) -> None:
        """Let so much time pass at once. What is due by then is delivered by the next `deliver_now()`."""
        self.now += timedelta(seconds=seconds, minutes=minutes, hours=hours, days=days)


@dataclass
class RecordedWakeups(Wakeups):
    """Wakes nobody: `woken` is every lane that was to be woken, `planned` when a lane is to be (None: at no time)."""

    woken: list[str] = field(default_factory=list)
    planned: dict[str, datetime | None] = field(default_factory=dict)

    def wake(self, lane: str, *, force: bool = False) -> bool:  # noqa: ARG002
        """Remember it."""
        self.woken.append(lane)
        return True

    def wake_at(self, lane: str, moment: datetime | None) -> None:
        """Remember it."""
        self.planned[lane] = moment


class Remote:
    """The orders microservice: accepts what it is told until `fail` says otherwise, and keeps it."""

    timeout = 8.0

    def __init__(self) -> None:
        self.told: dict[tuple[str, str], bool] = {}
        """What it holds, `(token_id, order_id)` -> `is_stock_updated`. Change it, and reconciliation finds that."""
        self.calls: list[tuple[str, str, bool]] = []
        """Every request, those that failed included: `(token_id, order_id, is_stock_updated)`."""
        self._failures: dict[str | None, Iterator[Answer]] = {}

    def fail(
        self,
        status: int | None = None,
        error: str | None = None,
        *,
        order_id: str | None = None,
        times: int | None = None,
        retry_after: int | str | None = None,
    ) -> None:
        """Fail from now on. What that costs an order is decided as in production.

        Args:
            status: of the answer. None: there is none, the remote is down. 404, 409, or 200 (with `success: false`):
                an attempt of the order's. 400, 422: the order has failed for good. 401: no attempt, tried once a
                minute. 429: no attempt, left alone for `retry_after`. 500: as if it were down.
            error: the remote's words.
            order_id: for this order alone; None: for every one.
            times: how often; None: until `recover`.
            retry_after: the header, in seconds or as a date.
        """
        answer = (
            Answer(Verdict.UNCLEAR, "ConnectionError", error or "the remote is down")
            if status is None
            else understand(status, {"success": False, "error": error}, str(retry_after or ""))
        )
        self._failures[order_id] = repeat(answer) if times is None else repeat(answer, times)

    def recover(self) -> None:
        """Fail no more. What waits for its time does so still: move the clock."""
        self._failures.clear()

    def update_stock_status(
        self, *, token_id: str, order_id: str, is_stock_updated: bool, **_: Any
    ) -> Answer:
        """As the engine asks it."""
        answer = self._failure(order_id) or self._failure() or understand(200, {"success": True})
        self.calls.append((token_id, order_id, is_stock_updated))
        if answer.success:
            self.told[token_id, order_id] = is_stock_updated
        return answer

    def list_orders(self, *, token_id: str, cursor: str | None, limit: int, **_: Any) -> RemotePage:
        """As reconciliation asks it. Raises RemoteError."""
        self._be_there()
        ids = sorted(order for token, order in self.told if token == token_id and order > (cursor or ""))
        return RemotePage(
            [RemoteOrder(order, self.told[token_id, order]) for order in ids[:limit]],
            ids[limit - 1] if len(ids) > limit else None,
        )

    def find_order(self, *, token_id: str, order_id: str) -> RemoteOrder | None:
        """As reconciliation asks it. Raises RemoteError."""
        self._be_there()
        flag = self.told.get((token_id, order_id))
        return None if flag is None else RemoteOrder(order_id, flag)

    def is_healthy(self, timeout: float = 3.0) -> bool:  # noqa: ARG002
        """As the engine asks during an outage; it counts as one of `times`."""
        return self._failure() is None

    def forget_token(self) -> None:
        """It has none."""

    def _failure(self, order_id: str | None = None) -> Answer | None:
        return next(self._failures.get(order_id, iter(())), None)

    def _be_there(self) -> None:
        if failure := self._failure():
            raise RemoteError(failure.error_class or "Unknown", failure.error or "no reason given")


class Harness:
    """stocksync in a test. `harness()` and the fixture `stock_sync` make it."""

    def __init__(self, config: StockSyncConfig) -> None:
        self.clock = Clock(utc_now())
        self.remote = Remote()
        self.wakeups = RecordedWakeups()
        self.runtime = Runtime(config, clock=self.clock, wakeups=self.wakeups)
        """All that production has: `runtime.service`, `.orders`, `.inventory`, `.inventory_with_sync`, `.queries`."""
        self.runtime.sender = self.remote
        self.database_url = config.database
        """Where the tables are. SQLAlchemy's `create_engine` takes it too, for the monolith's own beside them."""

    @property
    def woken(self) -> set[str]:
        """Sellers (`token_id`) for whom a worker was woken since the last `deliver_now()`: after a commit only."""
        return set(self.wakeups.woken)

    def deliver_now(self) -> dict[str, int]:
        """Deliver what is due by the clock, in this thread, as a worker would.

        Returns:
            Operations: `processed`, of these `succeeded`, `failed` (waits to be tried again, whether or not that cost
            an attempt) and `max_retries_reached` (given up). What was not due, or held back, is in none of them.
        """
        figures = self.runtime.service.process_pending_operations(1_000_000)
        self.wakeups.woken.clear()
        return figures

    def operations(self, **wanted: Any) -> list[dict[str, Any]]:
        """What an operator would see, the newest 200 first: `operations(status="failed")`.

        Args:
            wanted: status, order_id, sku, token_id, error_class, in_doubt, since, until (aware UTC).
        """
        return self.runtime.operation_lists.page(Filter(**wanted), self.clock(), limit=200).operations


@contextmanager
def harness(database_url: str | None = None, **settings: Any) -> Iterator[Harness]:
    """A runtime to test with; for that long it is the process's own, which `with_session(session)` finds by itself.

    Args:
        database_url: of the monolith's own test database: our tables are made there, and nothing is taken away.
            None: an SQLite file of its own, never synced to disk, gone afterwards. A file and not `:memory:`, so
            that other threads and the monolith's own engine see the same, and wait for each other as in production.
        settings: fields of StockSyncConfig, `retry_max_attempts=2`. The environment is not read. Retries come at
            their full time, unless `retry_jitter=True`.

    Raises:
        ConfigurationError, DatabaseUnavailable
    """
    with TemporaryDirectory(prefix="stocksync-", ignore_cleanup_errors=True) as folder:
        given = {
            "database_url": database_url or f"sqlite:///{folder}/test.sqlite3",
            "retry_jitter": False,
            **settings,
        }
        # No sender threads: a number that no environment may ask for.
        made = Harness(StockSyncConfig.load({}, **given).model_copy(update={"delivery_concurrency": 0}))
        database, before = made.runtime.database, use(made.runtime)
        try:
            if database_url is None:
                with database.scope():
                    database.pragma("synchronous", "off", permanent=True)
            migrate(database)
            yield made
        finally:
            use(before)
            made.runtime.close()


with suppress(ImportError):  # unittest has no need of it
    import pytest

    @pytest.fixture
    def stock_sync() -> Iterator[Harness]:
        """stocksync for one test. With a database or settings of its own a monolith writes instead:

        @pytest.fixture
        def stock_sync():
            with harness(database_url=..., retry_max_attempts=2) as made:
                yield made
        """
        with harness() as made:
            yield made
