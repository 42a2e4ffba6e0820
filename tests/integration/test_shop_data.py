"""The main job on the orders of a real shop: a remote that fails and drops, and every figure as expected."""

from __future__ import annotations

import csv
import json
import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from stocksync import OrphanRefund
from stocksync.sandbox import FaultPlan, Sandbox
from tests.processes import SHOP_DATA, Processes
from tests.shop import WAREHOUSE, Shop, open_shop

pytestmark = [
    pytest.mark.shop_data,
    pytest.mark.skipif(not SHOP_DATA.is_dir(), reason="the real orders are not beside this checkout"),
]
SETTINGS = {"STOCK_SYNC_RETRY_INITIAL_DELAY": "1", "STOCK_SYNC_RETRY_MAX_ATTEMPTS": "12"}


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(
        token="sandbox", faults=FaultPlan(error_share=0.2, drop_after_apply_share=0.05, seed=1)
    ) as running:
        yield running


def rows_of(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (SHOP_DATA / name).read_text().splitlines()]


def expected_flags() -> dict[str, bool]:
    """What the remote must hold of every order with something to deduct: False where all of it came back."""
    left: Counter[str] = Counter()
    for order in rows_of("orders.jsonl"):
        for item in order["lineItems"]:
            if item["offer"]["external"]:
                left[order["id"]] += item["quantity"]
    for row in rows_of("returns.jsonl"):
        if not row.get("orphan"):
            left[row["order_id"]] -= row["quantity"]
    return {order: units > 0 for order, units in left.items()}


@pytest.mark.timeout(180)
def test_a_real_shop_is_delivered_to_the_last_unit(
    tmp_path: Path, database_url: str, redis_url: str, sandbox: Sandbox
) -> None:
    expected = json.loads((SHOP_DATA / "expected.json").read_text())
    with Processes(tmp_path, database_url, redis_url, sandbox, **SETTINGS) as shop:
        shop.start("jobs.worker")
        shop.start("jobs.scheduler")
        shop.command("stock", "import", str(SHOP_DATA / "stock.csv"))
        first = shop.command("orders", "process", str(SHOP_DATA / "orders.jsonl"))
        shop.wait_for_rest(120)

        assert first["orders"] == expected["orders"]
        assert first["operations"] == expected["stock_line_items"]
        flagged = {row["order_id"] for row in sandbox.orders() if row["is_stock_updated"]}
        assert len(flagged) == expected["orders_with_stock_lines"]
        assert flagged == set(expected_flags())
        assert shop.command("stock", "show")["units"] == expected["on_hand_after_orders"]
        counts = shop.command("status")["operations"]
        assert counts == {**dict.fromkeys(counts, 0), "completed": expected["stock_line_items"]}

        again = shop.command("orders", "process", str(SHOP_DATA / "orders.jsonl"))
        assert (again["operations"], again["already_updated"]) == (0, expected["orders"])
        assert shop.command("stock", "show")["units"] == expected["on_hand_after_orders"]
        assert shop.command("audit")["findings"] == []

        for again_taken in (False, True):
            back = shop.command("returns", "process", str(SHOP_DATA / "returns.jsonl"), code=1)
            shop.wait_for_rest(120)
            assert back["returns"] == expected["returns"]
            assert back["operations"] == (0 if again_taken else expected["returns"])
            assert back["orphans"] == len(back["refused"]) == expected["orphan_returns"]
            assert {fault["error"] for fault in back["refused"]} == {"OrphanRefund"}
            assert shop.command("stock", "show")["units"] == expected["on_hand_after_returns"]
            assert {row["order_id"]: row["is_stock_updated"] for row in sandbox.orders()} == expected_flags()
            assert shop.command("audit")["findings"] == []
    assert sandbox.stats()["answers"]["503"] > 0
    assert sandbox.stats()["repeated"] > 0


@pytest.mark.timeout(240)
def test_returns_shuffled_among_their_orders_come_to_the_same_end(database_url: str) -> None:
    expected = json.loads((SHOP_DATA / "expected.json").read_text())
    orders, returns = rows_of("orders.jsonl"), rows_of("returns.jsonl")
    mixed = orders + returns
    random.Random(4).shuffle(mixed)
    with open_shop(database_url) as shop:
        with (SHOP_DATA / "stock.csv").open() as file:
            levels = {row["sku"]: int(row["quantity"]) for row in csv.DictReader(file)}
        shop.runtime.inventory.set_on_hand(levels, WAREHOUSE)
        early = 0
        for number, row in enumerate(mixed):
            early += not taken(shop, row)
            if number % 50 == 0:
                deliver_all(shop)
        assert early > expected["orphan_returns"]

        refused = [row for row in returns if not taken(shop, row)]
        deliver_all(shop)
        assert [row["return_id"] for row in refused] == [
            row["return_id"] for row in returns if row.get("orphan")
        ]
        count = len(shop.statuses())
        assert count == expected["stock_line_items"] + expected["returns"]
        assert [taken(shop, row) for row in mixed].count(False) == expected["orphan_returns"]

        assert len(shop.statuses()) == count
        on_hand = [level["on_hand"] for level in shop.runtime.queries.stock()]
        assert (len(on_hand), sum(on_hand)) == (expected["skus"], expected["on_hand_after_returns"])
        # An order that came back before it was told of was never told of: nothing and False are the same there.
        held = {order: said for (_, order), said in shop.remote.flags.items()}
        assert {order: held.get(order, False) for order in expected_flags()} == expected_flags()
        assert set(shop.statuses()) == {"completed"}
        assert shop.broken_promises() == []


def taken(shop: Shop, row: dict[str, Any]) -> bool:
    """Process an order or a return; False: it was an orphan."""
    try:
        if "return_id" in row:
            shop.orders.process_return(row)
        else:
            shop.orders.process_order_stock_update(row)
    except OrphanRefund:
        return False
    return True


def deliver_all(shop: Shop) -> None:
    while lanes := shop.runtime.deliveries.due_lanes():
        for lane in lanes:
            shop.drain(lane)


@pytest.mark.timeout(240)
def test_two_that_process_the_orders_from_both_ends_deduct_each_once(
    tmp_path: Path, postgres_url: str, redis_url: str, sandbox: Sandbox
) -> None:
    expected = json.loads((SHOP_DATA / "expected.json").read_text())
    lines = (SHOP_DATA / "orders.jsonl").read_text().splitlines()
    (tmp_path / "forwards.jsonl").write_text("\n".join(lines))
    (tmp_path / "backwards.jsonl").write_text("\n".join(reversed(lines)))
    with Processes(tmp_path, postgres_url, redis_url, sandbox, **SETTINGS) as shop:
        shop.command("stock", "import", str(SHOP_DATA / "stock.csv"))
        with ThreadPoolExecutor() as pool:
            said = list(
                pool.map(
                    lambda name: shop.command_apart("orders", "process", name),
                    ["forwards.jsonl", "backwards.jsonl"],
                )
            )

        assert [document["refused"] for document in said] == [[], []]
        assert sum(document["operations"] for document in said) == expected["stock_line_items"]
        assert all(document["operations"] for document in said)
        assert shop.command("stock", "show")["units"] == expected["on_hand_after_orders"]
        assert shop.command("audit")["findings"] == []
