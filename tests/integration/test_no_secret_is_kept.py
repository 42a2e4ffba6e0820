"""Real processes that log everything they can, through failures, logins and calls: no secret is in what they leave behind."""

from __future__ import annotations

import re
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, OpenerDirector, Request, build_opener

import pytest
from redis import Redis

from stocksync.credentials import hash_key, hash_password
from stocksync.sandbox import Sandbox
from stocksync.store.database import open_database
from stocksync.store.models import MODELS
from tests.processes import Processes
from tests.quick_processes import QUICK, flagged, take_orders
from tests.servers import free_port, wait_until

TOKEN, PASSWORD, KEY = "token-of-the-remote-5f1c", "password-of-anna-77aa", "key-of-a-program-92be"
SIGNING = "signing-key-of-the-sessions-0123456789abcdef"
HASHES = (hash_password(PASSWORD), hash_key(KEY))
ALERTS = "json://user:secret-of-the-alerts@127.0.0.1:1/"
PING = "http://127.0.0.1:1/ping/secret-of-the-ping"
SETTINGS = QUICK | {
    "ALLEGRO_MICROSERVICE_JWT_TOKEN": TOKEN,
    "STOCK_SYNC_LOG_LEVEL": "DEBUG",
    "STOCK_SYNC_USERS": f"anna:operator:{HASHES[0]}",
    "STOCK_SYNC_API_KEYS": f"program:operator:{HASHES[1]}",
    "STOCK_SYNC_SECRET_KEY": SIGNING,
    "STOCK_SYNC_ALERT_URLS": ALERTS,
    "STOCK_SYNC_MONITORING_PING_URL": PING,
    "STOCK_SYNC_MONITORING_INTERVAL_MINUTES": "1",
}
SECRETS = (TOKEN, PASSWORD, KEY, SIGNING, *HASHES, "secret-of-the-alerts", "secret-of-the-ping")


def ask(
    browser: OpenerDirector, url: str, fields: dict[str, str] | None = None, **headers: str
) -> tuple[int, str]:
    """Status and text; with `fields` a form is sent."""
    data = urlencode(fields).encode() if fields else None
    try:
        with browser.open(Request(url, data, headers), timeout=10) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as refused:
        return refused.code, refused.read().decode()


def use_the_page(base: str) -> None:
    """A wrong login and a right one, a wrong key and a right one."""
    browser = build_opener(HTTPCookieProcessor(CookieJar()))
    for password, expected in ((f"{PASSWORD}-wrong", 401), (PASSWORD, 200)):
        token = re.search(r'name="csrf" value="([^"]+)"', ask(browser, f"{base}/login")[1])
        assert token
        fields = {"csrf": token[1], "name": "anna", "password": password}
        assert ask(browser, f"{base}/login", fields)[0] == expected
    for key, expected in ((f"{KEY}-wrong", 401), (KEY, 200)):
        assert (
            ask(build_opener(), f"{base}/api/v1/stock-sync/operations", Authorization=f"Bearer {key}")[0]
            == expected
        )


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_no_secret_is_in_a_log_in_redis_or_in_the_database(
    tmp_path: Path, database_url: str, redis_url: str
) -> None:
    port = free_port()
    with (
        Sandbox(token=TOKEN) as sandbox,
        Processes(tmp_path, database_url, redis_url, sandbox, **SETTINGS) as shop,
    ):
        shop.command("stock", "import", "-", text="sku,warehouse,quantity\nA,Ирина,100000\n")
        for words in (("jobs.worker",), ("jobs.scheduler",), ("stocksync", "web", "--port", str(port))):
            shop.start(*words)
        for words_said in (f"Listening at: http://0.0.0.0:{port}", "*** Listening on"):
            wait_until(lambda said=words_said: said in shop.logs(), message=words_said)  # type: ignore[misc]
        use_the_page(f"http://127.0.0.1:{port}")
        faults: tuple[dict[str, Any], ...] = (
            {"error_share": 1.0, "error_status": 401},
            {"bad_body": "html"},
            {},
        )
        for number, fault in enumerate(faults):
            sandbox.set_faults(**{"error_share": 0.0, "bad_body": None, **fault})
            take_orders(shop, range(3 * number, 3 * number + 3))
            seen = len(shop.logs())
            wait_until(lambda seen=seen: len(shop.logs()) > seen + 500, message="what they say to that")  # type: ignore[misc]
        shop.command("monitor", code=None)
        shop.command("sweep")
        kept = everything(shop, redis_url)
    assert [secret for secret in SECRETS if secret in kept] == []
    assert len(flagged(sandbox)) <= 9
    assert "order-1" in kept


def everything(shop: Processes, redis_url: str) -> str:
    """The logs, every value in Redis, every row of ours."""
    redis: Any = Redis.from_url(redis_url)
    redis.config_set("rdbcompression", "no")
    values = [str(redis.dump(key)) for key in redis.scan_iter()]
    said = [
        str(shop.command(*words.split()))
        for words in ("operations list", "alerts list --all", "status", "lanes list")
    ]
    database = open_database(shop.environment["DATABASE_URL"])
    with database.scope():
        tables = {model._meta.table_name for model in MODELS}
        rows = [str(database.execute_sql(f"SELECT * FROM {table}").fetchall()) for table in sorted(tables)]
    return "\n".join([shop.logs(), *values, *said, *rows])
