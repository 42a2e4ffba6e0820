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
from werkzeug.test import TestResponse

from stocksync import Runtime, StockSyncConfig
from stocksync.domain.answers import Answer, Verdict
from stocksync.domain.errors import SchemaBehind
from stocksync.queueing import NoWakeups
from tests.shop import REFUSED, SELLER, Shop, open_shop
from web import create_app

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
    return create_app(shop.runtime).test_client()


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


def test_the_overview_counts_operations_and_lists_them(page: FlaskClient, shop: Shop, completed: Any) -> None:
    shop.deduct("waiting", sku="SKU-7", quantity=3)

    answer = page.get("/")

    assert answer.status_code == 200
    assert "All is well: 1 operations delivered today, 1 under way." in shown(answer)
    assert "pending 1 processing 0 completed 1 failed 0 cancelled 0" in shown(answer)
    assert "waiting SKU-7 3 pending 0 / 5" in shown(answer)
    assert "delivered A 1 completed" in shown(answer)
    assert "page 1 of 1, 2 operations" in shown(answer)


def test_an_operation_that_was_given_up_is_said_at_the_top_with_what_the_remote_said(
    page: FlaskClient, failed: Any
) -> None:
    answer = shown(page.get("/"))

    assert "Needs a look: 1 given up" in answer
    assert "failed 5 / 5 – not today" in answer


def test_the_newest_operation_comes_first(page: FlaskClient, shop: Shop) -> None:
    for order in ("first", "second"):
        shop.deduct(order)
        shop.clock.advance(1)

    answer = shown(page.get("/"))

    assert answer.index("second") < answer.index("first")


def test_a_status_shows_its_operations_alone(page: FlaskClient, shop: Shop, completed: Any) -> None:
    shop.deduct("waiting")

    answer = shown(page.get("/?status=completed"))

    assert "delivered" in answer
    assert "waiting" not in answer
    assert "1 operations" in answer


def test_an_order_is_found_by_its_id(page: FlaskClient, shop: Shop) -> None:
    shop.deduct("one")
    shop.deduct("two", sku="B")

    answer = shown(page.get("/?order=two"))

    assert "two B" in answer
    assert "one A" not in answer


def test_a_status_without_operations_says_so(page: FlaskClient) -> None:
    assert "No operations here." in shown(page.get("/?status=failed"))


def test_a_status_that_does_not_exist_is_said_to_be_wrong(page: FlaskClient) -> None:
    answer = page.get("/?status=lost")

    assert answer.status_code == 400
    assert "status: one of pending, processing, completed, failed, cancelled is needed" in shown(answer)


def test_more_operations_than_a_page_holds_are_turned_over(page: FlaskClient, shop: Shop) -> None:
    for number in range(51):
        shop.deduct(f"order-{number}")

    first, second = page.get("/"), page.get("/?page=2")

    assert "page 1 of 2, 51 operations" in shown(first)
    assert first.text.count("<tr>") == 51
    assert "order-0 A" in shown(second)
    assert second.text.count("<tr>") == 2


@on_sqlite
@pytest.mark.parametrize("number", ["0", "-1", "two", "99999999999999999999"])
def test_a_page_that_does_not_exist_is_no_error(page: FlaskClient, number: str) -> None:
    assert page.get(f"/?page={number}").status_code == 200


def test_an_operation_is_shown_with_its_log(page: FlaskClient, failed: Any) -> None:
    answer = page.get(f"/operations/{failed}")

    assert answer.status_code == 200
    for words in (
        "Deduction of 1 × A",
        "Seller account seller-1",
        "Tries 5 of 5",
        "sync failed",
        "max retries",
    ):
        assert words in shown(answer)


@on_postgres
def test_a_search_that_no_order_can_match_finds_nothing(page: FlaskClient) -> None:
    assert "No operations here." in shown(page.get("/?order=a%00b"))


def test_a_link_can_not_make_the_page_report_what_never_happened(page: FlaskClient) -> None:
    assert "The operation was" not in shown(page.get("/?done=nothing"))


# Its buttons


def test_retry_puts_an_operation_that_was_given_up_back_to_pending(
    page: FlaskClient, shop: Shop, failed: Any
) -> None:
    shop.wakeups.woken.clear()

    answer = press(page, f"/operations/{failed}/retry")
    row = shop.operation(failed)

    assert answer.status_code == 303
    assert "The operation was queued for retry." in shown(page.get(answer.location))
    assert (row["status"], row["retry_count"], row["next_retry_at"]) == ("pending", 0, shop.clock.now)
    assert row["log"][-1]["details"]["actor"] == "page"
    assert shop.wakeups.woken == [SELLER]


