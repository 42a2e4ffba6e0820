"""`lanes list|pause|resume`: the sellers' accounts, and what holds their work back."""

from __future__ import annotations

import click

from stocksync import runtime
from stocksync.cli.output import answer, json_option, table
from stocksync.errors import StockSyncError


@click.group()
def lanes() -> None:
    """The sellers' accounts: all work of one takes turns with that of the others."""


@lanes.command("list")
@json_option
def list_(as_json: bool) -> None:
    """Every lane, what waits in it, and why it is held back; the breaker of the remote."""
    at = runtime.current()
    at.require_schema()
    rows = at.queries.lanes()
    until = at.breaker.open_until()

    columns = ("token_id", "orders_waiting", "next_due_at", "paused", "snoozed_until", "paused_reason")
    remote = f"the remote: {'asked again at ' + until.isoformat() if until else 'open to all'}"
    document = {"lanes": rows, "breaker_open_until": until}
    answer(document, as_json, lambda: [*table(rows, columns), remote])


@lanes.command()
@click.argument("token")
@click.option("--reason", required=True, help="Why, for whoever looks.")
@json_option
def pause(token: str, reason: str, as_json: bool) -> None:
    """Deliver nothing of this seller until it is resumed."""
    at = runtime.current()
    at.require_schema()
    with at.database.scope():
        if not at.lanes.pause(token, reason):
            raise StockSyncError(f"lane {token} is unknown or paused already; `lanes list` shows all")
    answer({"token_id": token, "paused": True}, as_json, lambda: [f"lane {token} is paused"])


@lanes.command()
@click.argument("token")
@json_option
def resume(token: str, as_json: bool) -> None:
    """Deliver this seller's orders again, at once."""
    at = runtime.current()
    at.require_schema()
    with at.database.scope():
        if not at.lanes.resume(token):
            raise StockSyncError(f"lane {token} is unknown; `lanes list` shows all")
    at.wakeups.wake(token, force=True)
    answer({"token_id": token, "paused": False}, as_json, lambda: [f"lane {token} is worked on again"])


COMMANDS = (lanes,)
