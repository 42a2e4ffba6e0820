"""Alerts on their way: repeated, not taken, told once by several monitors, sent to Telegram and to the dead-man address."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from stocksync.upkeep import messenger as sending
from stocksync.upkeep.messenger import AppriseMessenger
from tests.shop import SELLER, open_shop
from tests.watching import HOUR, Watched, execute, many, rows


@pytest.fixture
def at(database_url: str) -> Iterator[Watched]:
    with open_shop(
        database_url, STOCK_SYNC_ALERT_LANGUAGE="en", STOCK_SYNC_MONITORING_MAX_PENDING_OPERATIONS="3"
    ) as shop:
        yield Watched(shop)


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


def test_many_alerts_go_together_and_are_told_the_next_time_if_they_were_not_taken(at: Watched) -> None:
    sellers = [f"seller-{number:02}" for number in range(20)]
    for seller in sellers:
        execute(
            at.shop,
            "INSERT INTO stock_sync_accounts (token_id, active, paused, paused_reason, created_at)"
            f" VALUES ('{seller}', TRUE, TRUE, '{'r' * 400}', '{at.shop.clock().isoformat()}')",
        )

    assert at.run()["sent"] == len(sellers)
    (text,) = at.told.texts
    assert [seller for seller in sellers if seller in text] == sellers

    at.shop.clock.advance(7 * HOUR)
    at.told.takes = False
    assert at.run()["unsent"] == len(sellers)
    at.told.takes = True
    assert at.run() | {"open": None} == {"open": None, "sent": len(sellers), "unsent": 0}
    assert at.run()["sent"] == 0


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
        self.takes = 1000
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
        self.server.takes -= 1
        if self.server.takes < 0:
            self.server.status = 400
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
        assert telegram(server)("Очередь\nКоличество: 5 <b>")

        assert server.asked == [f"/bot{TOKEN}/sendMessage"]
        assert "Количество: 5" in server.texts[0]
        assert "<b>" not in server.texts[0]  # escaped: Telegram would take it for a tag


def test_telegram_gets_a_long_text_whole_in_as_many_parts_as_it_takes() -> None:
    text = "\n".join(f"line {number}: {'r' * 80}" for number in range(120))
    with listening() as server:
        assert telegram(server)(text)

        assert len(server.texts) > 2
        assert max(map(len, server.texts)) <= 4096
        assert "".join("".join(server.texts).split()) == "".join(text.split())


def test_a_text_of_which_a_part_was_refused_counts_as_refused() -> None:
    with listening() as server:
        server.takes = 1

        assert not telegram(server)("long " * 2000)


def test_a_failing_telegram_is_said_without_its_secret(caplog: pytest.LogCaptureFixture) -> None:
    with listening() as server:
        server.status = 500

        assert not telegram(server)("text")
        assert "tried again" in caplog.text
        assert TOKEN not in caplog.text


def test_a_telegram_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "_SECONDS", 3)
    with listening() as server:
        server.hangs.clear()

        assert not telegram(server)("text")


def test_an_address_that_nobody_knows_is_not_taken_for_told() -> None:
    assert not AppriseMessenger(["nonsense://x"])("text")


def test_the_worker_is_no_larger_for_an_alert_that_was_sent() -> None:
    with listening() as server:
        telegram(server)("text")

    assert "apprise" not in sys.modules
