"""`orders process|show|cancel|unlinked` and `returns process`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import BinaryIO

import click

from stocksync import runtime
from stocksync.cli.intake import take_lines, who
from stocksync.cli.output import answer, json_option, table
from stocksync.store.models import DEFAULT_WAREHOUSE


@click.group()
def orders() -> None:
    """Whole orders."""


@orders.command()
@click.argument("file", type=click.File("rb"))
@click.option("--warehouse", default=DEFAULT_WAREHOUSE, show_default=True, help="Where the goods go out.")
@click.option("--token", help="The seller account, for forms that do not name it.")
@json_option
def process(file: BinaryIO, warehouse: str, token: str | None, as_json: bool) -> None:
    """Make stock follow the orders of FILE (`-`: stdin): one checkout form a line, as JSON.

    A line that can't be taken is reported with its number and reason; the others go through. The exit code is
    then 1. Processing a file again deducts nothing again.
    """
    at = runtime.current()
    at.require_schema()
    at.orders.require_warehouse(warehouse)
    take = partial(at.orders.process_order_stock_update, warehouse=warehouse, token_id=token)
    take_lines(at, file, "orders", take, as_json)


@orders.command()
@click.argument("order")
@click.option("--token", required=True, help="The seller account.")
@click.option("--reason", help="Why, kept with the refunds.")
@click.option("--no-restock", is_flag=True, help="The goods do not come back into our stock.")
@json_option
def cancel(order: str, token: str, reason: str | None, no_restock: bool, as_json: bool) -> None:
    """Give back what is still deducted of an order, for good: its forms deduct nothing any more.

    An unknown order is remembered as cancelled.
    """
    at = runtime.current()
    at.require_schema()
    result = at.orders.cancel_order(order, token, restock=not no_restock, actor=who(), reason=reason)
    is_or_was = "was cancelled before" if result.status == "already_cancelled" else "is cancelled"
    said = f"order {order} {is_or_was}, {len(result.operations)} refunds recorded"
    answer(result.as_dict(), as_json, lambda: [said])


@orders.command()
@click.argument("order")
@click.option("--token", required=True, help="The seller account.")
@json_option
def show(order: str, token: str, as_json: bool) -> None:
    """One order: its lines, its operations, what we say and what the remote says."""
    at = runtime.current()
    at.require_schema()
    row = at.queries.order(token, order)

    def lines() -> Iterator[str]:
        yield f"order {row['order_id']} of {row['token_id']}: we say {row['is_stock_updated']}, "
        yield f"the remote last said {row['remote_flag']}; waiting: {row['waiting'] or 'for nothing'}"
        if row["differs"]:
            yield "the two differ"
        columns = ("line_id", "sku", "warehouse", "quantity", "deducted", "refunded", "moved_to")
        yield from table(row["lines"], columns)
        columns = ("id", "operation_type", "status", "sku", "quantity", "retry_count", "reason")
        yield from table(row["operations"], columns)

    answer(row, as_json, lines)


@orders.command()
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@json_option
def unlinked(limit: int, as_json: bool) -> None:
    """Lines sold without an external id, the newest first: nothing is deducted for them.

    Give the offer its external id at Allegro; orders after that are deducted.
    """
    at = runtime.current()
    at.require_schema()
    rows = at.queries.lines_without_sku(limit)
    columns = ("created_at", "token_id", "order_id", "line_id", "quantity")
    answer({"lines": rows}, as_json, lambda: table(rows, columns))


@click.group()
def returns() -> None:
    """Goods that came back."""


@returns.command("process")
@click.argument("file", type=click.File("rb"))
@click.option("--no-restock", is_flag=True, help="The goods do not come back into our stock.")
@click.option("--token", help="The seller account, for returns that do not name it.")
@json_option
def process_returns(file: BinaryIO, no_restock: bool, token: str | None, as_json: bool) -> None:
    """Take the returns of FILE (`-`: stdin) back: one a line, as JSON.

    Each needs return_id, order_id, line_item_id, sku, quantity and the seller's token_id. A return without a known
    sale is refused as an orphan, for a person; repeat it once the sale is recorded. Processing a file again changes
    nothing.
    """
    at = runtime.current()
    at.require_schema()
    take = partial(at.orders.process_return, restock=not no_restock, token_id=token)
    take_lines(at, file, "returns", take, as_json)


COMMANDS = (orders, returns)
