"""Lists of operations: what is asked for and nothing else, page by page, counted, along an index."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from itertools import product
from typing import Any

import pytest

from stocksync.errors import InvalidInput
from stocksync.store import operation_lists
from stocksync.store.operation_lists import Filter
from tests.shop import DELIVERED, REFUSED, SELLER, START, Shop, listed, open_shop

SELLERS, ORDERS, SKUS = ("s1", "s2"), ("o1", "o2", "o3"), ("A", "B")


def stocked(shop: Shop, count: int = 24) -> list[dict[str, Any]]:
    """Operations of every kind, one a minute; the newest first."""
    shop.remote.answer = lambda order: REFUSED if order == "o2" else DELIVERED
    made: list[Any] = []
    for number in range(count):
        seller, order, sku = SELLERS[number % 2], ORDERS[number % 3], SKUS[number // 3 % 2]
        made.append(shop.service.sync_stock_deduction(seller, order, sku, 1).operation_id)
        if number % 5 == 4:
            shop.drain(seller)
        shop.clock.advance(60)
    shop.service.cancel(made[-1], actor="Anna", reason="no")
    return [shop.operation(operation) for operation in reversed(made)]


def test_every_combination_of_filters_finds_what_matches(shop: Shop) -> None:
    every = stocked(shop)
    middle = START + timedelta(minutes=12)
    choices: dict[str, tuple[Any, ...]] = {
        "status": (None, "pending", "completed", "cancelled"),
        "order_id": (None, "o1", "o2"),
        "sku": (None, "A"),
        "token_id": (None, "s1"),
        "error_class": (None, "NotSuccessful"),
        "since": (None, middle),
    }
    assert {row["status"] for row in every} == {"pending", "completed", "cancelled"}
    for combination in product(*choices.values()):
        wanted = dict(zip(choices, combination, strict=True))
        expected = [
            row["id"]
            for row in every
            if all(row[name] == value for name, value in wanted.items() if value and name != "since")
            and (wanted["since"] is None or row["created_at"] >= middle)
        ]
        page = shop.runtime.operation_lists.page(Filter(**wanted), shop.clock())
        assert [row["id"] for row in page.operations] == expected, wanted
        assert (page.total, page.more, page.next) == (len(expected), False, None), wanted


def test_until_leaves_out_what_was_recorded_later(shop: Shop) -> None:
    stocked(shop)

    assert len(listed(shop.runtime, until=START + timedelta(minutes=10))) == 10


def test_pages_by_cursor_and_by_offset_are_the_same(shop: Shop) -> None:
    every = [row["id"] for row in stocked(shop)]
    lists, now = shop.runtime.operation_lists, shop.clock()
    seen, cursor = [], None
    for number in range(5):
        page = lists.page(Filter(), now, limit=5, before=cursor)
        assert page.operations == lists.page(Filter(), now, limit=5, offset=5 * number).operations
        seen += [row["id"] for row in page.operations]
        cursor = page.next
    assert cursor is None
    assert seen == every
    assert lists.ids(Filter(), 100) == every


def test_beyond_the_bound_a_total_is_said_to_be_more(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    stocked(shop)
    monkeypatch.setattr(operation_lists, "COUNTED", 5)
    lists = shop.runtime.operation_lists

    assert lists.count(Filter(sku="A")) == (5, True)
    assert lists.count(Filter()) == (24, False)
    assert lists.count(Filter(status="cancelled")) == (1, False)


def test_a_status_that_there_is_not_is_refused(shop: Shop) -> None:
    with pytest.raises(InvalidInput, match="one of pending"):
        listed(shop.runtime, status="lost")


@pytest.mark.parametrize(
    "wanted", [{"sku": "a\x00"}, {"order_id": "\ud800"}, {"status": "failed", "sku": "\x00"}]
)
def test_what_no_row_can_hold_is_not_found(shop: Shop, wanted: dict[str, Any]) -> None:
    stocked(shop, 3)

    assert listed(shop.runtime, **wanted) == []
    assert shop.runtime.operation_lists.count(Filter(**wanted)) == (0, False)


def test_what_somebody_types_is_a_seller_an_order_or_a_sku(shop: Shop) -> None:
    stocked(shop, 3)
    lists = shop.runtime.operation_lists

    assert lists.understand(Filter(status="failed"), " s2 ") == Filter(status="failed", token_id="s2")
    assert lists.understand(Filter(), "o3") == Filter(order_id="o3")
    assert lists.understand(Filter(), "anything") == Filter(sku="anything")
    assert lists.understand(Filter(), "  ") == Filter()


def test_tags_say_what_ails_the_delivery(shop: Shop) -> None:
    shop.deduct()
    shop.clock.advance(301)
    assert listed(shop.runtime)[0]["tags"] == ["overdue"]
    with shop.runtime.database.scope():
        shop.runtime.deliveries.claim(SELLER, 5)
    shop.clock.advance(61)
    shop.runtime.periodic.sweep()
    assert listed(shop.runtime)[0]["tags"] == ["rescued"]


def test_errors_are_counted_by_class_and_age(shop: Shop) -> None:
    shop.remote.answer = lambda _: REFUSED
    for age in (200, 20, 2, 0):
        shop.clock.now = START - timedelta(hours=age)
        shop.deduct(f"order-{age}")
        shop.drain()

    assert shop.runtime.operation_lists.errors(START + timedelta(seconds=1)) == {
        "NotSuccessful": {"hour": 1, "day": 2, "week": 0, "older": 1}
    }


def plan_of_last(shop: Shop, act: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The steps in which SQLite answers the last statement of `act`."""
    database, asked = shop.runtime.database, list[tuple[str, Any]]()
    execute = database.execute_sql

    def seen(sql: str, parameters: Any = None) -> Any:
        asked.append((sql, parameters))
        return execute(sql, parameters)

    with monkeypatch.context() as patch:
        patch.setattr(database, "execute_sql", seen)
        act()
    sql, parameters = asked[-1]
    with database.scope():
        return [row[3] for row in execute(f"EXPLAIN QUERY PLAN {sql}", parameters).fetchall()]