def test_cancel_stops_an_operation_and_keeps_the_reason(page: FlaskClient, shop: Shop, failed: Any) -> None:
    answer = press(page, f"/operations/{failed}/cancel", reason="told by phone")

    assert answer.status_code == 303
    assert "The operation was cancelled." in shown(page.get(answer.location))
    assert "Reason told by phone (page)" in shown(page.get(f"/operations/{failed}"))
    assert shop.operation(failed)["status"] == "cancelled"


@on_sqlite
@pytest.mark.parametrize("reason", [{}, {"reason": ""}, {"reason": "  "}, {"reason": "x" * 201}])
def test_cancel_needs_a_reason_of_a_sensible_length(
    page: FlaskClient, shop: Shop, failed: Any, reason: dict[str, str]
) -> None:
    answer = press(page, f"/operations/{failed}/cancel", **reason)

    assert answer.status_code == 400
    assert "reason: " in shown(answer)
    assert shop.operation(failed)["status"] == "failed"


@pytest.mark.parametrize(("action", "said"), [("cancel", "cancelled"), ("retry", "retried")])
def test_what_is_delivered_can_be_neither_cancelled_nor_retried(
    page: FlaskClient, shop: Shop, completed: Any, action: str, said: str
) -> None:
    shop.deduct("waiting")  # whose form carries the token

    answer = press(page, f"/operations/{completed}/{action}", reason="too late")

    assert answer.status_code == 400
    assert f"operation {completed} is completed and cannot be {said}" in shown(answer)
    assert shop.operation(completed)["status"] == "completed"


def test_an_operation_has_only_the_buttons_that_work(page: FlaskClient, completed: Any) -> None:
    assert '<form method="post"' not in page.get(f"/operations/{completed}").text


@pytest.mark.parametrize("unknown", [UNKNOWN, "nope", "%00", HOSTILE.replace("/", "")])
def test_an_unknown_operation_is_not_found(page: FlaskClient, shop: Shop, unknown: str) -> None:
    shop.deduct()

    for answer in (
        page.get(f"/operations/{unknown}"),
        press(page, f"/operations/{unknown}/retry"),
        press(page, f"/operations/{unknown}/cancel", reason="late"),
    ):
        assert answer.status_code == 404
        assert "is unknown" in shown(answer)
        assert "<script" not in answer.text


def test_after_a_button_the_list_is_filtered_as_before(page: FlaskClient, failed: Any) -> None:
    answer = press(page, f"/operations/{failed}/retry", status="failed", order="given-up", page="1")

    query = urlsplit(answer.location).query
    assert set(query.split("&")) == {"done=retried", "status=failed", "order=given-up", "page=1"}


# Whom it lets in


@on_sqlite
@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST"])
@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1"])
def test_somebody_at_this_machine_comes_in(page: FlaskClient, host: str, address: str) -> None:
    answer = page.get("/", headers={"Host": host}, environ_base={"REMOTE_ADDR": address})

    assert answer.status_code == 200


@on_sqlite
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("address", ["192.168.1.7", "8.8.8.8", "fe80::1", "::ffff:8.8.8.8", "", "unknown"])
def test_somebody_elsewhere_is_refused(page: FlaskClient, path: str, address: str) -> None:
    answer = page.get(path, environ_base={"REMOTE_ADDR": address})

    assert answer.status_code == 403
    assert "open only at the machine it runs on" in shown(answer)


@on_sqlite
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "host",
    [
        "shop.example",
        "localhost.shop.example",
        "127.0.0.1.shop.example:8000",
        "127.0.0.1@shop.example",
        "shop.example#127.0.0.1",
        "0.0.0.0",
        "[",
        "",
    ],
)  # fmt: skip
def test_another_name_for_this_machine_is_refused(page: FlaskClient, path: str, host: str) -> None:
    assert page.get(path, headers={"Host": host}).status_code == 403


@on_sqlite
@pytest.mark.parametrize(
    "header", ["X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip", "Forwarded", "Via"]
)
def test_whoever_comes_through_a_proxy_is_refused(page: FlaskClient, header: str) -> None:
    answer = page.get("/", headers={header: "127.0.0.1"})

    assert answer.status_code == 403
    assert "not served through a proxy" in shown(answer)


