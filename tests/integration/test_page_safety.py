"""The page where nobody is set up: whom it lets in; hostile texts; and what it says when it can't answer."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask.testing import FlaskClient
from markupsafe import escape
from peewee import OperationalError

from stocksync import Runtime, StockSyncConfig
from stocksync.delivery.answers import Answer, Verdict
from stocksync.errors import SchemaBehind
from stocksync.store.context import Wakeups
from stocksync.web import create_app
from tests.integration.test_web_page import HOSTILE, UNKNOWN, give_up, on_sqlite, press, shown
from tests.logins import ELSEWHERE, SETTINGS
from tests.shop import Shop, open_shop

PATHS = ["/", "/operations/nope", "/static/page.css", "/nowhere"]


@pytest.fixture
def failed(shop: Shop) -> Any:
    """The id of an operation that was given up."""
    return give_up(shop)


@on_sqlite
def test_somebody_at_this_machine_comes_in(page: FlaskClient) -> None:
    for host in ("localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST"):
        for address in ("127.0.0.1", "127.8.8.8", "::1"):
            answer = page.get("/lanes", headers={"Host": host}, environ_base={"REMOTE_ADDR": address})
            assert answer.status_code == 200, (host, address)


@on_sqlite
def test_somebody_elsewhere_is_refused(page: FlaskClient) -> None:
    for path in PATHS:
        for address in ("192.168.1.7", "8.8.8.8", "fe80::1", "::ffff:8.8.8.8", "", "unknown"):
            answer = page.get(path, environ_base={"REMOTE_ADDR": address})
            assert answer.status_code == 403, (path, address)
            assert "open only at the machine it runs on" in shown(answer)


@on_sqlite
def test_another_name_for_this_machine_is_refused(page: FlaskClient) -> None:
    names = (
        "shop.example",
        "localhost.shop.example",
        "127.0.0.1.shop.example:8000",
        "127.0.0.1@shop.example",
    )
    for path in PATHS:
        for host in (*names, "shop.example#127.0.0.1", "0.0.0.0", "[", ""):
            assert page.get(path, headers={"Host": host}).status_code == 403, (path, host)


@on_sqlite
def test_whoever_comes_through_a_proxy_is_refused(page: FlaskClient) -> None:
    forwarding = ("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip", "Forwarded", "Via")
    for header in forwarding:
        answer = page.get("/", headers={header: "127.0.0.1"})
        assert answer.status_code == 403, header
        assert "not served through a proxy" in shown(answer)


@on_sqlite
def test_a_form_of_another_site_presses_no_button(page: FlaskClient, shop: Shop, failed: Any) -> None:
    page.get("/")  # the browser has our cookie

    for sent in ({}, {"csrf": ""}, {"csrf": "x" * 43}, {"csrf": "ключ"}):
        answer = page.post(f"/operations/{failed}/cancel", data={"reason": "none", **sent})
        assert answer.status_code == 403
        assert "load it again" in shown(answer)

    assert shop.operation(failed)["status"] == "failed"


@on_sqlite
def test_every_answer_keeps_other_sites_and_injected_scripts_out(page: FlaskClient) -> None:
    for path in (*PATHS, "/healthz", "/operations?status=lost"):
        headers = page.get(path).headers
        assert headers["Content-Security-Policy"].startswith("default-src 'none';")
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == ("no-cache" if path.startswith("/static/") else "no-store")


@on_sqlite
def test_a_form_of_monstrous_size_is_refused(page: FlaskClient, failed: Any) -> None:
    assert press(page, f"/operations/{failed}/cancel", reason="x" * 100_000).status_code == 413


@on_sqlite
def test_healthz_is_open_to_all(page: FlaskClient) -> None:
    strangers: tuple[dict[str, Any], ...] = (
        {"environ_base": {"REMOTE_ADDR": "8.8.8.8"}},
        {"headers": {"Host": "shop.example"}},
        {"headers": {"X-Forwarded-For": "8.8.8.8"}},
    )
    for stranger in strangers:
        answer = page.get("/healthz", **stranger)
        assert (answer.status_code, answer.json) == (200, {"status": "ok"})


def outside_of_isolation(text: str) -> str:
    """What is left of a page without attributes and without what <bdi> keeps to itself."""
    return re.sub(r'="[^"]*"', "", re.sub(r"<bdi>.*?</bdi>", "", text, flags=re.DOTALL))


def test_hostile_texts_come_out_escaped_and_turn_no_other_text_around(page: FlaskClient, shop: Shop) -> None:
    operation = shop.deduct(HOSTILE, sku=HOSTILE, line_item_id=HOSTILE)
    shop.remote.answer = lambda _: Answer(Verdict.REJECTED, "NotSuccessful", HOSTILE, 200)
    shop.drain()
    press(page, f"/operations/{operation}/cancel", reason=HOSTILE)

    for path in ("/operations", f"/operations/{operation}", "/operations?status=cancelled"):
        text = page.get(path).text
        assert str(escape(HOSTILE)) in text
        assert "<script>" not in text
        assert "\u202e" not in outside_of_isolation(text)


def test_a_hostile_search_comes_back_escaped(page: FlaskClient, shop: Shop) -> None:
    shop.deduct(HOSTILE)

    answer = page.get("/operations", query_string={"q": HOSTILE})

    assert f'value="{escape(HOSTILE)}"' in answer.text
    assert "1 operation " in shown(answer)
    assert "<script>" not in answer.text


def test_ten_thousand_characters_are_short_in_the_list_whole_on_their_page_and_searched_for_in_vain(
    page: FlaskClient, shop: Shop
) -> None:
    long = "<b>" + "Ы" * 10_000
    operation = shop.deduct()
    shop.remote.answer = lambda _: Answer(Verdict.REJECTED, "NotSuccessful", long, 200)
    shop.drain()

    assert str(escape(long)) in page.get(f"/operations/{operation}").text
    listed = page.get("/operations").text
    assert "&lt;b&gt;ЫЫЫ" in listed
    assert "Ы" * 600 not in listed
    assert "No operations here." in shown(page.get("/operations", query_string={"q": long}))


def lose_the_database(shop: Shop, database_url: str, request: pytest.FixtureRequest) -> None:
    """For SQLite another file lies in its place; PostgreSQL drops it and ends its connections."""
    where = urlsplit(database_url)
    if where.scheme == "sqlite":
        shop.runtime.close()
        for file in Path(where.path[1:]).parent.glob("stocksync.sqlite3*"):
            file.write_bytes(b"no database at all " * 1000)
    else:
        request.getfixturevalue("postgres_server").drop_database(where.path[1:])


@pytest.mark.parametrize("path", ["/", f"/operations/{UNKNOWN}", "/operations?status=failed"])
def test_a_database_that_is_gone_is_said_in_words_and_no_traceback(
    page: FlaskClient, shop: Shop, database_url: str, request: pytest.FixtureRequest, path: str
) -> None:
    page.get("/")
    lose_the_database(shop, database_url, request)

    answer = page.get(path)

    assert answer.status_code == 503
    assert "database" in shown(answer)
    assert "To the overview" in shown(answer)
    assert page.get("/healthz").status_code == 200


def test_a_database_that_is_gone_is_one_line_for_all_requests_and_one_when_it_is_back(
    page: FlaskClient, shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise OperationalError("connection refused")

    with monkeypatch.context() as away:
        away.setattr(shop.runtime.queries, "lanes", fail)
        answers = [
            page.get(path)
            for path in ("/lanes", "/lanes", "/healthz", "/static/style.css", "/api/v1/stock-sync/lanes")
        ]
    for _ in range(2):
        page.get("/lanes")

    assert [answer.status_code for answer in answers][:3] == [503, 503, 200]
    assert answers[-1].status_code == 503
    assert [line.split(" (")[0] for line in caplog.messages if "database" in line] == [
        "the database does not answer",
        "the database answers again, after 0:00:00",
    ]


def test_a_statement_of_ours_that_is_wrong_is_a_fault_with_its_traceback(
    page: FlaskClient, shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(
        shop.runtime.queries, "lanes", lambda: shop.runtime.database.execute_sql("SELECT FROM WHERE")
    )

    assert page.get("/lanes").status_code == 500
    assert caplog.text.count("Traceback (most recent call last)") >= 1
    assert "does not answer" not in caplog.text


def test_a_page_that_does_not_exist_is_a_page_like_the_others(page: FlaskClient) -> None:
    answer = page.get("/nowhere")

    assert answer.status_code == 404
    assert "To the overview" in shown(answer)


@pytest.mark.starts_empty
def test_on_a_schema_that_is_behind_it_does_not_start(database_url: str) -> None:
    runtime = Runtime(StockSyncConfig.load({"DATABASE_URL": database_url}), wakeups=Wakeups())

    with pytest.raises(SchemaBehind, match="stocksync migrate"):
        create_app(runtime)

    runtime.close()


def test_with_nobody_set_up_it_says_who_it_is_open_to(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with open_shop(sqlite_url) as shop, caplog.at_level(logging.WARNING, "web.auth"):
        page = create_app(shop.runtime).test_client()

        assert "only at this machine" in caplog.text
        assert page.get("/").status_code == 200
        assert page.get("/", environ_base=ELSEWHERE).status_code == 403


def test_with_keys_alone_nobody_logs_in(sqlite_url: str) -> None:
    keys = {"STOCK_SYNC_API_KEYS": SETTINGS["STOCK_SYNC_API_KEYS"]}
    with open_shop(sqlite_url, **keys, STOCK_SYNC_PAGE_LANGUAGE="en") as shop:
        page = create_app(shop.runtime).test_client()

        assert page.get("/").status_code == 303
        assert "No users are set up" in page.get("/login").text


@on_sqlite
def test_a_browser_that_came_over_https_keeps_to_it(page: FlaskClient) -> None:
    header = "Strict-Transport-Security"
    assert page.get("/healthz", base_url="https://localhost").headers[header].startswith("max-age=")
    assert header not in page.get("/healthz").headers
