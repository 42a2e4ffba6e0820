"""The main job on the orders of a real shop: a remote that fails and drops, and every figure as expected."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stocksync.sandbox import FaultPlan, Sandbox
from tests.processes import SHOP_DATA, Processes

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


def with_stock_lines() -> set[str]:
    """Ids of the orders that have something to deduct, by the file itself."""
    found = set()
    for line in (SHOP_DATA / "orders.jsonl").read_text().splitlines():
        order: dict[str, Any] = json.loads(line)
        if any(item["offer"]["external"] for item in order["lineItems"]):
            found.add(order["id"])
    return found


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
        assert flagged == with_stock_lines()
        assert shop.command("stock", "show")["units"] == expected["on_hand_after_orders"]
        counts = shop.command("status")["operations"]
        assert counts == {**dict.fromkeys(counts, 0), "completed": expected["stock_line_items"]}

        again = shop.command("orders", "process", str(SHOP_DATA / "orders.jsonl"))
        assert (again["operations"], again["already_updated"]) == (0, expected["orders"])
        assert shop.command("stock", "show")["units"] == expected["on_hand_after_orders"]
        assert shop.command("audit") == {"ok": True, "findings": []}
    assert sandbox.stats()["answers"]["503"] > 0
    assert sandbox.stats()["repeated"] > 0
