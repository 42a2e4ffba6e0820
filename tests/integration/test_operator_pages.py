"""Every page of a shop in which everything has happened: shown, acted on, in three languages, for each role."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from markupsafe import escape
from werkzeug.test import TestResponse

from stocksync.web import create_app
from stocksync.web.frame import LANGUAGES
from tests.logins import SECURE, SETTINGS, log_in
from tests.page_shop import PAUSED, SNOOZED, ListedOrders, fill
from tests.shop import DELIVERED, SELLER, Shop, open_shop

PATHS = (
    "/",
    "/?span=1h",
    "/?span=7d",
    "/?span=forever",
    "/operations",
    "/operations?status=failed&age=week",
    "/operations?error=NotSuccessful&age=older",
    "/operations?doubt=1&q=seller-1",
    "/operations?status=pending&age=stale",
    "/operations?q=KAWA-1KG&page=7",
    "/operations/all/retry?status=failed",
    "/operations/all/cancel",
    "/orders/seller-1/order-0001",
    "/orders/seller-1/order-doubt",
    "/orders/seller-1/order-returned",
    "/orders/seller-1/refused-1",
    "/stock",
    "/stock?q=KAWA",
    "/stock?q=nothing",
    "/stock/sku?sku=KAWA-1KG",
    "/stock/sku?sku=none",
    "/lanes",
    "/reconciliation",
    "/reconciliation?status=fixed",
    "/reconciliation?status=nonsense&after=nonsense",
    "/alerts",
    "/alerts?page=9",
)
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def operations(shop: Shop) -> dict[str, Any]:
    """An operation's id for each state."""
    return dict(fill(shop))


@pytest.fixture
def page(shop: Shop) -> FlaskClient:
    client = create_app(shop.runtime).test_client()
    client.environ_base["HTTP_ACCEPT_LANGUAGE"] = "en"
    return client


def press(page: FlaskClient, path: str, **fields: Any) -> str:
    """Send a form as the page does; answers with the words of the page that comes after."""
    token = re.search(r'name="csrf" value="([^"]+)"', page.get("/").text)
    assert token
    answer = page.post(path, data={"csrf": token[1], "back": "/operations?status=failed", **fields})
    assert answer.status_code == 303, answer.text
    assert answer.location == "/operations?status=failed"
    toast = re.search(r'class="toast (\w+)" role="\w+"><bdi>(.*?)</bdi>', page.get(answer.location).text)
    assert toast, "nothing is said of what was done"
    return f"{toast[1]}: {toast[2]}"


def statements(shop: Shop, act: Callable[[], Any]) -> int:
    """How many SQL statements `act` makes."""
    database, count = shop.runtime.database, 0
    execute = database.execute_sql

    def counted(*given: Any, **named: Any) -> Any:
        nonlocal count
        count += 1
        return execute(*given, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "execute_sql", counted)
        act()
    return count


def test_every_page_shows_every_state_in_every_language(
    page: FlaskClient, operations: dict[str, Any]
) -> None:
    for language in LANGUAGES:
        for path in (*PATHS, *(f"/operations/{operation}" for operation in operations.values())):
            joined = f"{path}{'&' if '?' in path else '?'}language={language}"
            answer = page.get(joined, follow_redirects=True)
            assert answer.status_code == 200, path
            assert f'<html lang="{language}"' in answer.text
            assert "<script>" not in answer.text
            assert " style=" not in answer.text
            assert " on" + "click=" not in answer.text
            assert answer.text.count("<h1") == 1, path


@on_sqlite
def test_the_language_is_the_browsers_until_another_is_chosen(page: FlaskClient) -> None:
    def said(**headers: str) -> str:
        found = re.search(r"<h1>\s*(.*?)\s*</h1>", page.get("/lanes", headers=headers).text)
        assert found
        return found[1]

    assert said() == "Sellers"
    assert said(**{"Accept-Language": "pl,en;q=0.5"}) == "Sprzedawcy"
    assert said(**{"Accept-Language": "de"}) == "Продавцы"
    page.get("/lanes?language=pl&theme=dark")
    assert said() == "Sprzedawcy"
    assert 'data-theme="dark"' in page.get("/lanes").text
    page.get("/lanes?language=klingon&theme=pink")
    assert said() == "Sprzedawcy"


