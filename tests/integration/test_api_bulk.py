"""Many operations at once over the API: previewed, acted on for a while, and what was skipped is counted."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest

from stocksync.errors import DatabaseUnavailable
from stocksync.orders.interventions import act_on, matching
from stocksync.store.operation_lists import Filter
from tests.integration.test_api import Caller, give_up
from tests.logins import SETTINGS
from tests.shop import Shop, open_shop


@pytest.fixture
def shop(database_url: str) -> Iterator[Shop]:
    with open_shop(database_url, **SETTINGS) as opened:
        yield opened


@pytest.fixture
def api(shop: Shop) -> Caller:
    return Caller(shop)


def test_all_that_match_are_retried_after_a_preview(api: Caller, shop: Shop) -> None:
    operations = give_up(shop, *(f"order-{number}" for number in range(30)))
    shop.deduct("another")
    preview = api.post("/operations/retry", status="failed", dry_run="true")
    assert preview["matched"] == 30
    assert (preview["done"], shop.statuses().count("failed")) == (0, 30)

    report = api.post("/operations/retry", status="failed", reason="it works again")

    assert report == {**preview, "dry_run": False, "done": 30}
    assert shop.statuses().count("pending") == 31
    assert shop.operation(operations[0])["log"][-1]["details"]["reason"] == "it works again"


def test_many_are_cancelled_by_filter(api: Caller, shop: Shop) -> None:
    give_up(shop, "one", "two")

    report = api.post("/operations/cancel", status="failed", order_id="one", reason="gone")

    assert (report["matched"], report["done"]) == (1, 1)
    assert shop.statuses() == ["cancelled", "failed"]


def test_what_is_refused_is_counted_with_its_reason(shop: Shop) -> None:
    first, second = shop.deduct("one"), shop.deduct("two")
    shop.service.cancel(second, actor="anna", reason="late")

    report = act_on([first, second, uuid4()], lambda one: shop.service.retry(one, actor="anna"))

    assert (report.done, dict(report.skipped)) == (1, {"cancelled": 1, "unknown_operation": 1})


def test_a_long_work_ends_in_time_and_goes_on_where_it_was(shop: Shop) -> None:
    for number in range(6):
        shop.deduct(f"order-{number}")
    lists, ticks, done = shop.runtime.operation_lists, iter(range(100)), list[UUID]()

    report = act_on(matching(lists, Filter()), done.append, longest=2.5, monotonic=lambda: next(ticks))
    assert (report.done, report.next) == (3, done[-1])
    rest = act_on(matching(lists, Filter(), report.next), done.append)

    assert (rest.done, rest.next, len(set(done))) == (3, None, 6)


def test_a_database_that_is_gone_is_no_reason_to_skip() -> None:
    def lost(_: object) -> None:
        raise DatabaseUnavailable("gone")

    with pytest.raises(DatabaseUnavailable):
        act_on([uuid4()], lost)
