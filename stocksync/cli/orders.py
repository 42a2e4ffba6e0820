"""`orders process` and `orders show`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, BinaryIO

import click

from stocksync import runtime
from stocksync.cli.output import answer, json_option, progress, table
from stocksync.domain.errors import InvalidOrder, StockSyncError
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
    """Deduct the orders of FILE (`-`: stdin): one checkout form a line, as JSON.

    A line that can't be taken is reported with its number and reason; the others go through. The exit code is
    then 1. Processing a file again deducts nothing again.
    """
    at = runtime.current()
    at.require_schema()
    at.orders.require_warehouse(warehouse)
    found: Counter[str] = Counter()
    refused: list[dict[str, Any]] = []
    operations = 0
    with at.database.scope():
        for number, line in enumerate(progress(file.readlines(), "orders"), start=1):
            if not line.strip():
                continue
            try:
                result = at.orders.process_order_stock_update(_decoded(line), warehouse, token_id=token)
                found[result.status] += 1
                operations += len(result.operations)
            except StockSyncError as error:
                order_id = getattr(error, "order_id", None)
                refused.append(
                    {
                        "line": number,
                        "order_id": order_id,
                        "error": type(error).__name__,
                        "reason": str(error),
                    }
                )
    document = {"orders": sum(found.values()), **found, "operations": operations, "refused": refused}

    def lines() -> Iterator[str]:
        for fault in refused:
            order, reason = fault["order_id"], fault["reason"]
            named = f"order {order}: " if order and str(order) not in reason else ""
            yield f"line {fault['line']}: {named}{reason}"
        yield f"{document['orders']} orders taken, {operations} operations recorded, {len(refused)} lines refused"
        yield from (f"  {status}: {count}" for status, count in sorted(found.items()))

    answer(document, as_json, lines)
    if refused:
        raise click.exceptions.Exit(1)


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
        yield from table(row["lines"], ("line_id", "sku", "warehouse", "quantity", "deducted", "refunded"))
        yield from table(
            row["operations"], ("id", "operation_type", "status", "sku", "quantity", "retry_count")
        )

    answer(row, as_json, lines)


def _decoded(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InvalidOrder(None, [f"not UTF-8 (byte {error.start})"]) from None
    except (ValueError, RecursionError) as error:
        raise InvalidOrder(None, [f"not JSON: {error}"]) from None


COMMANDS = (orders,)
