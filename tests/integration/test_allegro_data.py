"""Orders as Allegro really sends them, each file from the command line's reader to the remote, on both databases."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import CommandLine
from tests.processes import SHOP_DATA
from tests.shop import SELLER, WAREHOUSE, Shop, open_shop

ALLEGRO_DATA = SHOP_DATA.parent / "allegro"
pytestmark = [
    pytest.mark.shop_data,
    pytest.mark.pgbouncer,
    pytest.mark.skipif(not ALLEGRO_DATA.is_dir(), reason="the made-up orders are not beside this checkout"),
]
OLD, NEW = "3a1f0c10-a6db-11ef-beb1-2953ecce8d01", "5c3f0c10-a6db-11ef-beb1-2953ecce8d03"


@pytest.fixture
def shop(database_url: str) -> Iterator[Shop]:
    with open_shop(database_url) as opened, (ALLEGRO_DATA / "stock.csv").open() as file:
        levels = {row["sku"]: int(row["quantity"]) for row in csv.DictReader(file)}
        opened.runtime.inventory.set_on_hand(levels, WAREHOUSE)
        yield opened
        assert opened.broken_promises() == []


def forms(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (ALLEGRO_DATA / name).read_text().splitlines()]


def take(shop: Shop, document: dict[str, Any]) -> str:
    """Process a form twice, the second of which changes nothing; deliver. Answers with the first status."""
    status = shop.orders.process_order_stock_update(document).status
    count = len(shop.statuses())
    shop.orders.process_order_stock_update(document)
    assert len(shop.statuses()) == count
    shop.drain()
    return status


def on_hand(shop: Shop) -> tuple[int, int]:
    return shop.on_hand("KUBEK"), shop.on_hand("HERBATA")


@pytest.mark.parametrize("turned", [False, True], ids=["as it happened", "the old event late"])
def test_merged(shop: Shop, turned: bool) -> None:
    first, second = forms("merged.jsonl")
    for document in (second, first) if turned else (first, second):
        take(shop, document)

    old = shop.runtime.queries.order(SELLER, OLD)
    assert on_hand(shop) == (98, 99)
    assert [line["deducted"] - line["refunded"] for line in old["lines"]] == [0]
    assert [line["moved_to"] for line in old["lines"]] == [NEW]
    assert (bool(shop.flag(OLD)), shop.flag(NEW)) == (False, True)


def test_seller_cancelled(shop: Shop) -> None:
    seen = []
    for document in forms("seller-cancelled.jsonl"):
        take(shop, document)
        seen.append((*on_hand(shop), shop.flag(document["id"])))

    assert seen == [(98, 99, True), (100, 100, False), (98, 99, True)]


def test_without_external_id(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    (document,) = forms("without-external-id.jsonl")
    take(shop, document)

    unlinked = {line["id"] for line in document["lineItems"][1:]}
    assert on_hand(shop) == (99, 100)
    assert {row["line_id"] for row in shop.runtime.queries.lines_without_sku(10)} == unlinked
    assert shop.runtime.queries.status(shop.clock(), 6)["lines_without_sku"] == 2
    assert all(line in caplog.text for line in unlinked)


@pytest.mark.parametrize(
    ("name", "units"), [("merged", 197), ("seller-cancelled", 197), ("without-external-id", 199)]
)
def test_from_the_command_line(tmp_path: Path, database_url: str, name: str, units: int) -> None:
    at = CommandLine(tmp_path, database_url)

    def said(command: str) -> Any:
        answer = at.run(f"{command} --json")
        assert answer.code == 0, answer.err
        return answer.document

    said("migrate")
    said(f"stock import {ALLEGRO_DATA / 'stock.csv'}")
    for _ in range(2):
        said(f"orders process {ALLEGRO_DATA / f'{name}.jsonl'}")
        assert said("stock show")["units"] == units
    assert said("audit")["ok"] is True
    unlinked = 2 if name == "without-external-id" else 0
    assert len(said("orders unlinked")["lines"]) == said("status")["lines_without_sku"] == unlinked
    if name == "merged":
        assert said(f"orders show {OLD} --token {SELLER}")["lines"][0]["moved_to"] == NEW
        assert NEW in at.run(f"orders show {OLD} --token {SELLER}").out
