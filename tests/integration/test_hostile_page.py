"""The page when every text that came from outside is hostile, and when every address is called by another site."""

from __future__ import annotations

import json
import re
import sqlite3
from collections import deque
from contextlib import closing
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import pytest
from flask.testing import FlaskClient
from peewee import CharField, TextField
from playhouse.sqlite_ext import JSONField

from stocksync.store.models import MODELS
from stocksync.web import create_app
from tests.integration.test_web_page import on_sqlite, press
from tests.logins import KEYS, SECURE, SETTINGS, log_in
from tests.page_shop import fill
from tests.shop import WAREHOUSE, Shop, form, open_shop

pytestmark = on_sqlite
OURS = {
    "action",
    "status",
    "kind",
    "task",
    "cause",
    "operation_type",
    "traceparent",
    "content_hash",
    "cause_key",
    "key",
}
"""Columns with words of ours, and those that no page shows."""
SHOWN = {
    *("order_id", "token_id", "sku", "warehouse", "line_id", "error_message", "error_class"),
    *("actor", "reason", "name", "acknowledged_by", "subject", "details"),
}
"""Columns from outside that must be met on some page."""
KINDS = {"text/html", "application/json", "text/css", "text/javascript", "image/svg+xml", "text/plain"}


def mark(column: str) -> str:
    """Markup that stands out if it is taken as markup: out of an attribute, a tag, a script, a template."""
    return f"'\"></script><x-{column} onx=1>{{{{7*7}}}}\u202e"


