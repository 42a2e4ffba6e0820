"""The monitor: each condition is raised once, repeated after a while and resolved once; no messenger loses or harms anything."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisAway

from stocksync.delivery.breaker import OUTAGE
from stocksync.errors import DatabaseUnavailable
from stocksync.queue.process import StockSyncWorker
from stocksync.queue.wakeups import connect_redis, heard_from, make_queue, scheduler_lock
from stocksync.store.models import Discrepancy, Reconciliation
from stocksync.store.tallies import Counts
from stocksync.upkeep import messenger as sending
from stocksync.upkeep.alert_texts import KINDS, message, title
from stocksync.upkeep.messenger import LONGEST, AppriseMessenger
from tests.shop import DELIVERED, REFUSED, SELLER, START, Shop, listed, open_shop

HOUR = 3600.0


class Told:
    """A messenger that keeps what it is given, or refuses."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.takes = True
        self.left: int | None = None

    def send(self, text: str) -> bool:
        taken = self.takes and self.left != 0
        if taken:
            self.texts.append(text)
            self.left = None if self.left is None else self.left - 1
        return taken


class Watched:
    """A shop with its monitor, a messenger in hand, and processes that live unless said otherwise."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.told = Told()
        self.heard: dict[str, bool] | None = {"worker": True, "scheduler": True}
        shop.runtime.__dict__["heard_from"] = self._heard
        self.monitor = shop.runtime.monitor
        self.monitor._messenger = self.told

    def _heard(self) -> dict[str, bool]:
        if self.heard is None:
            raise RedisAway
        return self.heard

    def run(self) -> dict[str, Any]:
        with self.shop.runtime.database.scope():
            return self.monitor.run()


@pytest.fixture
def at(database_url: str) -> Iterator[Watched]:
    with open_shop(
        database_url, STOCK_SYNC_ALERT_LANGUAGE="en", STOCK_SYNC_MONITORING_MAX_PENDING_OPERATIONS="3"
    ) as shop:
        yield Watched(shop)


def execute(shop: Shop, sql: str) -> None:
    with shop.runtime.database.transaction_scope():
        shop.runtime.database.execute_sql(sql)


def many(shop: Shop, count: int = 4) -> None:
    for number in range(count):
        shop.deduct(f"many-{number}")


def failing(shop: Shop) -> None:
    with shop.runtime.database.transaction_scope():
        shop.runtime.tallies.add(Counts(delivered=7, failed=3), shop.clock())


def give_up(shop: Shop) -> None:
    shop.remote.answer = lambda _: REFUSED
    shop.deduct()
    for _ in range(5):
        shop.drain()
        shop.clock.advance(4000)


def doubtful(shop: Shop) -> None:
    shop.deduct()
    shop.drain()
    execute(shop, "UPDATE pending_stock_operations SET applied = 'unknown'")
    shop.clock.advance(601)


def differing(shop: Shop) -> None:
    with shop.runtime.database.transaction_scope():
        run = Reconciliation.create(
            id=new_id(shop), token_id=SELLER, status="complete", started_at=shop.clock(), finished_at=shop.clock(),
            since=START, buckets={}, details={},
        )  # fmt: skip
        Discrepancy.create(
            id=new_id(shop), run=run, token_id=SELLER, order_id="o", kind="extra_remote", remote=True,
            first_seen_at=shop.clock(), last_seen_at=shop.clock(),
        )  # fmt: skip


def suspicious(shop: Shop) -> None:
    with shop.runtime.database.transaction_scope():
        Reconciliation.create(
            id=new_id(shop), token_id=SELLER, status="suspicious", started_at=shop.clock(), finished_at=shop.clock(),
            since=START, buckets={}, details={"reason": "12 of 20 orders differ"},
        )  # fmt: skip


def waiting(seconds: float) -> Callable[[Shop], None]:
    def wait(shop: Shop) -> None:
        shop.deduct()
        shop.clock.advance(seconds)

    return wait


def new_id(shop: Shop) -> Any:
    return shop.runtime.service.context.new_id()


def outage(shop: Shop) -> None:
    for _ in range(5):
        shop.runtime.breaker.failed(OUTAGE)
    shop.clock.advance(601)


def unbalanced(shop: Shop) -> None:
    shop.stock(A=5)
    execute(shop, "UPDATE stock_sync_levels SET on_hand = 7")
    shop.clock.advance(HOUR)  # the audit is run once an hour for this


def balanced(shop: Shop) -> None:
    execute(shop, "UPDATE stock_sync_levels SET on_hand = 5")
    shop.clock.advance(HOUR)


def deliver(shop: Shop) -> None:
    shop.remote.answer = lambda _: DELIVERED
    for row in listed(shop.runtime, status="failed"):
        shop.service.retry(row["id"], actor="Anna")
    shop.drain()


Played = dict[str, tuple[Callable[[Shop], Any], Callable[[Shop], Any]]]
PLAYED: Played = {
    "pending": (many, deliver),
    "failure_rate": (failing, lambda shop: shop.clock.advance(HOUR + 60)),
    "stale": (waiting(6 * HOUR + 1), deliver),
    "failed": (give_up, deliver),
    "breaker": (outage, lambda shop: shop.runtime.breaker.served()),
    "lane_paused": (
        lambda shop: (shop.deduct(), shop.drain(), shop.runtime.deliveries.pause(SELLER, "20 refusals")),
        lambda shop: shop.runtime.deliveries.resume(SELLER),
    ),
    "unclaimed": (waiting(601), deliver),
    "audit": (unbalanced, balanced),
    "differences": (
        differing,
        lambda shop: execute(
            shop, f"UPDATE stock_sync_discrepancies SET status = 'gone', resolved_at = '{START.isoformat()}'"
        ),
    ),
    "reconciliation": (suspicious, lambda shop: shop.clock.advance(25 * HOUR)),
    "in_doubt": (doubtful, lambda shop: execute(shop, "UPDATE pending_stock_operations SET applied = 'yes'")),
}
BY_PROCESSES: dict[str, dict[str, bool] | None] = {
    "worker_silent": {"worker": False, "scheduler": True},
    "scheduler_silent": {"worker": True, "scheduler": False},
    "redis_away": None,
}


def rows(at: Watched, kind: str) -> list[dict[str, Any]]:
    return [row for row in at.shop.runtime.alerts.find(limit=200) if row["kind"] == kind]


def test_every_kind_is_played_here() -> None:
    assert {*PLAYED, *BY_PROCESSES} == set(KINDS)


@pytest.mark.parametrize("kind", PLAYED)
def test_a_condition_is_raised_once_and_resolved_once(at: Watched, kind: str) -> None:
    begin, end = PLAYED[kind]
    assert at.run()["open"] == {}
    at.shop.clock.advance(1)
    begin(at.shop)
    for _ in range(3):
        assert kind in at.run()["open"]
        at.shop.clock.advance(1)

    (alert,) = rows(at, kind)
    assert (alert["resolved_at"], alert["owed"]) == (None, None)
    end(at.shop)
    for _ in range(3):
        assert kind not in at.run()["open"]
        at.shop.clock.advance(1)
    (alert,) = rows(at, kind)
    assert alert["resolved_at"] is not None
    said = [text for text in at.told.texts if title(kind, "en") in text]
    assert sum(f"✅ Over: {title(kind, 'en')}" in text for text in said) == 1
    once = message(kind, alert["subject"], alert["details"], "raised", "en").splitlines()[-1]
    assert sum(once in text for text in at.told.texts) == 1


@pytest.mark.parametrize("kind", BY_PROCESSES)
def test_silent_processes_are_raised_once_and_resolved_once(at: Watched, kind: str) -> None:
    at.heard = BY_PROCESSES[kind]
    for _ in range(3):
        assert list(at.run()["open"]) == [kind]
        at.shop.clock.advance(1)
    at.heard = {"worker": True, "scheduler": True}
    for _ in range(2):
        assert at.run()["open"] == {}
        at.shop.clock.advance(1)

    (alert,) = rows(at, kind)
    assert alert["resolved_at"] is not None
    assert len(at.told.texts) == 2


def test_without_redis_it_is_not_concluded_that_a_worker_is_back(at: Watched) -> None:
    at.heard = {"worker": False, "scheduler": True}
    at.run()
    at.shop.clock.advance(1)
    at.heard = None

    assert at.run()["open"] == {"worker_silent": 1, "redis_away": 1}


def test_what_stays_is_repeated_after_the_cool_down_unless_somebody_has_seen_it(at: Watched) -> None:
    at.shop.deduct()
    at.shop.drain()
    at.shop.runtime.deliveries.pause(SELLER, "why not")
    for _ in range(14):  # hours
        at.run()
        at.shop.clock.advance(HOUR)

    assert [text.startswith("🔁") for text in at.told.texts] == [False, True, True]
    (alert,) = rows(at, "lane_paused")
    assert at.shop.runtime.alerts.acknowledge(alert["id"], "Anna", at.shop.clock())
    assert not at.shop.runtime.alerts.acknowledge(alert["id"], "Jan", at.shop.clock())
    for _ in range(14):
        at.run()
        at.shop.clock.advance(HOUR)
    assert len(at.told.texts) == 3
    at.shop.runtime.deliveries.resume(SELLER)
    at.run()
    assert at.told.texts[3:] == ["✅ Over: A seller is paused (seller-1)"]


def test_a_condition_that_returns_is_a_new_alert(at: Watched) -> None:
    for _ in range(2):
        at.heard = {"worker": False, "scheduler": True}
        at.run()
        at.shop.clock.advance(60)
        at.heard = {"worker": True, "scheduler": True}
        at.run()
        at.shop.clock.advance(60)

    assert len(rows(at, "worker_silent")) == 2
    assert len(at.told.texts) == 4


def test_a_messenger_that_refuses_loses_nothing(at: Watched) -> None:
    at.told.takes = False
    at.heard = {"worker": False, "scheduler": True}
    for _ in range(3):
        assert at.run()["unsent"] == 1
        at.shop.clock.advance(60)
    assert rows(at, "worker_silent")[0]["tries"] == 3
    at.told.takes = True

    assert at.run() == {"open": {"worker_silent": 1}, "sent": 1, "unsent": 0}
    assert len(at.told.texts) == 1


def test_what_was_not_taken_is_told_the_next_time_and_the_rest_not_twice(at: Watched) -> None:
    sellers = [f"seller-{number:02}" for number in range(20)]
    for seller in sellers:
        execute(
            at.shop,
            "INSERT INTO stock_sync_accounts (token_id, active, paused, paused_reason, created_at)"
            f" VALUES ('{seller}', TRUE, TRUE, '{'r' * 400}', '{at.shop.clock().isoformat()}')",
        )

    assert at.run()["sent"] == len(sellers)
    assert 1 < len(at.told.texts) < 10
    assert max(map(len, at.told.texts)) <= LONGEST
    assert [seller for seller in sellers if seller in "".join(at.told.texts)] == sellers

    messages, at.told.texts = at.told.texts, []
    at.shop.clock.advance(7 * HOUR)
    at.told.left = 1

    assert 0 < at.run()["unsent"] < 20
    at.told.left = None
    assert at.run()["unsent"] == 0
    assert len(at.told.texts) == len(messages)


def test_two_monitors_at_once_raise_once(at: Watched) -> None:
    many(at.shop)
    at.heard = {"worker": False, "scheduler": False}
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: at.run(), range(4)))

    alerts = [(row["kind"], row["subject"]) for row in at.shop.runtime.alerts.find()]
    assert sorted(alerts) == [("pending", ""), ("scheduler_silent", ""), ("worker_silent", "")]


def test_the_dead_man_address_is_asked_only_after_a_good_run(database_url: str) -> None:
    with (
        listening() as server,
        open_shop(database_url, STOCK_SYNC_MONITORING_PING_URL=f"{server.url}/ping") as shop,
    ):
        at = Watched(shop)
        at.run()
        assert server.asked == ["/ping"]
        at.heard = None
        at.run()
        at.heard = {"worker": False, "scheduler": True}
        at.told.takes = False
        at.run()
        assert server.asked == ["/ping"]


class Listening(ThreadingHTTPServer):
    """A server that keeps what it is asked: the dead-man switch, and Telegram's Bot API as far as it is needed."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.texts: list[str] = []
        self.status = 200
        self.hangs = threading.Event()
        self.hangs.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Listening

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self._answer()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append(self.path)
        self.server.hangs.wait(30)
        if self.server.status == 200:
            self.server.texts.append(json.loads(body)["text"])
        self._answer()

    def _answer(self) -> None:
        body = json.dumps({"ok": self.server.status == 200, "result": {}}).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def listening() -> Iterator[Listening]:
    with Listening() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.hangs.set()
        server.shutdown()


