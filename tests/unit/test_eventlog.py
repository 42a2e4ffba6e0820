"""The log: one line an event, the fields it concerns, and no secret whatever comes by."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from stocksync import StockSyncConfig
from stocksync.queue.process import set_up_log

TOKEN = "eyJhbGciOi-secret-bearer"
SECRETS = {
    "DATABASE_URL": "postgresql://shop:db-pass%2Fword@db/shop",
    "REDIS_URL": "rediss://:redis-password@redis:6379",
    "ALLEGRO_MICROSERVICE_JWT_TOKEN": TOKEN,
    "STOCK_SYNC_ALERT_URLS": "tgram://123456:telegram-token/42, mailto://anna:mail-password@example.org",
}


@pytest.fixture(autouse=True)
def _root_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def logged(log_format: str = "text", **environment: str) -> io.StringIO:
    stream = io.StringIO()
    set_up_log(StockSyncConfig.load({"STOCK_SYNC_LOG_FORMAT": log_format, **environment}), stream)
    return stream


def test_an_event_is_one_line_with_its_fields() -> None:
    stream = logged()
    about = {"lane": "seller-1", "order": "an order", "attempt": 3, "unknown": "left out"}
    logging.getLogger("stocksync.x").warning("not delivered: %s", "two\nlines\x1b[31m", extra=about)

    (line,) = stream.getvalue().splitlines()
    assert " WARNING not delivered: two ⏎ lines" in line
    assert line.endswith('lane=seller-1 order="an order" attempt=3')
    assert "\x1b" not in line
    assert "left out" not in line


def test_on_a_platform_an_event_is_one_json_object(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYNO", "worker.1")
    stream = logged("auto")
    logging.getLogger("stocksync.x").info("line one\nline two", extra={"lane": "seller-1", "operation": 7})

    event = json.loads(stream.getvalue())
    assert event.pop("time").endswith("+00:00")
    assert event == {
        "level": "INFO",
        "logger": "stocksync.x",
        "message": "line one\nline two",
        "lane": "seller-1",
        "operation": 7,
    }


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_nothing_in_an_event_moves_the_cursor_of_who_reads_it(log_format: str) -> None:
    stream = logged(log_format)
    hostile = "a\x1b[2J\x9b2J\u2028b\u202ec\r\x85\x00d"
    logging.getLogger("stocksync.x").warning("%s", hostile, extra={"lane": hostile, "order": hostile})

    line = stream.getvalue().removesuffix("\n")
    assert line.isprintable()
    assert "a" in line


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_secret_is_logged_not_even_in_a_traceback(log_format: str) -> None:
    stream = logged(log_format, **SECRETS)
    log = logging.getLogger("stocksync.x")
    log.info("connecting to %s with %s", SECRETS["DATABASE_URL"], SECRETS["REDIS_URL"])
    log.info("alerts go to tgram://123456:telegram-token/42; the password is db-pass/word, redis-password")
    try:
        raise ValueError(f"refused: Bearer {TOKEN} mailto://anna:mail-password@example.org")
    except ValueError:
        log.exception("it failed")

    text = stream.getvalue()
    assert "it failed" in text
    assert "ValueError: refused: Bearer ***" in text
    for secret in (TOKEN, "db-pass", "redis-password", "telegram-token", "mail-password"):
        assert secret not in text
    assert len(text.splitlines()) == 3


def test_a_short_secret_does_not_take_words_out() -> None:
    stream = logged(ALLEGRO_MICROSERVICE_JWT_TOKEN="in")
    logging.getLogger("stocksync.x").info("within")

    assert "within" in stream.getvalue()
