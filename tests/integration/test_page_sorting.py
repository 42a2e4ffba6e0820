"""Lists are sorted by the head of a column: a link that works without scripts, and says to a screen reader how it is."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from flask.testing import FlaskClient

from stocksync.store.operation_lists import COUNTED, Filter
from stocksync.web.pages import operations as pages
from tests.page_shop import ListedOrders
from tests.shop import SELLER, Shop, open_shop

ROW = re.compile(r'<td class="id"><a[^>]*><bdi>([^<]*)</bdi>')


def rows(page: FlaskClient, path: str) -> list[str]:
    """The first cells of the list's rows."""
    return ROW.findall(page.get(path).text)


def heads(page: FlaskClient, path: str) -> dict[str, tuple[str | None, str]]:
    """Column -> how it is sorted (None: it is not), and where its head leads."""
    found = re.findall(
        r'<th scope="col"[^>]*?(?:aria-sort="(\w+)")?>\s*<a id="sort-(\w+)" href="([^"]+)"',
        page.get(path).text,
    )
    return {name: (said or None, address.replace("&amp;", "&")) for said, name, address in found}


def test_operations_are_sorted_by_each_column_over_all_pages(page: FlaskClient, shop: Shop) -> None:
    for number in range(60):
        shop.deduct(f"order-{number:02}", sku="BA"[number % 2], quantity=1)

    assert rows(page, "/operations")[0] == "order-59"
    assert rows(page, "/operations?sort=created_at")[:2] == ["order-00", "order-01"]
    assert rows(page, "/operations?sort=created_at&page=2")[-1] == "order-59"
    assert rows(page, "/operations?sort=-order_id")[0] == "order-59"
    assert rows(page, "/operations?sort=sku")[:2] == ["order-01", "order-03"]
    assert rows(page, "/operations?sort=sku&page=2")[-1] == "order-58"
    assert rows(page, "/operations?sort=nonsense") == rows(page, "/operations")


def test_a_head_says_how_the_list_is_sorted_and_turns_it_around(page: FlaskClient, shop: Shop) -> None:
    shop.deduct("one")

    assert heads(page, "/operations?status=pending") == {
        "order_id": (None, "/operations?status=pending&sort=order_id"),
        "sku": (None, "/operations?status=pending&sort=sku"),
        "status": (None, "/operations?status=pending&sort=status"),
        "retry_count": (None, "/operations?status=pending&sort=-retry_count"),
        "error_class": (None, "/operations?status=pending&sort=-error_class"),
        "created_at": ("descending", "/operations?status=pending&sort=created_at"),
    }
    turned = heads(page, "/operations?sort=sku&page=1")["sku"]
    assert turned == ("ascending", "/operations?sort=-sku")


def test_a_list_too_long_to_be_sorted_offers_the_time_alone(
    page: FlaskClient, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        shop.deduct(f"order-{number}", sku="CBA"[number])
    monkeypatch.setattr("stocksync.store.operation_lists.COUNTED", 2)
    monkeypatch.setattr(pages, "COUNTED", 2)

    assert list(heads(page, "/operations?sort=sku")) == ["created_at"]
    assert rows(page, "/operations?sort=sku") == ["order-2", "order-1", "order-0"]
    assert rows(page, "/operations?sort=created_at") == ["order-0", "order-1", "order-2"]
    assert COUNTED == 10_000


@pytest.mark.parametrize("order", ["created_at", "-created_at"])
@pytest.mark.parametrize("status", [None, "completed", "failed"])
def test_on_sqlite_both_directions_of_time_are_read_along_an_index(
    sqlite_url: str, plan: Callable[..., list[str]], order: str, status: str | None
) -> None:
    with open_shop(sqlite_url) as shop:
        lists = shop.runtime.operation_lists
        steps = plan(shop, partial(lists.page, Filter(status=status), shop.clock(), order=order))

    assert "USING INDEX" in steps[0]
    assert not any("TEMP B-TREE" in step for step in steps)


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """The steps in which SQLite answers the last statement of an act."""
    from tests.integration.test_operation_lists import plan_of_last

    return partial(plan_of_last, monkeypatch=monkeypatch)


def test_stock_is_sorted_by_what_is_left(page: FlaskClient, shop: Shop) -> None:
    shop.stock(A=3, B=1, C=2)

    assert rows(page, "/stock") == ["A", "B", "C"]
    assert rows(page, "/stock?sort=on_hand") == ["B", "C", "A"]
    assert rows(page, "/stock?sort=-on_hand") == ["A", "C", "B"]
    assert heads(page, "/stock?sort=-on_hand")["on_hand"] == ("descending", "/stock?sort=on_hand")


def differ(shop: Shop, *orders: str) -> None:
    """Have the remote claim orders that we don't know."""
    reconciliation = shop.runtime.reconciliation
    reconciliation._reader = lambda: ListedOrders(dict.fromkeys(orders, True))
    shop.clock.advance(3600)
    with shop.runtime.database.scope():
        reconciliation.run(SELLER, actor="anna")


@pytest.mark.parametrize("order", ["", "-"])
def test_differences_are_turned_over_without_loss_in_both_directions(
    page: FlaskClient, shop: Shop, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    shop.deduct()
    names = [f"lost-{number}" for number in range(5)]
    differ(shop, *names)
    monkeypatch.setattr("stocksync.web.pages.overview.PAGE_SIZE", 2)
    path, seen = f"/reconciliation?sort={order}first_seen_at", list[str]()

    while path:
        seen += rows(page, path)
        following = re.search(r'class="button" href="([^"]+)">Next', page.get(path).text)
        path = following[1].replace("&amp;", "&") if following else ""

    assert sorted(seen) == names
    assert seen == sorted(names, reverse=bool(order))


def test_it_is_said_where_the_rows_of_one_page_alone_are_sorted(
    page: FlaskClient, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.deduct()
    differ(shop, "a", "c", "b")

    assert rows(page, "/reconciliation?sort=-order_id") == ["c", "b", "a"]
    assert "Only the rows of this page" not in page.get("/reconciliation?sort=order_id").text
    monkeypatch.setattr("stocksync.web.pages.overview.PAGE_SIZE", 2)
    assert "Only the rows of this page" in page.get("/reconciliation?sort=order_id").text
    assert "Only the rows of this page" not in page.get("/reconciliation").text


def test_alerts_that_last_come_first_until_another_order_is_chosen(page: FlaskClient, shop: Shop) -> None:
    alerts, clock = shop.runtime.alerts, shop.clock
    for kind in ("failed", "pending", "stale"):
        details: dict[str, Any] = {"count": 1, "hours": 1, "time": "12:00"}
        alerts.observe([(kind, "", details)], [kind], clock.now, clock.now)
        clock.advance(60)
    alerts.observe([], ["stale"], clock.now, clock.now)

    def titles(path: str) -> list[str]:
        return re.findall(r'<td class="words"><b>([^<]+)</b>', page.get(path).text)

    assert [title.split()[0] for title in titles("/alerts")] == ["Many", "Operations", "Stale"]
    assert titles("/alerts?sort=raised_at")[0].startswith("Operations")
    assert titles("/alerts?sort=-raised_at")[0].startswith("Stale")


def test_sellers_are_sorted_by_what_waits(page: FlaskClient, shop: Shop) -> None:
    shop.deduct("one")
    for order in ("two", "three"):
        shop.service.sync_stock_deduction("seller-2", order, "A", 1)

    assert rows(page, "/lanes?sort=-orders_waiting") == ["seller-2", SELLER]
    assert rows(page, "/lanes?sort=orders_waiting") == [SELLER, "seller-2"]