def test_a_page_makes_a_handful_of_statements_and_none_for_each_row(
    page: FlaskClient, shop: Shop, operations: dict[str, Any]
) -> None:
    paths = ("/", "/operations", "/operations?q=KAWA-1KG", "/stock", "/lanes", "/reconciliation", "/alerts")
    before = {path: statements(shop, lambda path=path: page.get(path)) for path in paths}  # type: ignore[misc]
    shop.stock(**{f"SKU-{number}": 5 for number in range(30)})
    for number in range(30):
        shop.deduct(f"more-{number}", "KAWA-1KG")
        shop.service.sync_stock_deduction(f"seller-{number}", f"more-{number}", "KAWA-1KG", 1)

    after = {path: statements(shop, lambda path=path: page.get(path)) for path in paths}  # type: ignore[misc]

    assert after == before
    assert max(after.values()) <= 20


def test_the_sentence_says_the_worst_first_and_each_leads_to_what_it_means(
    page: FlaskClient, shop: Shop, operations: dict[str, Any]
) -> None:
    text = page.get("/").text
    verdict = text[text.index('class="verdict') : text.index('class="strip"')]

    said = re.findall(r'<a href="([^"]+)">([^<]+)</a>', verdict)

    assert [address for address, _ in said] == [
        "/operations?status=failed",
        "/operations?doubt=1",
        "/lanes",
        "/reconciliation",
        "/operations?status=pending&amp;age=stale",
    ]
    assert said[0][1] == "4 operations were not delivered and wait for a person."
    for address, _ in said:
        assert page.get(address.replace("&amp;", "&")).status_code == 200


def test_the_cells_of_the_matrix_lead_to_as_many_operations(
    page: FlaskClient, operations: dict[str, Any]
) -> None:
    cells = re.findall(r'href="(/operations\?error=[^"]+age=[^"]+)">(\d+)</a>', page.get("/").text)

    assert len(cells) >= 4
    for address, count in cells:
        assert page.get(address.replace("&amp;", "&")).text.count('<tr id="row-') == int(count)


# One


def test_a_doubt_is_settled(page: FlaskClient, shop: Shop, operations: dict[str, Any]) -> None:
    path = f"/operations/{operations['doubt']}/confirm"

    assert press(page, f"{path}/yes", reason="seen on the shelf") == "good: Thank you: noted as moved."
    assert shop.operation(operations["doubt"])["applied"] == "yes"
    assert press(page, f"{path}/no").startswith("bad: It is already")
    assert page.post(path).status_code == 403


def test_an_order_is_told_again(page: FlaskClient, shop: Shop, operations: dict[str, Any]) -> None:
    fields = {"seller": SELLER, "id": "order-0001"}
    assert "≠" in page.get("/orders/seller-1/order-0001").text

    assert press(page, "/orders/tell", **fields, reason="").startswith("bad: Please give a reason")
    assert press(page, "/orders/tell", **fields, reason="asked by phone").startswith("good: ")
    assert press(page, "/orders/tell", **fields, reason="again").startswith("bad: It can’t be told again")
    shop.remote.answer = lambda _: DELIVERED
    shop.drain()

    assert "≠" not in page.get("/orders/seller-1/order-0001").text


@pytest.mark.parametrize("order", ["a/b", "..", "<b>&?#", "\u202egpj", " %2F ", "-", "Ы" * 200])
def test_an_order_is_found_whatever_its_id_is_made_of(page: FlaskClient, shop: Shop, order: str) -> None:
    operation = shop.deduct(order)
    link = re.search(r'<a href="(/orders/[^"]+)"', page.get(f"/operations/{operation}").text)
    assert link

    answer = page.get(link[1].replace("&amp;", "&"))

    assert answer.status_code == 200
    assert str(escape(order[:50].strip())) in answer.text


