"""`stock ...`, `orders ...` and `returns process`: what the shop counts, sells and takes back."""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, BinaryIO

import click
from peewee import PeeweeException

from stocksync.cli.frame import Answer, actor, cli, command, in_words, progress, table
from stocksync.errors import InvalidOrder, InvalidReturn, NegativeStock, OrphanRefund, StockSyncError
from stocksync.orders.whole_orders import OrderResult, ReturnResult
from stocksync.runtime import Runtime
from stocksync.store.values import DEFAULT_WAREHOUSE, check_quantity, check_word

_FILE = click.argument("file", type=click.File("rb"))
_SELLER = click.option("--token", required=True, help="The seller account.")
_NO_RESTOCK = click.option("--no-restock", is_flag=True, help="The goods do not come back into our stock.")


@cli.group()
def stock() -> None:
    """Stock levels and their movements."""


@command(stock, "import")
@_FILE
def import_(runtime: Runtime, file: BinaryIO) -> Answer:
    """Set on hand from a count: a CSV with the columns sku, warehouse, quantity.

    All or nothing: when a line can't be taken, every fault is named and nothing is written.
    """
    counted, faults = _read_count(file)
    if faults:
        click.echo(f"nothing was imported: {len(faults)} line(s) can't be taken", err=True)
        return Answer(
            {"imported": 0, "changed": 0, "refused": faults},
            [f"line {fault['line']}: {fault['reason']}" for fault in faults],
            ok=False,
        )
    with runtime.database.transaction_scope():
        changed = sum(
            runtime.inventory.set_on_hand(
                levels, warehouse, actor="stock import", reason=f"count in {file.name}"
            )
            for warehouse, levels in sorted(counted.items())  # in one order, so that no two imports deadlock
        )
    skus = sum(map(len, counted.values()))
    units = sum(sum(levels.values()) for levels in counted.values())
    return Answer(
        {
            "imported": skus,
            "changed": changed,
            "units": units,
            "warehouses": sorted(counted),
            "refused": [],
        },
        [f"{skus} SKUs counted, {units} units; {changed} levels changed"],
    )


@command(stock)
@click.argument("sku", required=False)
def show(runtime: Runtime, sku: str | None) -> Answer:
    """Levels, or one SKU with its last movements."""
    rows = runtime.queries.stock(sku)
    if sku is not None and not rows:
        raise StockSyncError(f"SKU {sku} was never seen; `stock show` lists all")
    units = sum(row["on_hand"] for row in rows)
    return Answer(
        {"levels": rows, "units": units},
        [
            *table(rows, "warehouse sku on_hand"),
            *(
                line
                for row in rows
                if sku is not None
                for line in (
                    "",
                    *table(row["movements"], "created_at delta balance_after cause actor reason"),
                )
            ),
            f"{len(rows)} levels, {units} units",
        ],
    )


@command(stock)
@click.option("--yes", is_flag=True, help="Do it without asking.")
def rebuild(runtime: Runtime, yes: bool) -> Answer:
    """Set on hand to the sum of the movements wherever it is not; what differs is shown first."""
    differing = runtime.inventory.differing()
    if differing and not click.get_current_context().params["as_json"]:
        click.echo("\n".join(table(differing, "warehouse sku on_hand moved")))
    if differing and not yes:
        click.confirm(f"Set on hand of {len(differing)} level(s) to what has moved?", abort=True, err=True)
    refused: list[str] = []
    for row in differing:
        try:
            runtime.inventory.rebuild(row["warehouse"], row["sku"], actor=actor())
        except NegativeStock as error:
            refused.append(str(error))
    rebuilt = len(differing) - len(refused)
    return Answer(
        {"differing": len(differing), "rebuilt": rebuilt, "refused": refused},
        [*refused, f"{rebuilt} of {len(differing)} levels rebuilt"],
        not refused,
    )


@cli.group()
def orders() -> None:
    """Whole orders."""


@command(orders)
@_FILE
@click.option("--warehouse", default=DEFAULT_WAREHOUSE, show_default=True, help="Where the goods go out.")
@click.option("--token", help="The seller account, for forms that do not name it.")
def process(runtime: Runtime, file: BinaryIO, warehouse: str, token: str | None) -> Answer:
    """Make stock follow the orders of FILE (`-`: stdin): one checkout form a line, as JSON.

    A line that can't be taken is reported with its number and reason; the others go through. The exit code is
    then 1. Processing a file again deducts nothing again.
    """
    runtime.orders.require_warehouse(warehouse)
    return _take_lines(
        file,
        "orders",
        runtime.orders.process_order_stock_update,
        InvalidOrder,
        warehouse=warehouse,
        token_id=token,
    )


@command(orders)
@click.argument("order")
@_SELLER
@click.option("--reason", help="Why, kept with the refunds.")
@_NO_RESTOCK
def cancel(runtime: Runtime, order: str, token: str, reason: str | None, no_restock: bool) -> Answer:
    """Give back what is still deducted of an order, for good: its forms deduct nothing any more.

    An unknown order is remembered as cancelled.
    """
    result = runtime.orders.cancel_order(order, token, restock=not no_restock, actor=actor(), reason=reason)
    is_or_was = "was cancelled before" if result.status == "already_cancelled" else "is cancelled"
    return Answer(asdict(result), [f"order {order} {is_or_was}, {len(result.operations)} refunds recorded"])