TOKEN = "123456789:AAabcdefghijklmnopqrstuvwxyz0123456"


def telegram(server: Listening) -> AppriseMessenger:
    return AppriseMessenger([f"tgram://{TOKEN}/987654321/"], server.url)


def test_telegram_gets_the_text(caplog: pytest.LogCaptureFixture) -> None:
    with listening() as server:
        assert telegram(server).send("Очередь\nКоличество: 5 <b>")

        assert server.asked == [f"/bot{TOKEN}/sendMessage"]
        assert "Количество: 5" in server.texts[0]
        assert "<b>" not in server.texts[0]  # escaped: Telegram would take it for a tag


def test_a_failing_telegram_is_said_without_its_secret(caplog: pytest.LogCaptureFixture) -> None:
    with listening() as server:
        server.status = 500

        assert not telegram(server).send("text")
        assert "tried again" in caplog.text
        assert TOKEN not in caplog.text


def test_a_telegram_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "_SECONDS", 3)
    with listening() as server:
        server.hangs.clear()

        assert not telegram(server).send("text")


def test_an_address_that_nobody_knows_is_not_taken_for_told() -> None:
    assert not AppriseMessenger(["nonsense://x"]).send("text")


def test_the_worker_is_no_larger_for_an_alert_that_was_sent() -> None:
    with listening() as server:
        telegram(server).send("text")

    assert "apprise" not in sys.modules


