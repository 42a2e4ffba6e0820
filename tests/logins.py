"""People and keys of a page under test, and how they log in and press buttons from elsewhere."""

from __future__ import annotations

import re
from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from stocksync.credentials import hash_key, hash_password

PASSWORD = "correct horse battery"
HASH = hash_password(PASSWORD, "saltsalt")
KEYS = {name: f"key-of-{name}" for name in ("reader", "operator", "admin")}
SETTINGS = {
    "STOCK_SYNC_PAGE_LANGUAGE": "en",
    "STOCK_SYNC_USERS": ",".join(f"{name}:{name}:{HASH}" for name in KEYS),
    "STOCK_SYNC_API_KEYS": "\n".join(f"{name}:{name}:{hash_key(key)}" for name, key in KEYS.items()),
}
ELSEWHERE = {"REMOTE_ADDR": "203.0.113.7"}
SECURE = {"base_url": "https://shop.example", "environ_base": ELSEWHERE}


def token_in(answer: TestResponse) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', answer.text)
    assert found, "there is no form"
    return found[1]


def log_in(page: FlaskClient, name: str = "operator", password: str = PASSWORD, **more: Any) -> TestResponse:
    options = SECURE | more
    fields = {"csrf": token_in(page.get("/login", **options)), "name": name, "password": password}
    return page.post("/login", data=fields, **options)


def press(page: FlaskClient, path: str, **fields: str) -> TestResponse:
    return page.post(path, data={"csrf": token_in(page.get("/", **SECURE)), **fields}, **SECURE)
