"""Reconciliation when things go wrong: busy orders, a remote that lies or flaps, two workers, late accounts."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from stocksync.delivery.client import OrdersClient
from stocksync.errors import RemoteError, RepairRefused
from stocksync.queue.wakeups import RedisWakeups
from stocksync.runtime import Runtime
from stocksync.sandbox import Sandbox
from tests.reconciling import found, open_delivering_shop, open_sandbox, reconcile, say, sell
from tests.remote_orders import set_orders
from tests.shop import SELLER, Shop, form, goods, open_shop


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with open_sandbox() as running:
        yield running


@pytest.fixture
def shop(database_url: str, sandbox: Sandbox) -> Iterator[Shop]:
    with open_delivering_shop(database_url, sandbox) as opened:
        yield opened


@pytest.fixture
def sqlite_shop(sqlite_url: str, sandbox: Sandbox) -> Iterator[Shop]:
    with open_delivering_shop(sqlite_url, sandbox) as opened:
        yield opened


def test_an_order_in_a_callers_open_transaction_is_not_waited_for(
    postgres_url: str, sandbox: Sandbox
) -> None:
    with open_delivering_shop(postgres_url, sandbox) as shop, ThreadPoolExecutor(1) as other:
        sell(shop, "a", "b", "busy", "c")
        say(sandbox, {"busy": False, "c": False})
        with shop.runtime.database.transaction_scope():
            shop.orders.process_return(goods(order="busy"))
            report = other.submit(reconcile, shop).result(20)

        assert (report["status"], report["fixed"]) == ("complete", 1)
        assert shop.order("c").waiting == "reconciled"
        assert (shop.order("busy").waiting, shop.order("busy").state_version) == ("new", 2)
        seen = shop.order("b").remote_seen_at
        assert seen == shop.clock()


@pytest.mark.parametrize("order", ["nul\x00", "half-\ud800", "x" * 256])
def test_an_id_that_no_order_can_have_is_bad_data_and_ends_the_run(
    shop: Shop, sandbox: Sandbox, order: str
) -> None:
    sell(shop, "a")
    say(sandbox, {order: True})

    assert reconcile(shop)["status"] == "incomplete"
    assert reconcile(shop)["status"] == "incomplete"  # the first one is over: it keeps no later one out
    set_orders(sandbox, [{"token_id": SELLER, "order_id": order, "removed": True}])
    assert reconcile(shop)["status"] == "complete"


def test_what_was_left_and_then_agreed_is_brought_up_when_it_differs_again(
    shop: Shop, sandbox: Sandbox
) -> None:
    reconciliation = shop.runtime.reconciliation
    sell(shop, "a")
    say(sandbox, {"known": True})
    reconcile(shop)
    (row,) = reconciliation.records.differences()
    reconciliation.leave(row["id"], actor="Anna", reason="sold in the shop")
    with pytest.raises(RepairRefused, match="left"):
        reconciliation.leave(row["id"], actor="Anna", reason="again")
    assert found(reconcile(shop)) == []

    say(sandbox, {"known": False})
    reconcile(shop)
    say(sandbox, {"known": True})
    assert found(reconcile(shop)) == [("known", "extra_remote")]
    rows = {row["status"]: row for row in reconciliation.records.differences(status=None)}
    assert set(rows) == {"gone", "open"}
    assert (rows["gone"]["actor"], rows["gone"]["reason"]) == ("Anna", "sold in the shop")


def test_a_remote_that_forgets_again_and_again_is_for_a_person_after_the_threshold(
    shop: Shop, sandbox: Sandbox
) -> None:
    sell(shop, "flapping")
    fixed = 0
    for _ in range(14):
        say(sandbox, {"flapping": False})
        report = reconcile(shop)
        fixed += report["fixed"]
        shop.drain()
        shop.clock.advance(2 * 3600)

    assert fixed == 12  # for a day from the deduction's delivery
    assert [row["kind"] for row in shop.runtime.reconciliation.records.differences()] == ["missing_remote"]


def test_a_page_that_fails_once_is_asked_for_again(shop: Shop, sandbox: Sandbox) -> None:
    sell(shop, *(f"o{number:02}" for number in range(40)))
    sandbox.set_faults(error_share=0.2, error_status=503, seed=3)
    report = reconcile(shop)

    assert sandbox.stats()["answers"]["503"] > 0
    assert (report["status"], report["buckets"]) == ("complete", {"agrees": 40})


def test_a_remote_that_asks_to_come_later_is_not_asked_again_at_once(shop: Shop, sandbox: Sandbox) -> None:
    sell(shop, "a")
    sandbox.set_faults(rate_limit_share=1.0)
    report = reconcile(shop)

    assert (report["status"], sandbox.stats()["requests"]["GET"]) == ("incomplete", 1)
    assert "429" in report["reason"]


def test_a_page_of_a_gateway_is_named_by_its_status(sandbox: Sandbox) -> None:
    sandbox.set_faults(outage="maintenance")
    client = OrdersClient(sandbox.url, "sandbox")

    with pytest.raises(RemoteError) as raised:
        client.find_order(token_id=SELLER, order_id="a")
    assert raised.value.error_class == "Http503"


def test_a_refused_token_is_read_again_for_the_next_run(sqlite_url: str) -> None:
    tokens = iter(["old", "new"])
    with Sandbox(token="new") as sandbox, open_shop(sqlite_url) as shop:
        shop.runtime.__dict__["sender"] = OrdersClient(sandbox.url, lambda: next(tokens))
        shop.deduct()

        assert "401" in reconcile(shop)["reason"]
        assert reconcile(shop)["complete"] is True


def test_more_work_is_queued_when_the_run_of_the_task_is_over(
    database_url: str, redis_url: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Queued any earlier, a second worker would take it at once and find the task under way."""
    settings = {"REDIS_URL": redis_url, "STOCK_SYNC_DELIVERY_SLICE_SECONDS": "0.000001"}
    with open_delivering_shop(database_url, sandbox, **settings) as shop:
        sell(shop, "a")
        real = Runtime(shop.runtime.config, clock=shop.clock)
        again, when = RedisWakeups.again, list[str]()

        def seen(wakeups: RedisWakeups, task_name: str) -> None:
            when.append(real.periodic.runs.latest("reconcile")[0]["status"])
            again(wakeups, task_name)

        monkeypatch.setattr(RedisWakeups, "again", seen)
        try:
            assert real.periodic.run("reconcile")["more"] is True
        finally:
            real.close()

    assert when == ["done"]


