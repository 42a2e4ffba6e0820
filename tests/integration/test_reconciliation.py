"""Reconciliation: every order in one class, repaired only what may be, nothing concluded from what could not be read."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from stocksync.sandbox import Sandbox
from stocksync.store.models import Order
from tests.lies import lying
from tests.reconciling import flags, found, open_delivering_shop, open_sandbox, reconcile, say, sell, versions
from tests.remote_orders import set_orders
from tests.shop import SELLER, START, Shop, goods


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with open_sandbox() as running:
        yield running


@pytest.fixture
def shop(database_url: str, sandbox: Sandbox) -> Iterator[Shop]:
    with open_delivering_shop(database_url, sandbox) as opened:
        yield opened


def test_a_run_over_equal_sides_finds_nothing_and_stamps_what_it_saw(shop: Shop, sandbox: Sandbox) -> None:
    sell(shop, *(f"o{number}" for number in range(12)))
    report = reconcile(shop)

    assert (report["status"], report["buckets"], report["checked"]) == ("complete", {"agrees": 12}, 12)
    assert report["pages"] == 3
    assert {seen for _, _, seen in versions(shop).values()} == {shop.clock()}


def test_what_the_remote_forgot_is_told_again_through_the_ordinary_path(shop: Shop, sandbox: Sandbox) -> None:
    sell(shop, "kept", "lost")
    say(sandbox, {"lost": False})
    report = reconcile(shop)

    assert (report["buckets"], report["fixed"]) == ({"agrees": 1, "missing_remote": 1}, 1)
    assert shop.wakeups.woken[-1] == SELLER
    assert flags(sandbox)["lost"] is False  # a repair writes no value, it only has the order told
    assert (shop.order("lost").waiting, shop.order("lost").state_version) == ("reconciled", 2)
    operation = shop.runtime.queries.order(SELLER, "lost")["operations"][0]["id"]
    assert shop.actions(operation)[-1] == "reconciled"
    shop.drain()
    assert flags(sandbox)["lost"] is True
    shop.clock.advance(60)
    assert reconcile(shop)["buckets"] == {"agrees": 2}
    assert shop.broken_promises() == []


def test_a_cancelled_order_that_the_remote_still_has_is_told_false(shop: Shop, sandbox: Sandbox) -> None:
    sell(shop, "cancelled")
    shop.orders.cancel_order("cancelled", SELLER)
    shop.drain()
    shop.clock.advance(60)
    say(sandbox, {"cancelled": True})

    assert reconcile(shop)["buckets"] == {"cancel_mismatch": 1}
    shop.drain()
    assert flags(sandbox)["cancelled"] is False


def test_what_the_remote_has_and_we_do_not_is_for_a_person_and_deducts_nothing(
    shop: Shop, sandbox: Sandbox
) -> None:
    sell(shop, "postage", lines={"1": (None, 1)})
    say(sandbox, {"postage": True, "foreign": True, "nothing": False})
    before = shop.on_hand("A")
    report = reconcile(shop)

    assert found(report) == [("foreign", "extra_remote"), ("postage", "extra_remote")]
    assert (report["fixed"], shop.on_hand("A")) == (0, before)
    assert report["buckets"] == {"extra_remote": 2, "agrees": 1}
    assert shop.runtime.reconciliation.records.count_open() == 2


def test_an_order_with_a_line_that_waits_is_partial(shop: Shop, sandbox: Sandbox) -> None:
    sell(shop, "two-lines", lines={"1": ("A", 2), "2": ("A", 1)})
    with shop.runtime.database.transaction_scope():
        shop.runtime.database.execute_sql(
            "UPDATE stock_sync_order_lines SET deducted = 1 WHERE line_id = '1'"
        )
        shop.runtime.database.execute_sql("UPDATE stock_sync_orders SET is_stock_updated = NULL")

    assert found(reconcile(shop)) == [("two-lines", "partial_local")]


def test_what_is_due_claimed_or_just_changed_is_in_flight(shop: Shop, sandbox: Sandbox) -> None:
    sell(shop, "claimed", "changed", "due")
    say(sandbox, {"claimed": False, "changed": False, "due": False})
    shop.orders.process_return(goods(order="due"))
    shop.orders.process_return(goods("return-2", order="claimed"))
    now = shop.clock()
    with shop.runtime.database.scope():
        shop.runtime.deliveries.claim(SELLER, 1)
        Order.update(updated_at=now).where(Order.order_id == "changed").execute()
    report = reconcile(shop)

    assert (report["buckets"], report["fixed"]) == ({"in_flight": 3}, 0)


def test_what_was_given_up_or_stopped_by_a_person_is_left_to_them(shop: Shop, sandbox: Sandbox) -> None:
    sandbox.set_faults(not_success_share=1.0)
    failed = shop.deduct("failed")
    shop.deduct("cancelled")
    for _ in range(5):
        shop.drain()
        shop.clock.advance(4000)
    cancelled = shop.runtime.queries.order(SELLER, "cancelled")["operations"][0]["id"]
    shop.service.retry(cancelled, actor="Anna")
    shop.service.cancel(cancelled, actor="Anna", reason="no")
    sandbox.set_faults(not_success_share=0.0)
    say(sandbox, {"failed": False, "cancelled": False})
    shop.clock.advance(60)
    report = reconcile(shop)

    assert (report["buckets"], report["fixed"]) == ({"given_up": 2}, 0)
    assert shop.operation(failed)["status"] == "failed"


def test_what_was_told_long_ago_waits_for_a_person(shop: Shop, sandbox: Sandbox) -> None:
    sell(shop, "old")
    shop.clock.advance(86400)
    say(sandbox, {"old": False})
    report = reconcile(shop)

    assert (found(report), report["fixed"]) == ([("old", "missing_remote")], 0)
    (row,) = shop.runtime.reconciliation.records.differences()
    assert shop.runtime.reconciliation.fix(row["id"], actor="Anna", reason="seen") == "fixed"
    shop.drain()
    assert flags(sandbox)["old"] is True
    entry = shop.operation(shop.runtime.queries.order(SELLER, "old")["operations"][0]["id"])["log"][-1]
    assert (entry["details"]["actor"], entry["details"]["reason"]) == ("Anna", "seen")


def test_an_order_that_is_not_listed_is_asked_for_by_its_id(shop: Shop, sandbox: Sandbox) -> None:
    sell(shop, "here", "unlisted", "unknown")
    say(sandbox, {"here": True})
    early = START - timedelta(days=30)
    set_orders(
        sandbox,
        [
            {
                "token_id": SELLER,
                "order_id": "unlisted",
                "is_stock_updated": False,
                "updated_at": early.isoformat(),
            }
        ],
    )
    set_orders(sandbox, [{"token_id": SELLER, "order_id": "unknown", "removed": True}])
    report = reconcile(shop)

    assert report["buckets"] == {"agrees": 1, "missing_remote": 1, "missing_order": 1}
    assert found(report) == [("unlisted", "missing_remote")]  # unknown there: for a person after a day
    shop.drain()
    shop.clock.advance(86400)
    assert ("unknown", "missing_order") in found(reconcile(shop))


def test_a_cap_bounds_what_is_asked_for_by_id_and_the_run_says_so(
    database_url: str, sandbox: Sandbox
) -> None:
    with open_delivering_shop(database_url, sandbox, STOCK_SYNC_RECONCILIATION_LOOKUP_CAP="2") as shop:
        sell(shop, "a", "b", "c")
        set_orders(sandbox, [{"token_id": SELLER, "order_id": order, "removed": True} for order in "abc"])
        report = reconcile(shop)

    assert (report["status"], report["checked"]) == ("incomplete", 2)
    assert "more than 2 orders" in report["reason"]


def test_a_suspicious_run_repairs_nothing(shop: Shop, sandbox: Sandbox) -> None:
    orders = [f"o{number:02}" for number in range(30)]
    sell(shop, *orders)
    say(sandbox, dict.fromkeys(orders[:11], False))
    report = reconcile(shop)

    assert (report["status"], report["fixed"], report["buckets"]["missing_remote"]) == ("suspicious", 0, 11)
    assert all(due is None for _, due, _ in versions(shop).values())
    say(sandbox, {orders[0]: True})
    assert reconcile(shop)["fixed"] == 10


@pytest.mark.parametrize("faults", [{"error_share": 1.0, "error_status": 500}, {"rate_limit_share": 1.0}])
def test_a_remote_that_answers_errors_leads_to_no_conclusion(
    shop: Shop, sandbox: Sandbox, faults: dict[str, Any]
) -> None:
    sell(shop, "a", "b")
    say(sandbox, {"a": False})
    sandbox.set_faults(**faults)
    before = versions(shop)
    report = reconcile(shop)

    assert (report["status"], report["fixed"], report["checked"]) == ("incomplete", 0, 0)
    assert versions(shop) == before
    assert shop.runtime.reconciliation.records.count_open() == 0


@pytest.mark.parametrize("kind", ["html", "empty", "no_success", "redirect"])
def test_bad_data_leads_to_no_conclusion(shop: Shop, sandbox: Sandbox, kind: str) -> None:
    sell(shop, "a")
    sandbox.set_faults(bad_body=kind)

    assert (reconcile(shop)["status"], reconcile(shop)["fixed"]) == ("incomplete", 0)


def test_half_a_list_leads_to_no_conclusion(shop: Shop, sandbox: Sandbox) -> None:
    sell(shop, "a")

    with lying("truncated"):
        assert (reconcile(shop)["status"], reconcile(shop)["fixed"]) == ("incomplete", 0)