def test_processes_are_heard_through_the_real_redis(redis_url: str) -> None:
    redis = connect_redis(redis_url, timeout=2)
    now = datetime.now(UTC)
    assert heard_from(redis, "stock-sync", "stock-sync", now) == {"worker": False, "scheduler": False}
    worker = StockSyncWorker([make_queue(redis, "stock-sync")], worker_ttl=60)
    worker.register_birth()  # type: ignore[no-untyped-call]
    redis.set(scheduler_lock("stock-sync"), "me", ex=11)

    assert heard_from(redis, "stock-sync", "stock-sync", now) == {"worker": True, "scheduler": True}
    later = now + timedelta(minutes=10)
    assert heard_from(redis, "stock-sync", "stock-sync", later)["worker"] is False


def late_runs(at: Watched) -> list[str]:
    return [run["status"] for run in at.shop.runtime.periodic.runs.latest("monitor", 10)]


def test_a_monitor_that_is_late_is_run_by_whoever_lives(at: Watched) -> None:
    at.heard = {"worker": False, "scheduler": True}
    stand_in = at.shop.runtime.run_overdue_monitor
    at.shop.clock.advance(31 * 60)
    stand_in()
    assert late_runs(at) == []
    at.shop.clock.advance(60)
    for _ in range(3):
        stand_in()
    assert late_runs(at) == ["done"]
    assert len(at.told.texts) == 1
    at.shop.clock.advance(32 * 60)
    stand_in()
    assert late_runs(at) == ["done", "done"]


