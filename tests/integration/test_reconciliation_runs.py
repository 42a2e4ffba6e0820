"""Runs of reconciliation: dry, limited, in slices, two at once, with a repair by hand, over a real shop."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from stocksync.errors import RemoteError, RepairRefused, UnknownDifference
from stocksync.runtime import Runtime
from stocksync.sandbox import Sandbox
from tests.processes import SHOP_DATA, Processes
from tests.reconciling import found, open_delivering_shop, open_sandbox, reconcile, say, sell, versions
from tests.remote_orders import set_orders
from tests.shop import SELLER, START, Shop, goods, open_shop


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with open_sandbox() as running:
        yield running


@pytest.fixture
def shop(database_url: str, sandbox: Sandbox) -> Iterator[Shop]:
    with open_delivering_shop(database_url, sandbox) as opened:
        yield opened


def test_a_dry_run_writes_nothing_but_its_report(shop: Shop, sandbox: Sandbox) -> None:
    sell(shop, *(f"o{number}" for number in range(7)))
    early = (START - timedelta(days=30)).isoformat()
    say(sandbox, {"o1": False, "foreign": True})
    set_orders(
        sandbox, [{"token_id": SELLER, "order_id": "o2", "is_stock_updated": False, "updated_at": early}]
    )
    before = versions(shop)
    report = reconcile(shop, dry_run=True)

    assert (report["status"], report["fixed"]) == ("complete", 0)
    assert found(report) == [("foreign", "extra_remote"), ("o1", "missing_remote"), ("o2", "missing_remote")]
    assert report["buckets"] == {"agrees": 5, "missing_remote": 2, "extra_remote": 1}
    assert versions(shop) == before
    records = shop.runtime.reconciliation.records
    assert (records.count_open(), len(records.runs())) == (0, 1)
    assert records.runs()[0]["dry_run"] is True


def test_a_limit_ends_the_run_early_and_says_that_it_is_not_complete(shop: Shop, sandbox: Sandbox) -> None:
    sell(shop, *(f"o{number}" for number in range(8)))
    report = shop.service.reconcile_stock_status(SELLER, 7)

    assert (report["checked"], report["complete"], report["fixed"]) == (7, False, 0)
    assert report["discrepancies"] == []
    assert shop.service.reconcile_stock_status(SELLER)["complete"] is True
    set_orders(
        sandbox, [{"token_id": SELLER, "order_id": f"o{number}", "removed": True} for number in range(7)]
    )
    shop.clock.advance(60)
    report = shop.service.reconcile_stock_status(SELLER, 2)  # one is listed, one is asked for by its id
    assert (report["checked"], report["complete"]) == (2, False)


def test_a_difference_that_is_no_more_ends_and_one_that_stays_is_kept_once(
    shop: Shop, sandbox: Sandbox
) -> None:
    records = shop.runtime.reconciliation.records
    sell(shop, "a")
    say(sandbox, {"f1": True, "f2": True})
    reconcile(shop)
    shop.clock.advance(60)
    say(sandbox, {"f1": False})
    reconcile(shop)

    rows = {row["order_id"]: row for row in records.differences(status=None)}
    assert {order: row["status"] for order, row in rows.items()} == {"f1": "gone", "f2": "open"}
    assert rows["f2"]["last_seen_at"] - rows["f2"]["first_seen_at"] == timedelta(seconds=60)


def test_a_person_is_refused_where_telling_again_mends_nothing(shop: Shop, sandbox: Sandbox) -> None:
    reconciliation = shop.runtime.reconciliation
    sell(shop, "a")
    say(sandbox, {"foreign": True})
    reconcile(shop)
    (row,) = reconciliation.records.differences()

    with pytest.raises(RepairRefused, match="extra_remote"):
        reconciliation.fix(row["id"], actor="Anna", reason="please")
    with pytest.raises(UnknownDifference):
        reconciliation.fix("nonsense", actor="Anna", reason="please")
    say(sandbox, {"foreign": False})
    assert reconciliation.fix(row["id"], actor="Anna", reason="please") == "gone"


def test_both_sides_are_read_again_before_a_repair(
    shop: Shop, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    sell(shop, "mended", "changed", "lost")
    say(sandbox, dict.fromkeys(("mended", "changed", "lost"), False))
    reader = shop.runtime.sender
    ask = reader.find_order  # type: ignore[attr-defined]

    def find_order(*, token_id: str, order_id: str) -> Any:
        if order_id == "mended":
            say(sandbox, {"mended": True})
        if order_id == "changed":
            shop.orders.process_return(goods(order="changed"))
        return ask(token_id=token_id, order_id=order_id)

    monkeypatch.setattr(reader, "find_order", find_order)
    report = reconcile(shop)

    assert (report["buckets"], report["fixed"]) == ({"missing_remote": 3}, 1)
    statuses = {
        row["order_id"]: row["status"] for row in shop.runtime.reconciliation.records.differences(status=None)
    }
    assert statuses == {"mended": "gone", "changed": "open", "lost": "fixed"}
    assert shop.order("changed").waiting == "new"


def test_slices_go_on_where_the_last_one_stopped_and_come_to_the_same(shop: Shop, sandbox: Sandbox) -> None:
    orders = [f"o{number:02}" for number in range(23)]
    sell(shop, *orders)
    say(sandbox, {"o03": False, "o17": False})
    reconciliation = shop.runtime.reconciliation
    ticks = iter(range(10_000))
    reconciliation._monotonic = lambda: 3.0 * next(ticks)  # a slice is over after two steps
    slices = 0
    while reconciliation.slice()["more"]:
        slices += 1
        assert slices < 50
    (run,) = reconciliation.records.runs()

    assert slices >= 4
    assert (run["status"], run["fixed"], run["pages"]) == ("complete", 2, 5)
    assert run["buckets"] == {"agrees": 21, "missing_remote": 2}
    assert reconciliation.slice() == {"more": False, "runs": []}  # the next is due after the interval
    shop.clock.advance(1800)
    assert reconciliation.slice()["more"] is True


def test_two_that_run_at_once_share_one_run_and_count_no_order_twice(shop: Shop, sandbox: Sandbox) -> None:
    orders = [f"o{number:02}" for number in range(40)]
    sell(shop, *orders)
    say(sandbox, {"o03": False, "o39": False})
    with ThreadPoolExecutor(2) as both:
        reports = list(both.map(lambda _: reconcile(shop), range(2)))
    runs = shop.runtime.reconciliation.records.runs()

    assert sum(run["fixed"] for run in runs) == 2
    assert all(sum(run["buckets"].values()) == run["scanned"] for run in runs)
    assert {run["scanned"] for run in runs if run["status"] == "complete"} == {40}
    assert any(report["complete"] for report in reports)


def test_the_task_queues_itself_again_while_there_is_more(
    database_url: str, redis_url: str, sandbox: Sandbox
) -> None:
    settings = {"REDIS_URL": redis_url, "STOCK_SYNC_DELIVERY_SLICE_SECONDS": "0.000001"}
    with open_delivering_shop(database_url, sandbox, **settings) as shop:
        sell(shop, "a", "b")
        real = Runtime(shop.runtime.config, clock=shop.clock)
        try:
            report = real.periodic.run("reconcile")
            jobs = [job.func_name for job in real.queue().jobs]
        finally:
            real.close()

    assert report["more"] is True
    assert jobs == ["stocksync.queue.tasks.reconcile"]


def test_a_client_that_offers_no_list_is_said_and_harms_nothing(database_url: str) -> None:
    with open_shop(database_url) as shop:
        shop.deduct()

        assert "offers no list_orders" in shop.runtime.reconciliation.slice()["skipped"]
        with pytest.raises(RemoteError, match="nothing can be compared"):
            shop.service.reconcile_stock_status(SELLER)


def test_statements_and_requests_go_with_pages_not_with_orders(
    shop: Shop, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    sell(shop, *(f"o{number}" for number in range(50)))
    asked: list[str] = []
    database = shop.runtime.database
    execute = database.execute_sql

    def counted(sql: str, *rest: Any) -> Any:
        asked.append(sql)
        return execute(sql, *rest)

    monkeypatch.setattr(database, "execute_sql", counted)
    before = sandbox.stats()["requests"].get("GET", 0)
    report = reconcile(shop)

    assert report["pages"] == 10
    assert sandbox.stats()["requests"]["GET"] - before == 10
    assert len([sql for sql in asked if not sql.startswith(("BEGIN", "SAVEPOINT", "RELEASE"))]) <= 5 * 10 + 10


@pytest.mark.shop_data
@pytest.mark.skipif(not SHOP_DATA.is_dir(), reason="the real orders are not beside this checkout")
@pytest.mark.timeout(180)
def test_the_orders_of_a_real_shop(tmp_path: Path, database_url: str, redis_url: str) -> None:
    with (
        Sandbox(token="sandbox") as sandbox,
        Processes(tmp_path, database_url, redis_url, sandbox) as shop,
    ):
        shop.command("stock", "import", str(SHOP_DATA / "stock.csv"))
        shop.command("orders", "process", str(SHOP_DATA / "orders.jsonl"))
        shop.command("deliver")
        told = sorted(row["order_id"] for row in sandbox.orders())
        with_stock = set(told)
        every = [json.loads(line) for line in (SHOP_DATA / "orders.jsonl").read_text().splitlines()]
        without = [order["id"] for order in every if order["id"] not in with_stock]
        seller = sandbox.orders()[0]["token_id"]
        same = [row["order_id"] for row in sandbox.orders() if row["token_id"] == seller]
        assert len(without) >= 3
        pretend(sandbox, seller, same[:7], False)
        pretend(sandbox, seller, [*without[:3], "unknown-1", "unknown-2"], True)
        before = shop.command("status")["operations"]

        dry = shop.command("reconcile", "--dry-run", code=1)
        assert (dry["complete"], dry["fixed"]) == (True, 0)
        assert (dry["buckets"]["missing_remote"], dry["buckets"]["extra_remote"]) == (7, 5)
        assert dry["checked"] == sum(dry["buckets"].values())
        assert shop.command("status")["operations"] == before
        assert shop.command("status")["orders_waiting"] == 0

        repaired = shop.command("reconcile", code=1)
        assert (repaired["fixed"], repaired["buckets"]) == (7, dry["buckets"])
        shop.command("deliver")
        assert {row["order_id"] for row in sandbox.orders() if row["is_stock_updated"]} >= with_stock
        again = shop.command("reconcile", code=1)
        assert (again["fixed"], again["buckets"].get("missing_remote", 0)) == (0, 0)
        assert again["buckets"]["extra_remote"] == 5
        assert shop.command("audit")["findings"] == []


def pretend(sandbox: Sandbox, seller: str, orders: Sequence[str], flag: bool) -> None:
    """What the remote says of orders, whoever told it."""
    now = datetime.now(UTC).isoformat()
    set_orders(
        sandbox,
        [
            {"token_id": seller, "order_id": order, "is_stock_updated": flag, "updated_at": now}
            for order in orders
        ],
    )