def test_an_account_whose_turn_came_late_is_due_at_the_next_interval_too(
    sqlite_shop: Shop, sandbox: Sandbox
) -> None:
    shop = sqlite_shop
    for seller in ("seller-1", "seller-2", "seller-3"):
        shop.orders.process_order_stock_update(form(f"of-{seller}", token_id=seller))
    reader = shop.runtime.sender
    ask = reader.list_orders  # type: ignore[attr-defined]

    def slow(**asked: Any) -> Any:
        shop.clock.advance(300)
        return ask(**asked)

    reader.list_orders = slow  # type: ignore[attr-defined]
    tick = shop.clock()
    for number in range(3):
        shop.clock.now = tick + timedelta(minutes=30 * number)
        compared = [run["token_id"] for run in shop.runtime.reconciliation.slice()["runs"]]
        assert compared == ["seller-1", "seller-2", "seller-3"]


def test_repairs_of_one_run_are_bounded_and_the_next_run_goes_on(
    shop: Shop, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stocksync.upkeep.reconcile._MOST_REPAIRS", 2)
    sell(shop, "a", "b", "c")
    say(sandbox, dict.fromkeys("abc", False))
    report = reconcile(shop)

    assert (report["status"], report["fixed"]) == ("incomplete", 2)
    assert "2 repairs" in report["reason"]
    shop.drain()
    shop.clock.advance(60)
    assert (reconcile(shop)["fixed"], reconcile(shop)["status"]) == (1, "complete")


def test_a_remote_whose_list_never_ends_ends_the_run(
    shop: Shop, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stocksync.upkeep.reconcile._MOST_STEPS", 7)
    sell(shop, *(f"o{number}" for number in range(50)))
    report = shop.runtime.reconciliation.slice()

    assert [run["status"] for run in report["runs"]] == ["incomplete"]