@pytest.mark.parametrize(
    ("error", "said", "tracebacks"),
    [
        (DatabaseUnavailable("gone"), "the database does not answer (gone)", 0),
        (ZeroDivisionError(), "could not be run", 2),
    ],
)
def test_whoever_stands_in_goes_on_when_the_monitor_fails(
    at: Watched,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    said: str,
    tracebacks: int,
) -> None:
    def fail(task: str) -> None:
        raise error

    monkeypatch.setattr(at.shop.runtime.periodic, "run", fail)
    at.shop.clock.advance(33 * 60)
    at.shop.runtime.run_overdue_monitor()
    at.shop.runtime.run_overdue_monitor()

    assert said in caplog.text
    assert caplog.text.count("Traceback") == tracebacks


def test_an_idle_worker_looks_after_the_monitor(
    at: Watched, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    monkeypatch.setattr(
        at.shop.runtime, "run_overdue_monitor", lambda: looked.append(str(worker.get_state()))
    )
    worker: Any = StockSyncWorker(
        [make_queue(connect_redis(redis_url, timeout=2), "stock-sync")], worker_ttl=60
    )
    worker.runtime = at.shop.runtime
    worker.register_birth()
    worker.heartbeat()
    for state in ("busy", "idle"):
        worker.set_state(state)
        worker.heartbeat()

    assert looked == ["idle"]
