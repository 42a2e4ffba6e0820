"""`stock import`, `stock show` and `stock rebuild`."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, BinaryIO

import click

from stocksync import runtime
from stocksync.cli.intake import who
from stocksync.cli.output import answer, json_option, table
from stocksync.errors import NegativeStock, StockSyncError
from stocksync.store.values import MAX_QUANTITY, check_word


@click.group()
def stock() -> None:
    """Stock levels and their movements."""


@stock.command("import")
@click.argument("file", type=click.File("rb"))
@json_option
def import_(file: BinaryIO, as_json: bool) -> None:
    """Set on hand from a count: a CSV with the columns sku, warehouse, quantity.

    All or nothing: when a line can't be taken, every fault is named and nothing is written.
    """
    counted, faults = _read(file)
    if faults:
        document = {"imported": 0, "changed": 0, "refused": faults}
        answer(document, as_json, lambda: [f"line {f['line']}: {f['reason']}" for f in faults])
        click.echo(f"nothing was imported: {len(faults)} line(s) can't be taken", err=True)
        raise click.exceptions.Exit(1)
    at = runtime.current()
    at.require_schema()
    with at.database.transaction_scope():
        changed = sum(
            at.inventory.set_on_hand(levels, warehouse, actor="stock import", reason=f"count in {file.name}")
            for warehouse, levels in sorted(counted.items())  # in one order, so that no two imports deadlock
        )
    skus = sum(len(levels) for levels in counted.values())
    units = sum(sum(levels.values()) for levels in counted.values())
    document = {
        "imported": skus,
        "changed": changed,
        "units": units,
        "warehouses": sorted(counted),
        "refused": [],
    }
    answer(document, as_json, lambda: [f"{skus} SKUs counted, {units} units; {changed} levels changed"])


@stock.command()
@click.argument("sku", required=False)
@json_option
def show(sku: str | None, as_json: bool) -> None:
    """Levels, or one SKU with its last movements."""
    at = runtime.current()
    at.require_schema()
    rows = at.queries.stock(sku)
    if sku is not None and not rows:
        raise StockSyncError(f"SKU {sku} was never seen; `stock show` lists all")
    units = sum(row["on_hand"] for row in rows)

    def lines() -> Iterator[str]:
        yield from table(rows, ("warehouse", "sku", "on_hand"))
        for row in rows if sku is not None else ():
            yield ""
            yield from table(
                row["movements"], ("created_at", "delta", "balance_after", "cause", "actor", "reason")
            )
        yield f"{len(rows)} levels, {units} units"

    answer({"levels": rows, "units": units}, as_json, lines)


@stock.command()
@click.option("--yes", is_flag=True, help="Do it without asking.")
@json_option
def rebuild(yes: bool, as_json: bool) -> None:
    """Set on hand to the sum of the movements wherever it is not; what differs is shown first."""
    at = runtime.current()
    at.require_schema()
    differing = [asdict(difference) for difference in at.inventory.differing()]
    if differing and not as_json:
        answer({}, False, lambda: table(differing, ("warehouse", "sku", "on_hand", "moved")))
    if differing and not yes:
        click.confirm(f"Set on hand of {len(differing)} level(s) to what has moved?", abort=True, err=True)
    refused: list[str] = []
    for row in differing:
        try:
            row["on_hand"] = at.inventory.rebuild(row["warehouse"], row["sku"], actor=who())
        except NegativeStock as error:
            refused.append(str(error))
    document = {"differing": len(differing), "rebuilt": len(differing) - len(refused), "refused": refused}
    answer(document, as_json, lambda: [*refused, f"{document['rebuilt']} of {len(differing)} levels rebuilt"])
    if refused:
        raise click.exceptions.Exit(1)


def _read(file: BinaryIO) -> tuple[dict[str, dict[str, int]], list[dict[str, Any]]]:
    """Counts by warehouse and SKU, and what can't be taken with its line number."""
    content = file.read()
    try:
        reader = csv.DictReader(content.decode("utf-8-sig").splitlines())
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return {}, [{"line": line, "reason": "the file is not UTF-8"}]
    counted: dict[str, dict[str, int]] = {}
    faults: list[dict[str, Any]] = []
    try:
        missing = {"sku", "warehouse", "quantity"} - set(reader.fieldnames or ())
        if missing:
            return {}, [{"line": 1, "reason": f"the header lacks {', '.join(sorted(missing))}"}]
        for row in reader:
            try:
                _count(row, counted)
            except StockSyncError as error:
                faults.append({"line": reader.line_num, "reason": str(error)})
    except csv.Error as error:
        faults.append({"line": reader.line_num + 1, "reason": f"not CSV: {error}"})
    return counted, faults


def _count(row: dict[str, Any], counted: dict[str, dict[str, int]]) -> None:
    sku, warehouse = check_word("sku", row["sku"]), check_word("warehouse", row["warehouse"])
    quantity = str(row["quantity"]).strip()
    if not (quantity.isascii() and quantity.isdigit()):
        raise StockSyncError(f"quantity: a whole number from 0 is needed, got {quantity!r:.40}")
    if len(quantity) > 10 or int(quantity) > MAX_QUANTITY:
        raise StockSyncError(f"quantity: at most {MAX_QUANTITY}, got {quantity:.40}")
    if sku in counted.setdefault(warehouse, {}):
        raise StockSyncError(f"sku {sku} in warehouse {warehouse} appears more than once")
    counted[warehouse][sku] = int(quantity)


COMMANDS = (stock,)