def test_on_sqlite_every_list_is_read_along_an_index_that_ends_in_the_id(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_shop(sqlite_url) as shop:
        for wanted in (
            Filter(),
            Filter(status="pending", token_id="s1"),
            Filter(status="completed", sku="A"),
            Filter(status="completed", token_id="s1"),
            Filter(error_class="Timeout", status="failed"),
            Filter(status="failed", since=START),
        ):
            page = partial(shop.runtime.operation_lists.page, wanted, shop.clock())
            steps = plan_of_last(shop, page, monkeypatch)
            assert "USING INDEX" in steps[0], (wanted, steps)
            assert not any("TEMP B-TREE" in step for step in steps), (wanted, steps)


def test_on_postgresql_a_list_is_planned_for_the_sku_that_is_asked_for(postgres_url: str) -> None:
    prepared = (
        "SELECT COUNT(*) FROM pg_prepared_statements WHERE statement LIKE '%%pending_stock_operations%%'"
    )
    with open_shop(postgres_url) as shop, shop.runtime.database.scope():
        database, lists = shop.runtime.database, shop.runtime.operation_lists
        before = database.connection().prepare_threshold
        for number in range(before + 3):
            wanted = Filter(status="failed", sku=f"SKU-{number}")
            lists.page(wanted, shop.clock())
            lists.ids(wanted, 5)

        assert database.execute_sql(prepared).fetchone() == (0,)
        assert database.connection().prepare_threshold == before == 5


def test_on_sqlite_what_is_in_doubt_is_counted_and_listed_along_its_own_index(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_shop(sqlite_url) as shop:
        for wanted in (Filter(in_doubt=True), Filter(in_doubt=True, until=START, since=START)):
            lists = shop.runtime.operation_lists
            for ask in (lists.count_all, partial(lists.page, now=shop.clock())):
                steps = plan_of_last(shop, partial(ask, wanted), monkeypatch)
                assert any("pending_stock_operations_in_doubt" in step for step in steps), (wanted, steps)


def test_on_sqlite_the_movements_of_one_sku_are_summed_without_reading_those_of_others(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_shop(sqlite_url) as shop:
        shop.runtime.inventory.add("A", "Ирина", 3)
        sums = partial(shop.runtime.queries.movement_sums, "A")
        steps = plan_of_last(shop, sums, monkeypatch)
        assert any("stock_sync_movements_warehouse_sku_created_at" in step for step in steps), steps
        assert not any("SCAN t1" in step for step in steps), steps
        assert sums() == {"Ирина": 3}


@pytest.mark.parametrize("bound", ["since", "until"])
def test_what_is_in_doubt_is_listed_by_when_it_was_recorded(shop: Shop, bound: str) -> None:
    every = []
    for number in range(3):
        every.append(shop.deduct(f"order-{number}"))
        shop.clock.advance(60)
    with shop.runtime.database.transaction_scope():
        shop.runtime.database.execute_sql("UPDATE pending_stock_operations SET applied = 'unknown'")

    expected = every[1:] if bound == "since" else every[:1]
    moment = START + timedelta(seconds=60)
    found = [row["id"] for row in listed(shop.runtime, in_doubt=True, **{bound: moment})]
    assert found[::-1] == expected