class Page(HTMLParser):
    """Fails on markup that is not ours."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not tag.startswith("x-"), tag
        for name, value in attrs:
            assert not name.startswith("on"), (tag, name)
            if name in ("href", "action", "src"):
                self.links.append(value or "")
            self.text += unquote(value or "")

    def handle_data(self, data: str) -> None:
        self.text += data


def spoiled(value: Any, column: str) -> Any:
    """A document with the mark behind each of its texts."""
    if isinstance(value, dict):
        return {name: spoiled(one, column) for name, one in value.items()}
    if isinstance(value, list):
        return [spoiled(one, column) for one in value]
    dated = isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\dT", value)
    return value + mark(column) if isinstance(value, str) and not dated else value


def spoil(database_url: str) -> None:
    """Have a mark behind every text in the database that came from outside."""
    with closing(sqlite3.connect(database_url.removeprefix("sqlite:///"))) as database, database:
        for model in MODELS:
            table = model._meta.table_name
            for field in model._meta.sorted_fields:
                column = field.column_name
                if isinstance(field, JSONField) or column == "details":
                    rows = database.execute(f"SELECT rowid, {column} FROM {table}").fetchall()
                    for row, text in rows:
                        document = json.dumps(spoiled(json.loads(text), column))
                        database.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (document, row))
                elif column == "token_id" or (
                    isinstance(field, CharField | TextField) and column not in OURS
                ):
                    old = f"COALESCE({column}, '')" if column == "name" else column
                    try:
                        database.execute(f"UPDATE {table} SET {column} = {old} || ?", (mark(column),))
                    except sqlite3.IntegrityError as ours:
                        if "CHECK" not in str(ours):
                            raise


def crawl(page: FlaskClient, most: int = 400) -> dict[str, Page]:
    """Every page that links of ours lead to."""
    found: dict[str, Page] = {}
    waiting, known = deque(["/"]), {"/"}
    while waiting and len(found) < most:
        path = waiting.popleft()
        answer = page.get(path)
        assert answer.status_code in (200, 303, 308, 404, 405), path
        assert answer.mimetype in KINDS
        if answer.mimetype != "text/html":
            continue
        found[path] = read = Page(answer.text)
        for link in read.links:
            where = urldefrag(urljoin(f"http://localhost{path}", link))[0]
            assert urlsplit(where).netloc == "localhost", link
            # Of lists that are sorted or in another language one is enough.
            plain = where.removeprefix("http://localhost")
            if not re.search(r"[?&](sort|language|theme|age)=", plain) and plain not in known:
                known.add(plain)
                waiting.append(plain)
    return found


def test_no_text_from_outside_is_markup_on_any_page(shop: Shop, page: FlaskClient, database_url: str) -> None:
    fill(shop)
    shop.orders.process_order_stock_update(form("unlinked", {"line-of-no-sku": (None, 1)}), WAREHOUSE)
    plain = crawl(page)
    shop.runtime.close()
    spoil(database_url)

    pages = crawl(page)

    assert len(plain) > 30
    assert len(pages) > 30
    met = set(re.findall(r"<x-(\w+) onx=1>", "".join(one.text for one in pages.values())))
    assert SHOWN - met == set()


def dump(database_url: str) -> str:
    with closing(sqlite3.connect(database_url.removeprefix("sqlite:///"))) as database:
        return "\n".join(database.iterdump())


def test_asking_changes_nothing(shop: Shop, page: FlaskClient, database_url: str) -> None:
    fill(shop)
    before = dump(database_url)
    for path in crawl(page):
        page.get(f"{path}{'&' if '?' in path else '?'}csrf=x&reason=x&action=cancel")
        page.head(path)
    assert dump(database_url) == before


def test_no_form_of_another_site_changes_anything(database_url: str) -> None:
    with open_shop(database_url, **SETTINGS) as shop:
        fill(shop)
        options: Any = SECURE
        before, app = dump(database_url), create_app(shop.runtime)
        page, tried = app.test_client(), 0
        log_in(page)
        for rule in app.url_map.iter_rules():
            path = re.sub(r"<any\(([^,)]*)[^>]*>", r"\1", rule.rule)
            path = re.sub(r"<[^>]*>", "01a20a68-a1b1-7459-a326-d85c4cd3d65e", path)
            for method in (rule.methods or set()) - {"GET", "HEAD", "OPTIONS"}:
                for sent in ({}, {"csrf": "x" * 43}):
                    headers = {"Origin": "https://evil.example", "Referer": "https://evil.example/"}
                    answer = page.open(
                        path, method=method, data={"reason": "x", **sent}, headers=headers, **options
                    )
                    assert answer.status_code == 403, path
                    tried += 1
        assert tried >= 50
        assert dump(database_url) == before


def test_a_search_takes_wildcards_as_they_are(shop: Shop, page: FlaskClient) -> None:
    shop.stock(**{"AB": 1, "A%B": 2, "A_B": 3, "A\\B": 4, "A'B": 5})
    for text, found in (
        ("%", {"A%B"}),
        ("_", {"A_B"}),
        ("\\", {"A\\B"}),
        ("'", {"A'B"}),
        ("A%B", {"A%B"}),
        ("x", set()),
    ):
        rows, number = shop.runtime.queries.levels(text, limit=50)
        assert ({row["sku"] for row in rows}, number) == (found, len(found)), text
    shop.deduct("order-1")
    for text in ("%", "order_1", "order-%", "' OR 1=1 --"):
        assert "No operations here." in page.get("/operations", query_string={"q": text}).text


def test_a_form_from_outside_sets_no_column_of_ours(database_url: str) -> None:
    with open_shop(database_url, **SETTINGS) as shop:
        shop.stock(A=5)
        client = create_app(shop.runtime).test_client(use_cookies=False)
        line = {
            "deducted": 99,
            "refunded": 99,
            "waived": True,
            "moves_stock": False,
            "carried": "x",
            "moved_to": "x",
        }
        more = {
            "is_stock_updated": True,
            "state_version": 99,
            "delivered_version": 99,
            "attempts": 99,
            "has_form": False,
            "actor": "boss",
            "due_at": None,
            "claim_id": "x",
            "remote_flag": True,
            "max_retries": 99,
            "paused": True,
        }
        item = {"id": "line-1", "quantity": 1, "offer": {"id": "1", "external": {"id": "A"}}, **line}
        sent = {
            "id": "o",
            "token_id": "s",
            "status": "READY_FOR_PROCESSING",
            "lineItems": [item],
            "revision": "1",
        }

        answer = client.post(
            "/api/v1/orders/process", json=sent | more,
            headers={"Authorization": f"Bearer {KEYS['operator']}"}, **SECURE,
        )  # fmt: skip

        assert answer.status_code == 200, answer.text
        order = shop.runtime.queries.order("s", "o")
        assert (order["lines"][0]["deducted"], order["lines"][0]["refunded"]) == (1, 0)
        assert shop.on_hand("A") == 4
        text = dump(database_url)
        assert "boss" not in text
        assert "99" not in re.findall(r"[^,(]+", re.sub(r"'[^']*'", "", text))


def test_a_language_or_a_page_that_there_is_not_is_left_out(page: FlaskClient, shop: Shop) -> None:
    shop.deduct("order-1")
    for query in (
        "language=../../etc",
        "theme=%3Cscript%3E",
        "page=-1",
        "page=99999999999999999999",
        "sort=id;drop",
        "age=x",
    ):
        answer = page.get(f"/operations?{query}")
        assert answer.status_code in (200, 302), query
        assert "Set-Cookie" not in answer.headers or "etc" not in answer.headers["Set-Cookie"]
    assert press(page, "/logout", next="//evil.example").location == "/login"


@pytest.mark.parametrize("proxies", ["0", "1"])
def test_a_forged_name_of_this_host_is_in_no_answer(database_url: str, proxies: str) -> None:
    with open_shop(database_url, **SETTINGS, STOCK_SYNC_TRUSTED_PROXIES=proxies) as shop:
        page = create_app(shop.runtime).test_client()
        log_in(page)
        names = (
            "X-Forwarded-Host",
            "X-Host",
            "X-Original-Host",
            "X-Forwarded-Server",
            "X-Original-URL",
            "X-Rewrite-URL",
        )
        forged = dict.fromkeys(names, "evil.example") | {
            "Forwarded": "for=1.2.3.4;host=evil.example;proto=https"
        }
        for path in ("/", "/login?next=/lanes", "/operations", "/nowhere", "/static//page.css", "/docs"):
            answer = page.get(path, headers=forged, **SECURE)
            assert "evil" not in f"{answer.headers}{answer.text}", path


STARTS = (
    *("//", "///", "/\\", "\\\\", "/%2f", "/%5c", "%2f%2f", "/\t/"),
    *("/\n/", "https:", "https:/", "HTTPS://", "javascript:", "data:", " //", "/ /"),
    *("/;@", "@", "/./", "/.//", "/..//", "\u0000//", "/\u2028/"),
)
"""How addresses of other sites may begin in the eyes of some browser."""


def test_no_form_leads_to_another_site_however_it_is_written(shop: Shop, page: FlaskClient) -> None:
    operation = shop.deduct()
    for start in STARTS:
        for path in (f"/operations/{operation}/retry", "/lanes/pause"):
            answer = press(page, path, back=f"{start}evil.example/", lane="x", reason="x")
            assert answer.status_code == 303
            where = urljoin("http://localhost/lanes/pause", answer.location or "/")
            assert urlsplit(where)[:2] == ("http", "localhost"), (start, answer.location)