# Sellers, differences, alerts


def test_a_seller_is_paused_and_resumed(page: FlaskClient, shop: Shop, operations: dict[str, Any]) -> None:
    assert press(page, "/lanes/pause", lane=SELLER, reason="").startswith("bad: Please give a reason")
    assert press(page, "/lanes/pause", lane=SELLER, reason="moving").startswith("good: Paused")
    assert "an operator at the page, not logged in: moving" in page.get("/lanes").text
    assert press(page, "/lanes/resume", lane=SELLER) == "good: Going on."
    assert press(page, "/lanes/resume", lane=PAUSED) == "good: Going on."
    assert press(page, "/lanes/resume", lane=SNOOZED) == "good: Going on."
    assert shop.wakeups.woken[-3:] == [SELLER, PAUSED, SNOOZED]
    assert "paused" not in re.findall(r'class="status \w+">([^<]+)', page.get("/lanes").text)


def test_a_difference_is_mended_or_left(page: FlaskClient, shop: Shop, operations: dict[str, Any]) -> None:
    records, reconciliation = shop.runtime.reconciliation.records, shop.runtime.reconciliation
    rows = {row["order_id"]: row["id"] for row in records.differences()}
    reconciliation._reader = lambda: ListedOrders({"order-0001": False, "order-0003": True})

    assert press(page, f"/reconciliation/{rows['order-0001']}/fix", reason="asked").startswith(
        "good: The orders"
    )
    assert press(page, f"/reconciliation/{rows['order-0003']}/fix", reason="asked").startswith(
        "good: Both sides"
    )
    assert press(page, f"/reconciliation/{rows['allegro-lost-sale']}/leave", reason="a test").startswith(
        "good: Left as it is"
    )

    assert "No differences here." in page.get("/reconciliation").text
    assert "a test" in page.get("/reconciliation?status=left").text


def test_an_alert_that_was_seen_is_not_brought_up_again(
    page: FlaskClient, shop: Shop, operations: dict[str, Any]
) -> None:
    path = re.search(r'action="(/alerts/[^"]+)"', page.get("/alerts").text)
    assert path

    assert press(page, path[1]) == "good: Noted: it is not repeated."
    assert press(page, path[1]).startswith("wait: Somebody was faster")
    assert 'action="/alerts/' not in page.get("/alerts").text


# Roles


def test_a_reader_sees_everything_and_can_press_nothing(sqlite_url: str) -> None:
    with open_shop(sqlite_url, **SETTINGS) as shop:
        found = fill(shop)
        app = create_app(shop.runtime)
        page = app.test_client()
        log_in(page, "reader")

        def get(path: str) -> TestResponse:
            return page.get(path, **SECURE, follow_redirects=True)

        readable = [path for path in PATHS if "/all/" not in path]
        for path in (*readable, *(f"/operations/{operation}" for operation in found.values())):
            answer = get(path)
            assert answer.status_code == 200
            forms = set(re.findall(r'method="post" action="([^"]+)"', answer.text))
            assert forms == {"/logout"}, path
            assert 'type="checkbox" form=' not in answer.text
        assert get("/operations/all/retry").status_code == 403
        token = re.search(r'name="csrf" value="([^"]+)"', get("/").text)
        assert token
        changes = [
            rule
            for rule in app.url_map.iter_rules()
            if rule.endpoint.startswith("pages.") and "POST" in (rule.methods or ())
        ]
        assert len(changes) >= 10
        for rule in changes:
            path = re.sub(r"<[^>]+>", "1", rule.rule)
            answer = page.post(path, data={"csrf": token[1], "reason": "none"}, **SECURE)
            assert answer.status_code == 403, rule