@on_sqlite
@pytest.mark.parametrize("action", ["retry", "cancel"])
def test_a_stranger_with_the_right_token_presses_no_button(
    page: FlaskClient, shop: Shop, failed: Any, action: str
) -> None:
    token = re.search(r'name="csrf" value="([^"]+)"', page.get("/").text)
    assert token

    answer = page.post(
        f"/operations/{failed}/{action}",
        data={"csrf": token[1], "reason": "none"},
        environ_base={"REMOTE_ADDR": "10.0.0.7"},
    )

    assert answer.status_code == 403
    assert shop.operation(failed)["status"] == "failed"


@on_sqlite
@pytest.mark.parametrize("sent", [{}, {"csrf": ""}, {"csrf": "x" * 43}, {"csrf": "ключ"}])
@pytest.mark.parametrize("action", ["retry", "cancel"])
def test_a_form_of_another_site_presses_no_button(
    page: FlaskClient, shop: Shop, failed: Any, action: str, sent: dict[str, str]
) -> None:
    page.get("/")  # the browser has our cookie

    answer = page.post(f"/operations/{failed}/{action}", data={"reason": "none", **sent})

    assert answer.status_code == 403
    assert "load it again" in shown(answer)
    assert shop.operation(failed)["status"] == "failed"


@on_sqlite
def test_a_token_without_its_cookie_presses_no_button(page: FlaskClient, shop: Shop, failed: Any) -> None:
    answer = page.post(f"/operations/{failed}/retry", data={"csrf": ""})

    assert answer.status_code == 403
    assert shop.operation(failed)["status"] == "failed"


@on_sqlite
def test_no_script_and_no_other_site_gets_the_cookie(page: FlaskClient, failed: Any) -> None:
    cookie = page.get("/").headers["Set-Cookie"]

    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie


@on_sqlite
@pytest.mark.parametrize("path", [*PATHS, "/healthz", "/?status=lost"])
def test_every_answer_keeps_other_sites_and_injected_scripts_out(page: FlaskClient, path: str) -> None:
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
@pytest.mark.parametrize(
    "stranger",
    [
        {"environ_base": {"REMOTE_ADDR": "8.8.8.8"}},
        {"headers": {"Host": "shop.example"}},
        {"headers": {"X-Forwarded-For": "8.8.8.8"}},
    ],
)
def test_healthz_is_open_to_all(page: FlaskClient, stranger: dict[str, Any]) -> None:
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

    for path in ("/", f"/operations/{operation}", "/?status=cancelled"):
        text = page.get(path).text
        assert str(escape(HOSTILE)) in text
        assert "<script" not in text
        assert "\u202e" not in outside_of_isolation(text)


def test_a_hostile_search_comes_back_escaped(page: FlaskClient, shop: Shop) -> None:
    shop.deduct(HOSTILE)

    answer = page.get("/", query_string={"order": HOSTILE})

    assert f'value="{escape(HOSTILE)}"' in answer.text
    assert "1 operations" in shown(answer)
    assert "<script" not in answer.text


def test_ten_thousand_characters_are_shown_whole_and_searched_for_in_vain(
    page: FlaskClient, shop: Shop
) -> None:
    long = "<b>" + "Ы" * 10_000
    shop.deduct()
    shop.remote.answer = lambda _: Answer(Verdict.REJECTED, "NotSuccessful", long, 200)
    shop.drain()

    assert str(escape(long)) in page.get("/").text
    assert "No operations here." in shown(page.get("/", query_string={"order": long}))


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


@pytest.mark.parametrize("path", ["/", f"/operations/{UNKNOWN}", "/?status=failed"])
def test_a_database_that_is_gone_is_said_in_words_and_no_traceback(
    page: FlaskClient, shop: Shop, database_url: str, request: pytest.FixtureRequest, path: str
) -> None:
    page.get("/")
    lose_the_database(shop, database_url, request)

    answer = page.get(path)

    assert answer.status_code == 503
    assert "database" in shown(answer)
    assert "Back to the overview" in shown(answer)
    assert page.get("/healthz").status_code == 200


def test_a_page_that_does_not_exist_is_a_page_like_the_others(page: FlaskClient) -> None:
    answer = page.get("/nowhere")

    assert answer.status_code == 404
    assert "Back to the overview" in shown(answer)


def test_on_a_schema_that_is_behind_it_does_not_start(database_url: str) -> None:
    runtime = Runtime(StockSyncConfig.load({"DATABASE_URL": database_url}), wakeups=NoWakeups())

    with pytest.raises(SchemaBehind, match="stocksync migrate"):
        create_app(runtime)

    runtime.close()
