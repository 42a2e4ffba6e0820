"""`operations ...`, `deliver`, `sweep`, `status`, `audit`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import click

from stocksync import runtime
from stocksync.cli.intake import who
from stocksync.cli.output import answer, json_option, table
from stocksync.queue.wakeups import NoWakeups
from stocksync.runtime import Runtime
from stocksync.store.audit import audit as run_audit
from stocksync.store.audit import per_lane
from stocksync.store.operation_lists import Filter
from stocksync.store.states import STATUSES


def _ready() -> Runtime:
    at = runtime.current()
    at.require_schema()
    return at


@click.group()
def operations() -> None:
    """Operations and their log."""


@operations.command("list")
@click.option("--status", type=click.Choice(STATUSES))
@click.option("--order", help="Of this order only.")
@click.option("--in-doubt", is_flag=True, help="Those to be confirmed by a person only.")
@click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True)
@click.option("--offset", type=click.IntRange(0, 100_000), default=0)
@json_option
def list_(
    status: str | None, order: str | None, in_doubt: bool, limit: int, offset: int, as_json: bool
) -> None:
    """The newest operations."""
    at = _ready()
    wanted = Filter(status=status, order_id=order, in_doubt=in_doubt)
    page = at.operation_lists.page(wanted, at.clock(), limit=limit, offset=offset)
    rows, total = page.operations, page.total
    columns = (
        "id",
        "order_id",
        "operation_type",
        "sku",
        "quantity",
        "status",
        "retry_count",
        "next_retry_at",
    )

    def lines() -> Iterator[str]:
        yield from table(rows, columns)
        yield f"{len(rows)} of {'more than ' if page.more else ''}{total}"

    answer({"operations": rows, "total": total, "limit": limit, "offset": offset}, as_json, lines)


@operations.command()
@click.argument("operation_id")
@json_option
def show(operation_id: str, as_json: bool) -> None:
    """One operation and what happened to it."""
    row = _ready().queries.operation(operation_id)

    def lines() -> Iterator[str]:
        yield from (
            f"{name:>16}: {value}" for name, value in row.items() if name != "log" and value is not None
        )
        yield ""
        yield from table(row["log"], ("timestamp", "action", "status", "execution_time_ms", "details"))

    answer(row, as_json, lines)


@operations.command()
@click.argument("operation_id")
@click.option("--reason", help="Why, for the log.")
@json_option
def retry(operation_id: str, reason: str | None, as_json: bool) -> None:
    """Have a waiting or given-up operation delivered now."""
    _ready().service.retry(operation_id, actor=who(), reason=reason)
    _said(operation_id, "queued for retry", as_json)


@operations.command()
@click.argument("operation_id")
@click.option("--reason", required=True, help="Why, for the log.")
@click.option("--put-back", is_flag=True, help="The deduction never was: its units come back into our stock.")
@json_option
def cancel(operation_id: str, reason: str, put_back: bool, as_json: bool) -> None:
    """Stop the delivery of an operation; its stock stays deducted unless it is put back."""
    _ready().service.cancel(operation_id, actor=who(), reason=reason, put_back=put_back)
    _said(operation_id, "cancelled, its stock put back" if put_back else "cancelled", as_json)


@operations.command()
@click.argument("operation_id")
@click.option("--deducted", is_flag=True, help="The foreign inventory did it.")
@click.option("--not-deducted", is_flag=True, help="It did not: the operation is cancelled.")
@click.option("--reason", help="How you know, for the log.")
@json_option
def confirm(operation_id: str, deducted: bool, not_deducted: bool, reason: str | None, as_json: bool) -> None:
    """Say what an operation in doubt came to: the inventory did it (for a refund: took the goods back), or not."""
    if deducted is not_deducted:
        raise click.UsageError("say either --deducted or --not-deducted; nothing is guessed")
    _ready().service.confirm(operation_id, deducted, actor=who(), reason=reason)
    _said(operation_id, "confirmed as done" if deducted else "confirmed as not done", as_json)


@click.command()
@click.option(
    "--wait", type=click.FloatRange(0, 86400), default=0.0, help="Seconds to wait for what is due later."
)
@json_option
def deliver(wait: float, as_json: bool) -> None:
    """Deliver what is due in this process, without RQ."""
    at = Runtime(runtime.current().config, wakeups=NoWakeups())
    at.require_schema()
    _ = at.sender  # a missing address is said before anything else
    until = at.clock() + timedelta(seconds=wait)
    totals = dict.fromkeys(("processed", "succeeded", "failed", "max_retries_reached"), 0)
    while True:
        moments = []
        with at.database.scope():
            for lane in at.deliveries.due_lanes():
                report = at.engine.drain(lane)
                totals["succeeded"] += report.operations_completed
                totals["failed"] += report.operations_retrying
                totals["max_retries_reached"] += report.operations_failed
                if report.next_due is not None:  # a lane that a person paused has none
                    moments.append(report.next_due)
        moment = min(moments, default=None)
        if moment is None or moment > max(until, at.clock()):
            break
        time.sleep(max(0.0, (moment - at.clock()).total_seconds()))
    totals["processed"] = sum(totals.values())
    at.close()
    document = totals | {"next_due_at": moment}
    answer(document, as_json, lambda: [f"{name}: {value}" for name, value in document.items()])


@click.command()
@json_option
def sweep(as_json: bool) -> None:
    """Return what dead workers left, and wake every lane with due work."""
    report = _ready().sweep().as_dict()
    answer(report, as_json, lambda: [f"{name}: {value}" for name, value in report.items()])


@click.command()
@json_option
def status(as_json: bool) -> None:
    """How things stand: counts, what waits, what needs a person."""
    at = _ready()
    document = at.queries.status(at.clock(), at.config.monitoring_stale_operation_hours)
    document["tasks"] = at.tasks()

    def lines() -> Iterator[str]:
        yield f"{document['status']}: {document['orders_waiting']} orders wait, next at {document['next_due_at'] or '-'}"
        yield from (f"  {name}: {value}" for name, value in document["statistics"].items())
        yield f"  lost: {document['lost']}"
        yield f"  lines sold without an external id in 30 days: {document['lines_without_sku']}"
        for span, figures in document["success"].items():
            share, retry = figures["first_attempt_share"], figures["mean_retry_seconds"]
            yield (
                f"  last {span}: {figures['delivered_operations']} delivered, "
                f"{'-' if share is None else f'{share:.2%}'} at the first attempt, "
                f"mean retry {'-' if retry is None else f'{retry:.0f} s'}"
            )
        for task in document["tasks"]:
            last = task["last"] or {"status": "never ran", "started_at": "-"}
            yield f"  {task['task']} (every {task['interval']} s): {last['status']}, begun {last['started_at']}"

    answer(document, as_json, lines)


@click.command()
@json_option
def audit(as_json: bool) -> None:
    """Prove that nothing was lost and nothing happened twice; exit code 1 and the rows when not."""
    database = _ready().database
    findings = run_audit(database)
    lanes = per_lane(database)
    document: dict[str, Any] = {
        "ok": not findings,
        "findings": [{"check": f.check, "meaning": f.meaning, "rows": f.rows} for f in findings],
        "lanes": lanes,
    }

    def lines() -> Iterator[str]:
        for finding in findings:
            yield f"{finding.check}: {finding.meaning}"
            yield from (f"  {', '.join(map(str, row))}" for row in finding.rows)
        for lane, numbers in lanes.items():
            yield f"{lane}: {', '.join(f'{number} {name}' for name, number in numbers.items() if number)}"
        yield "every promise holds" if not findings else f"{len(findings)} promise(s) broken"

    answer(document, as_json, lines)
    if findings:
        raise click.exceptions.Exit(1)


def _said(operation_id: str, what: str, as_json: bool) -> None:
    document = {"operation_id": operation_id, "message": f"operation {what}"}
    answer(document, as_json, lambda: [f"operation {operation_id} {what}"])


COMMANDS = (operations, deliver, sweep, status, audit)
