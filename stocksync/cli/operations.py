"""`operations ...`, `lanes ...`, `deliver`, `status`: what is delivered, what waits, and what a person does about it."""

import time
from collections import Counter
from datetime import timedelta

import click

from stocksync.cli.frame import Answer, actor, cell, cli, command, names_and_values, table
from stocksync.errors import StockSyncError
from stocksync.runtime import Runtime
from stocksync.store.context import Wakeups
from stocksync.store.operation_lists import Filter
from stocksync.store.states import STATUSES


@cli.group()
def operations() -> None:
    """Operations and their log."""


@command(operations, "list")
@click.option("--status", type=click.Choice(STATUSES))
@click.option("--order", "order_id", help="Of this order only.")
@click.option("--in-doubt", is_flag=True, help="Those to be confirmed by a person only.")
@click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True)
@click.option("--offset", type=click.IntRange(0, 100_000), default=0)
def list_(
    runtime: Runtime, status: str | None, order_id: str | None, in_doubt: bool, limit: int, offset: int
) -> Answer:
    """The newest operations."""
    page = runtime.operation_lists.page(
        Filter(status=status, order_id=order_id, in_doubt=in_doubt),
        runtime.clock(),
        limit=limit,
        offset=offset,
    )
    return Answer(
        {"operations": page.operations, "total": page.total, "limit": limit, "offset": offset},
        [
            *table(
                page.operations, "id order_id operation_type sku quantity status retry_count next_retry_at"
            ),
            f"{len(page.operations)} of {'more than ' if page.more else ''}{page.total}",
        ],
    )


@command(operations)
@click.argument("operation_id")
def show(runtime: Runtime, operation_id: str) -> Answer:
    """One operation and what happened to it."""
    row = runtime.queries.operation(operation_id)
    return Answer(
        row,
        [
            *(f"{name:>16}: {value}" for name, value in row.items() if name != "log" and value is not None),
            "",
            *table(row["log"], "timestamp action status execution_time_ms details"),
        ],
    )


@command(operations)
@click.argument("operation_id")
@click.option("--reason", help="Why, for the log.")
def retry(runtime: Runtime, operation_id: str, reason: str | None) -> Answer:
    """Deliver a waiting or failed operation now."""
    runtime.service.retry(operation_id, actor=actor(), reason=reason)
    return _done(operation_id, "queued for retry")


@command(operations)
@click.argument("operation_id")
@click.option("--reason", required=True, help="Why, for the log.")
@click.option("--put-back", is_flag=True, help="The deduction never was: its units come back into our stock.")
def cancel(runtime: Runtime, operation_id: str, reason: str, put_back: bool) -> Answer:
    """Stop the delivery of an operation; its stock stays deducted unless it is put back."""
    runtime.service.cancel(operation_id, actor=actor(), reason=reason, put_back=put_back)
    return _done(operation_id, "cancelled, its stock put back" if put_back else "cancelled")


@command(operations)
@click.argument("operation_id")
@click.option("--deducted", is_flag=True, help="The foreign inventory did it.")
@click.option("--not-deducted", is_flag=True, help="It did not: the operation is cancelled.")
@click.option("--reason", help="How you know, for the log.")
def confirm(
    runtime: Runtime, operation_id: str, deducted: bool, not_deducted: bool, reason: str | None
) -> Answer:
    """Say whether the inventory did what an operation in doubt asked for (a refund: took the goods back)."""
    if deducted is not_deducted:
        raise click.UsageError("say either --deducted or --not-deducted; nothing is guessed")
    runtime.service.confirm(operation_id, deducted, actor=actor(), reason=reason)
    return _done(operation_id, "confirmed as done" if deducted else "confirmed as not done")


def _done(operation_id: str, what: str) -> Answer:
    return Answer(
        {"operation_id": operation_id, "message": f"operation {what}"}, [f"operation {operation_id} {what}"]
    )


@cli.group()
def lanes() -> None:
    """The sellers' accounts; their work takes turns."""