@command(orders, "show")
@click.argument("order")
@_SELLER
def show_order(runtime: Runtime, order: str, token: str) -> Answer:
    """One order: its lines, its operations, what we say and what the remote says."""
    row = runtime.queries.order(token, order)
    return Answer(
        row,
        [
            f"order {row['order_id']} of {row['token_id']}",
            f"we say {row['is_stock_updated']}, the remote last said {row['remote_flag']}"
            + (", so the two differ" if row["differs"] else ""),
            *([f"waiting: {row['waiting']}"] if row["waiting"] else []),
            *table(row["lines"], "line_id sku warehouse quantity deducted refunded moved_to"),
            *table(row["operations"], "id operation_type status sku quantity retry_count reason"),
        ],
    )


@command(orders)
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
def unlinked(runtime: Runtime, limit: int) -> Answer:
    """Lines sold without an external id, the newest first: nothing is deducted for them.

    Give the offer its external id at Allegro; orders after that are deducted.
    """
    rows = runtime.queries.lines_without_sku(limit)
    return Answer({"lines": rows}, table(rows, "created_at token_id order_id line_id quantity"))


@cli.group()
def returns() -> None:
    """Goods that came back."""


@command(returns, "process")
@_FILE
@_NO_RESTOCK
@click.option("--token", help="The seller account, for returns that do not name it.")
def process_returns(runtime: Runtime, file: BinaryIO, no_restock: bool, token: str | None) -> Answer:
    """Take the returns of FILE (`-`: stdin) back: one a line, as JSON.

    Each needs return_id, order_id, line_item_id, sku, quantity and the seller's token_id. A return without a known
    sale is refused as an orphan, for a person; repeat it once the sale is recorded. Processing a file again changes
    nothing.
    """
    return _take_lines(
        file, "returns", runtime.orders.process_return, InvalidReturn, restock=not no_restock, token_id=token
    )


def _take_lines(
    file: BinaryIO,
    what: str,
    take: Callable[..., OrderResult | ReturnResult],
    unreadable: type[InvalidOrder | InvalidReturn],
    **options: Any,
) -> Answer:
    """Call `take` for every line of `file`. A line that can't be taken is reported with its number, the others go through.

    Args:
        what: what a line is, in the plural.
        unreadable: raised for a line that is not JSON.
        options: of `take`.
    """
    found: Counter[str] = Counter()
    operations = 0
    refused: list[dict[str, Any]] = []
    for number, line in enumerate(progress(file.readlines(), what), start=1):
        if line.strip():
            try:
                result = take(_decoded(line, unreadable), **options)
                found[result.status] += 1
                operations += len(result.operations)
            except (StockSyncError, PeeweeException) as error:
                refused.append(
                    {
                        "line": number,
                        "order_id": getattr(error, "order_id", None),
                        "error": type(error).__name__,
                        "reason": in_words(error),
                    }
                )
    orphans = sum(fault["error"] == OrphanRefund.__name__ for fault in refused)  # none of orders
    return Answer(
        {what: found.total(), **found, "operations": operations, "refused": refused}
        | ({"orphans": orphans} if what == "returns" else {}),
        [
            *(
                f"line {fault['line']}: {_with_order(fault['order_id'], fault['reason'])}"
                for fault in refused
            ),
            f"{found.total()} {what} taken, {operations} operations recorded, {len(refused)} lines refused"
            + (f", {orphans} of them without a known sale" if orphans else ""),
            *(f"  {status}: {count}" for status, count in sorted(found.items())),
        ],
        not refused,
    )


def _with_order(order: object, reason: str) -> str:
    return f"order {order}: {reason}" if order and str(order) not in reason else reason


def _decoded(line: bytes, unreadable: type[InvalidOrder | InvalidReturn]) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:  # what is not UTF-8, too
        raise unreadable(None, [f"not JSON: {error}"]) from None


def _read_count(file: BinaryIO) -> tuple[dict[str, dict[str, int]], list[dict[str, Any]]]:
    """Counts by warehouse and SKU, and what can't be taken with its line number."""
    counted: dict[str, dict[str, int]] = {}
    faults: list[dict[str, Any]] = []
    content = file.read()
    try:
        reader = csv.DictReader(
            io.StringIO(content.decode("utf-8-sig"), newline=""), restkey="quantity", strict=True
        )
        if missing := {"sku", "warehouse", "quantity"} - set(reader.fieldnames or ()):
            return {}, [{"line": 1, "reason": f"the header lacks {', '.join(sorted(missing))}"}]
        for row in reader:
            try:
                _count(row, counted)
            except StockSyncError as error:
                faults.append({"line": reader.line_num, "reason": str(error)})
    except UnicodeDecodeError as error:
        faults.append({"line": content.count(b"\n", 0, error.start) + 1, "reason": "the file is not UTF-8"})
    except csv.Error as error:
        faults.append({"line": reader.line_num + 1, "reason": f"not CSV: {error}"})
    return counted, faults


def _count(row: dict[str, Any], counted: dict[str, dict[str, int]]) -> None:
    sku, warehouse = check_word("sku", row["sku"]), check_word("warehouse", row["warehouse"])
    quantity = str(row["quantity"]).strip()
    # Python refuses to read a number of thousands of digits.
    if not (quantity.isascii() and quantity.isdigit() and len(quantity) < 20):
        raise StockSyncError(f"quantity: a whole number from 0 is needed, got {quantity!r:.40}")
    if sku in counted.setdefault(warehouse, {}):
        raise StockSyncError(f"sku {sku} in warehouse {warehouse} appears more than once")
    counted[warehouse][sku] = check_quantity("quantity", int(quantity), least=0)
