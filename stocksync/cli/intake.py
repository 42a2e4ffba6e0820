"""Taking a file of JSON lines: a line that can't be taken is reported with its number, the others go through."""

from __future__ import annotations

import getpass
import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import click
from peewee import PeeweeException

from stocksync.cli.output import answer, progress
from stocksync.errors import InvalidOrder, InvalidReturn, OrphanRefund, StockSyncError
from stocksync.orders.whole_orders import OrderResult, ReturnResult
from stocksync.runtime import Runtime

Take = Callable[[Any], OrderResult | ReturnResult]


def take_lines(at: Runtime, file: BinaryIO, what: str, take: Take, as_json: bool) -> None:
    """Call `take` for every line of `file`, and report. Exit code 1 when a line was refused.

    Args:
        what: what a line is, in the plural.
    """
    found: Counter[str] = Counter()
    refused: list[dict[str, Any]] = []
    operations = 0
    with at.database.scope():
        for number, line in enumerate(progress(file.readlines(), what), start=1):
            if not line.strip():
                continue
            try:
                result = take(_decoded(line, InvalidReturn if what == "returns" else InvalidOrder))
                found[result.status] += 1
                operations += len(result.operations)
            except (StockSyncError, PeeweeException) as error:
                refused.append({"line": number, **_refusal(error)})
    orphans = sum(refusal["error"] == OrphanRefund.__name__ for refusal in refused)
    counts = {what: sum(found.values()), **found, "operations": operations}
    document: dict[str, Any] = {**counts, "refused": refused}
    document |= {"orphans": orphans} if what == "returns" else {}

    def lines() -> Iterator[str]:
        for fault in refused:
            order, reason = fault["order_id"], fault["reason"]
            named = f"order {order}: " if order and str(order) not in reason else ""
            yield f"line {fault['line']}: {named}{reason}"
        aside = f", {orphans} of them without a known sale" if orphans else ""
        yield f"{document[what]} {what} taken, {operations} operations recorded, {len(refused)} lines refused{aside}"
        yield from (f"  {status}: {count}" for status, count in sorted(found.items()))

    answer(document, as_json, lines)
    if refused:
        raise click.exceptions.Exit(1)


def who() -> str:
    """The person at the command line, for the log."""
    try:
        return f"{getpass.getuser()} (command line)"
    except (KeyError, OSError):
        return "command line"


def _refusal(error: Exception) -> dict[str, Any]:
    reason = str(error)
    if isinstance(error, PeeweeException):
        reason = f"the database says: {(reason.strip() or type(error).__name__).splitlines()[0]}"
    return {"order_id": getattr(error, "order_id", None), "error": type(error).__name__, "reason": reason}


def _decoded(line: bytes, unreadable: type[InvalidOrder | InvalidReturn]) -> Any:
    try:
        return json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise unreadable(None, [f"not UTF-8 (byte {error.start})"]) from None
    except (ValueError, RecursionError) as error:
        raise unreadable(None, [f"not JSON: {error}"]) from None
