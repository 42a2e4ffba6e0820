"""`monitor` and `alerts list|acknowledge`."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import click

from stocksync import runtime
from stocksync.cli.intake import who
from stocksync.cli.output import answer, json_option, table
from stocksync.errors import StockSyncError
from stocksync.runtime import Runtime
from stocksync.upkeep.alert_texts import title


def _ready() -> Runtime:
    at = runtime.current()
    at.require_schema()
    return at


@click.command()
@json_option
def monitor(as_json: bool) -> None:
    """Look at everything that can go wrong, and have people told. Exit code 1 while an alert is open."""
    report = _ready().monitor()

    def lines() -> Iterator[str]:
        yield from (f"{count} x {title(kind, 'en')}" for kind, count in report["open"].items())
        yield f"{len(report['open'])} kinds of alert open, {report['sent']} messages sent, {report['unsent']} owed"

    answer(report, as_json, lines)
    if report["open"]:
        raise click.exceptions.Exit(1)


@click.group()
def alerts() -> None:
    """What people were, or are to be, told."""


@alerts.command("list")
@click.option("--all", "every", is_flag=True, help="Those that are over, too.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@json_option
def list_(every: bool, limit: int, as_json: bool) -> None:
    """Alerts, the newest first."""
    rows = _ready().alerts.find(open_only=not every, limit=limit)
    columns = ("id", "kind", "subject", "raised_at", "resolved_at", "acknowledged_by", "owed", "details")
    answer({"alerts": rows}, as_json, lambda: table(rows, columns))


@alerts.command()
@click.argument("alert", type=click.UUID)
@json_option
def acknowledge(alert: UUID, as_json: bool) -> None:
    """Say that you have seen it: it is not repeated any more."""
    at = _ready()
    if not at.alerts.acknowledge(alert, who(), at.clock()):
        raise StockSyncError(f"alert {alert} is unknown, or acknowledged already; `alerts list` shows all")
    answer({"alert": alert, "acknowledged": True}, as_json, lambda: ["acknowledged"])


COMMANDS = (monitor, alerts)
