"""The operator's page: what it shows, what its buttons do, and whom it lets in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask.testing import FlaskClient
from markupsafe import escape
from peewee import OperationalError
from werkzeug.test import TestResponse

from stocksync import Runtime, StockSyncConfig
from stocksync.delivery.answers import Answer, Verdict
from stocksync.errors import SchemaBehind
from stocksync.queue.wakeups import NoWakeups
from stocksync.web import create_app
from tests.shop import REFUSED, SELLER, Shop, open_shop

UNKNOWN = "01a20a68-a1b1-7459-a326-d85c4cd3d65e"
HOSTILE = "<script>alert('x')</script>\"'&{{7*7}}\u202egpj.exe"
PATHS = ["/", "/operations/nope", "/static/page.css", "/nowhere"]

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
on_postgres = pytest.mark.parametrize("database_url", ["postgres"], indirect=True)


@pytest.fixture
def shop(database_url: str) -> Iterator[Shop]:
    with open_shop(database_url) as opened:
        yield opened


@pytest.fixture
def page(shop: Shop) -> FlaskClient:
    """A browser on the machine that the page runs on."""
    client = create_app(shop.runtime).test_client()
    client.environ_base["HTTP_ACCEPT_LANGUAGE"] = "en"
    return client


@pytest.fixture
def failed(shop: Shop) -> Any:
    """The id of an operation that was given up."""
    operation = shop.deduct("given-up")
    shop.remote.answer = lambda _: REFUSED
    for _ in range(5):
        shop.drain()
        shop.clock.advance(3600)
    assert shop.operation(operation)["status"] == "failed"
    return operation


@pytest.fixture
def completed(shop: Shop) -> Any:
    """The id of an operation that was delivered."""
    operation = shop.deduct("delivered")
    shop.drain()
    assert shop.operation(operation)["status"] == "completed"
    return operation


def press(page: FlaskClient, path: str, /, **fields: str) -> TestResponse:
    """Send a form as the page itself would."""
    token = re.search(r'name="csrf" value="([^"]+)"', page.get("/").text)
    assert token, "the page shows no form"
    return page.post(path, data={"csrf": token[1], **fields})


def shown(response: TestResponse) -> str:
    """The words of a page, without its tags."""
    assert "Traceback" not in response.text
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", response.text))


# What it shows


def test_the_overview_counts_operations_and_says_that_all_is_well(
    page: FlaskClient, shop: Shop, completed: Any
) -> None:
    shop.deduct("waiting", sku="SKU-7", quantity=3)

    answer = page.get("/")

    assert answer.status_code == 200
    assert "All is well: nothing has been waiting for longer than a minute." in shown(answer)
    assert "1 waiting 0 being sent 1 delivered 0 not delivered 0 cancelled" in shown(answer)


def test_an_operation_that_was_given_up_is_said_at_the_top_and_leads_to_what_the_remote_said(
    page: FlaskClient, failed: Any
) -> None:
    answer = page.get("/")

    assert "1 operation was not delivered and waits for a person." in shown(answer)
    assert "not delivered 5/5 refused not today" in shown(page.get("/operations?status=failed"))
    assert 'href="/operations?status=failed"' in answer.text


def test_an_order_is_found_by_its_id(page: FlaskClient, shop: Shop) -> None:
    shop.deduct("one")
    shop.deduct("two", sku="B")

    answer = shown(page.get("/operations?q=two"))

    assert "two seller-1 Deduction 1 × B" in answer
    assert "one seller-1" not in answer


def test_a_status_that_does_not_exist_is_said_to_be_wrong(page: FlaskClient) -> None:
    answer = page.get("/operations?status=lost")

    assert answer.status_code == 400
    assert "status: one of pending, processing, completed, failed, cancelled is needed" in shown(answer)


def test_more_operations_than_a_page_holds_are_turned_over(page: FlaskClient, shop: Shop) -> None:
    for number in range(51):
        shop.deduct(f"order-{number}")

    first, second = page.get("/operations"), page.get("/operations?page=2")

    assert "51 operations" in shown(first)
    assert "page 1 of 2" in shown(first)
    assert first.text.count('<tr id="row-') == 50
    assert "<bdi>order-0<" in second.text
    assert second.text.count('<tr id="row-') == 1


@on_sqlite
def test_an_address_that_somebody_made_up_is_no_error(page: FlaskClient, completed: Any) -> None:
    for number in ("0", "-1", "two", "99999999999999999999"):
        assert page.get(f"/operations?page={number}").status_code in (200, 302)
    for path in ("/?endpoint=x", f"/operations/{completed}?operation_id=x", "/lanes?_scheme=javascript"):
        answer = page.get(path)
        assert answer.status_code == 200
        assert "javascript:" not in answer.text


def test_an_operation_is_shown_with_its_story(page: FlaskClient, failed: Any) -> None:
    answer = page.get(f"/operations/{failed}")

    assert answer.status_code == 200
    for words in (
        "Deduction: 1 × A",
        "Seller seller-1",
        "Attempts 5 of 5",
        "The orders service refused — refused not today To be tried again next try",
        "Given up: a person has to look",
    ):
        assert words in shown(answer)


@on_postgres
def test_a_search_that_no_order_can_match_finds_nothing(page: FlaskClient) -> None:
    assert page.get("/operations?q=a%00b").status_code in (200, 400)


def test_a_link_can_not_make_the_page_report_what_never_happened(page: FlaskClient) -> None:
    assert 'class="toast good"' not in page.get("/?done=retried").text


# Its buttons


def test_retry_puts_an_operation_that_was_given_up_back_to_pending(
    page: FlaskClient, shop: Shop, failed: Any
) -> None:
    shop.wakeups.woken.clear()

    answer = press(page, f"/operations/{failed}/retry")
    row = shop.operation(failed)

    assert answer.status_code == 303
    assert "It will be sent again at once." in shown(page.get(answer.location))
    assert (row["status"], row["retry_count"], row["next_retry_at"]) == ("pending", 0, shop.clock.now)
    assert row["log"][-1]["details"]["actor"] == "page"
    assert shop.wakeups.woken == [SELLER]


def test_cancel_stops_an_operation_and_keeps_the_reason(page: FlaskClient, shop: Shop, failed: Any) -> None:
    answer = press(page, f"/operations/{failed}/cancel", reason="told by phone")

    assert answer.status_code == 303
    assert "Cancelled; the stock stays as it is." in shown(page.get(answer.location))
    assert "Reason told by phone ( page )" in shown(page.get(f"/operations/{failed}"))
    assert shop.operation(failed)["status"] == "cancelled"


@on_sqlite
def test_cancel_needs_a_reason_of_a_sensible_length(page: FlaskClient, shop: Shop, failed: Any) -> None:
    for reason in ({}, {"reason": ""}, {"reason": "  "}, {"reason": "x" * 201}):
        answer = press(page, f"/operations/{failed}/cancel", **reason)
        assert answer.status_code == 400
        assert "Please give a reason" in shown(answer)

    assert shop.operation(failed)["status"] == "failed"


@pytest.mark.parametrize("action", ["cancel", "retry"])
def test_what_is_delivered_can_be_neither_cancelled_nor_retried(
    page: FlaskClient, shop: Shop, completed: Any, action: str
) -> None:
    answer = press(page, f"/operations/{completed}/{action}", reason="too late")

    assert answer.status_code == 400
    assert "It is already “delivered”: nothing was changed." in shown(answer)
    assert shop.operation(completed)["status"] == "completed"


def test_an_operation_has_only_the_buttons_that_work(page: FlaskClient, completed: Any) -> None:
    assert 'action="/operations/' not in page.get(f"/operations/{completed}").text


def test_an_unknown_operation_is_not_found(page: FlaskClient, shop: Shop) -> None:
    shop.deduct()

    for unknown in (UNKNOWN, "nope", "%00", HOSTILE.replace("/", "")):
        for answer in (
            page.get(f"/operations/{unknown}"),
            press(page, f"/operations/{unknown}/retry"),
            press(page, f"/operations/{unknown}/cancel", reason="late"),
        ):
            assert answer.status_code == 404
            assert "There is no such operation." in shown(answer)
            assert "alert('x')" not in answer.text


@on_sqlite
def test_after_a_button_the_page_is_the_one_before_and_no_other_site(page: FlaskClient, failed: Any) -> None:
    before = "/operations?status=failed&q=given-up&page=1"
    for back, where in (
        (before, before),
        ("https://elsewhere.example/", "/"),
        ("//elsewhere.example/", "/"),
        ("/\\elsewhere.example", "/"),
        ("/\t/elsewhere.example", "/"),
        ("/a\r\nSet-Cookie: x=y", "/"),
    ):
        assert press(page, f"/operations/{failed}/retry", back=back).location == where


# Whom it lets in


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


# Hostile texts


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


# When it can't answer


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
        shop.runtime.queries, "lanes", lambda: shop.runtime.database.execute_sql("SELECT nothing_such")
    )

    assert page.get("/lanes").status_code == 500
    assert caplog.text.count("Traceback (most recent call last)") >= 1
    assert "does not answer" not in caplog.text


def test_a_page_that_does_not_exist_is_a_page_like_the_others(page: FlaskClient) -> None:
    answer = page.get("/nowhere")

    assert answer.status_code == 404
    assert "To the overview" in shown(answer)


def test_on_a_schema_that_is_behind_it_does_not_start(database_url: str) -> None:
    runtime = Runtime(StockSyncConfig.load({"DATABASE_URL": database_url}), wakeups=NoWakeups())

    with pytest.raises(SchemaBehind, match="stocksync migrate"):
        create_app(runtime)

    runtime.close()
