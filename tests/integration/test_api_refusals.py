"""What the API refuses: wrong questions, bodies that are no form, callers without key or role; hostile words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from stocksync.delivery.answers import Answer, Verdict
from stocksync.web import create_app
from tests.integration.test_api import API, UNKNOWN, Caller, fault, on_sqlite
from tests.logins import ELSEWHERE, KEYS, SECURE, SETTINGS, log_in
from tests.shop import SELLER, Shop, form, open_shop


@pytest.fixture
def shop(database_url: str) -> Iterator[Shop]:
    with open_shop(database_url, **SETTINGS) as opened:
        yield opened


@pytest.fixture
def api(shop: Shop) -> Caller:
    return Caller(shop)


@on_sqlite
def test_a_wrong_question_is_answered_with_what_is_wrong(api: Caller) -> None:
    for path, name in (
        ("/operations?colour=red", "colour"),
        ("/operations?limit=201", "limit"),
        ("/operations?limit=1&limit=2", "limit"),
        ("/operations?offset=100001", "offset"),
        ("/operations?status=lost", "status"),
        ("/operations?since=yesterday", "since"),
        ("/operations?since=2026-03-01T12:00:00", "since"),
        ("/operations?cursor=1", "cursor"),
        ("/operations?in_doubt=perhaps", "in_doubt"),
        ("/operations?sku=" + "x" * 201, "sku"),
        ("/status?verbose=true", "verbose"),
        ("/pending?limit=0", "limit"),
        ("/pending?limit=5.0", "limit"),
    ):
        assert name in fault(api.ask("GET", path), 400)


@on_sqlite
def test_every_error_has_one_shape(api: Caller) -> None:
    for method, path, code in (
        ("GET", "/nowhere", 404),
        ("GET", "/api/v2/status", 404),
        ("PUT", "/status", 405),
        ("GET", f"/operations/{UNKNOWN}", 404),
        ("GET", f"/orders/{SELLER}/nope", 404),
        ("POST", "/lanes/nope/pause?reason=x", 404),
        ("POST", "/lanes/nope/resume", 404),
        ("POST", f"/discrepancies/{UNKNOWN}/leave?reason=x", 404),
        ("POST", f"/alerts/{UNKNOWN}/acknowledge", 404),
        ("POST", "/operations/retry", 400),
    ):
        assert fault(api.ask(method, path), code)


@on_sqlite
def test_a_body_that_is_no_form_is_refused_in_the_same_shape(api: Caller) -> None:
    process = "/api/v1/orders/process"

    fault(api.ask("POST", process, data="id=1"), 415)
    for body in ("", "{", "[]", '"{}"', "[" * 100_000, '{"id": 1e999}'):
        fault(api.ask("POST", process, data=body, content_type="application/json"), 400)
    monstrous = '{"id": "' + "x" * 3_000_000 + '"}'
    fault(api.ask("POST", process, data=monstrous, content_type="application/json"), 413)


def calls(shop: Shop) -> list[tuple[str, str, dict[str, Any]]]:
    """Every call of the document, its path filled in."""
    document: Any = Caller(shop).ask("GET", "/api/v1/openapi.json").json
    return [
        (method.upper(), path.replace("{", "").replace("}", ""), call)
        for path, item in document["paths"].items()
        for method, call in item.items()
    ]


@on_sqlite
def test_without_a_key_nothing_is_answered(shop: Shop) -> None:
    stranger, found = Caller(shop, None), calls(shop)
    assert len(found) >= 21
    for method, path, _ in found:
        answer = stranger.ask(method, path)
        assert fault(answer, 401)
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    for key in ("Bearer", "Bearer nobody's", f"Basic {KEYS['admin']}", KEYS["admin"], "Bearer ключ"):
        assert fault(stranger.ask("GET", "/status", headers={"Authorization": key.encode()}), 401)


@on_sqlite
def test_a_reader_changes_nothing(shop: Shop) -> None:
    reader, changes = Caller(shop, "reader"), 0
    for method, path, call in calls(shop):
        answer = reader.ask(method, path)
        if method == "GET":
            assert answer.status_code in (200, 400, 404), path
        else:
            changes += 1
            assert "role" in fault(answer, 403)
        assert call["security"] == [{"key": []}]
    assert changes >= 12


@on_sqlite
def test_a_key_opens_the_api_and_no_page(shop: Shop) -> None:
    assert Caller(shop).ask("GET", "/api/v1/openapi.json").status_code == 200
    page = create_app(shop.runtime).test_client()
    headers = {"Authorization": f"Bearer {KEYS['admin']}"}

    assert page.get("/", headers=headers, base_url="https://shop.example").status_code == 303
    assert page.get("/docs", headers=headers, base_url="https://shop.example").status_code == 303


def test_with_nobody_set_up_a_program_here_asks_without_a_key_and_a_browser_with_the_token(
    sqlite_url: str,
) -> None:
    with open_shop(sqlite_url) as shop:
        operation = shop.deduct()
        client = create_app(shop.runtime).test_client(use_cookies=False)
        path = f"{API}/retry/{operation}"

        assert client.post(path).status_code == 200
        for header in (
            {"Origin": "http://evil.example"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Cookie": "a=b"},
        ):
            assert client.post(path, headers=header).status_code == 403
        assert client.get(f"{API}/status", environ_base=ELSEWHERE).status_code == 403


def test_hostile_words_stay_words(api: Caller, shop: Shop) -> None:
    hostile = "<script>alert(1)</script>\u202e\x00"[:-1] + "Ы" * 10_000
    operation = shop.deduct("order")
    shop.remote.answer = lambda _: Answer(Verdict.REJECTED, "NotSuccessful", hostile, 200)
    shop.drain()

    answer = api.ask("GET", f"/operations/{operation}")

    assert answer.json
    assert answer.json["error_message"] == hostile
    assert answer.content_type == "application/json"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_the_docs_need_no_other_site_and_no_inline_script(shop: Shop) -> None:
    client = create_app(shop.runtime).test_client()
    log_in(client)
    text = client.get("/docs", **SECURE).text

    assert "http" not in text.replace('charset="utf-8"', "")
    assert "<script>" not in text
    for path in ("/docs/files/js/swagger-ui-bundle.js", "/docs/files/css/swagger-ui.css", "/static/docs.js"):
        assert path in text
        assert client.get(path, **SECURE).status_code == 200


def test_what_a_form_lacks_is_said_and_nothing_is_done(api: Caller, shop: Shop) -> None:
    shop.stock(A=5)
    process = "/api/v1/orders/process"

    for given, code, said in (
        (form(lines={"l": ("A", 9)}), 409, "A needs 9, has 5"),
        (form(lines={"l": ("A", 0)}), 400, "lineItems.0.quantity"),
        ({"id": "x"}, 400, "token_id"),
        (form() | {"lineItems": form()["lineItems"] * 2}, 400, "more than once"),
    ):
        assert said in fault(api.ask("POST", process, json=given), code)
    assert "unknown" in fault(
        api.ask("POST", process, json=form(), query_string={"warehouse": "Nowhere"}), 404
    )
    assert shop.on_hand("A") == 5
    assert shop.statuses() == []