@command(lanes, "list")
def list_lanes(runtime: Runtime) -> Answer:
    """Every lane, what waits in it, and why it is held back; the breaker of the remote."""
    rows, until = runtime.queries.lanes(), runtime.breaker.open_until()
    return Answer(
        {"lanes": rows, "breaker_open_until": until},
        [
            *table(rows, "token_id orders_waiting next_due_at paused snoozed_until paused_reason"),
            f"the remote: {'asked again at ' + until.isoformat() if until else 'open to all'}",
        ],
    )


@command(lanes)
@click.argument("token")
@click.option("--reason", required=True, help="Why, for whoever looks.")
def pause(runtime: Runtime, token: str, reason: str) -> Answer:
    """Deliver nothing of this seller until it is resumed."""
    if not runtime.deliveries.pause(token, reason):
        raise StockSyncError(f"lane {token} is unknown or paused already; `lanes list` shows all")
    return Answer({"token_id": token, "paused": True}, [f"lane {token} is paused"])


@command(lanes)
@click.argument("token")
def resume(runtime: Runtime, token: str) -> Answer:
    """Deliver this seller's orders again, at once."""
    if not runtime.deliveries.resume(token):
        raise StockSyncError(f"lane {token} is unknown; `lanes list` shows all")
    runtime.wakeups.wake(token, force=True)
    return Answer({"token_id": token, "paused": False}, [f"lane {token} is worked on again"])


@command()
@click.option(
    "--wait", type=click.FloatRange(0, 86400), default=0.0, help="Seconds to wait for what is due later."
)
def deliver(runtime: Runtime, wait: float) -> Answer:
    """Deliver what is due in this process, without RQ."""
    runtime = Runtime(runtime.config, wakeups=Wakeups())
    engine = runtime.engine  # a missing address is said before anything else
    until = runtime.clock() + timedelta(seconds=wait)
    totals = Counter(succeeded=0, failed=0, max_retries_reached=0)
    while True:
        with runtime.database.scope():
            reports = [engine.drain(lane) for lane in runtime.deliveries.due_lanes()]
        for report in reports:
            totals.update(
                succeeded=report.figures["operations_completed"],
                failed=report.figures["operations_retrying"],
                max_retries_reached=report.figures["operations_failed"],
            )
        # A lane that a person paused has none.
        moment = min((report.next_due for report in reports if report.next_due), default=None)
        if moment is None or moment > max(until, runtime.clock()):
            break
        time.sleep(max(0.0, (moment - runtime.clock()).total_seconds()))
    runtime.close()
    return names_and_values({"processed": totals.total(), **totals, "next_due_at": moment})


@command()
def status(runtime: Runtime) -> Answer:
    """How things stand: counts, what waits, what needs a person."""
    found = runtime.queries.status(runtime.clock(), runtime.config.monitoring_stale_operation_hours) | {
        "tasks": runtime.periodic.latest()
    }
    never = {"status": "never ran", "started_at": None}
    return Answer(
        found,
        [
            f"{found['status']}: {found['orders_waiting']} orders wait, next at {cell(found['next_due_at'])}",
            *(f"  {name}: {value}" for name, value in found["statistics"].items()),
            f"  lost: {found['lost']}",
            f"  lines sold without an external id in 30 days: {found['lines_without_sku']}",
            *(
                f"  last {span}: {figures['delivered_operations']} delivered, "
                f"{_or_dash('{:.2%}', figures['first_attempt_share'])} at the first attempt, "
                f"mean retry {_or_dash('{:.0f} s', figures['mean_retry_seconds'])}"
                for span, figures in found["success"].items()
            ),
            *(
                f"  {task['task']} (every {task['interval']} s): {(task['last'] or never)['status']}, "
                f"begun {cell((task['last'] or never)['started_at'])}"
                for task in found["tasks"]
            ),
        ],
    )


def _or_dash(form: str, figure: float | None) -> str:
    return "-" if figure is None else form.format(figure)
