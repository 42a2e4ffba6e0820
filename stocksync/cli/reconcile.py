"""`reconcile` and `differences list|fix|leave`: our orders beside the remote's."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import click

from stocksync import runtime
from stocksync.cli.intake import who
from stocksync.cli.output import answer, json_option, progress, table
from stocksync.errors import StockSyncError
from stocksync.runtime import Runtime
from stocksync.upkeep.discrepancies import DIFFERING

_LONGEST_WAIT = 5.0


def _ready() -> Runtime:
    at = runtime.current()
    at.require_schema()
    return at


@click.command()
@click.option("--token", help="Of this seller only; otherwise of every active one.")
@click.option("--dry-run", is_flag=True, help="Compare only: nothing is repaired or kept but the report.")
@click.option("--limit", type=click.IntRange(1), help="Orders looked at, of each seller.")
@json_option
def reconcile(token: str | None, dry_run: bool, limit: int | None, as_json: bool) -> None:
    """Compare our orders with the remote's, and have told again what may be.

    Exit code 1 when a run did not come to its end, or something waits for a person.
    """
    at = _ready()
    active = [lane for lane, _, _ in at.reconciliation.records.accounts()]
    if token is not None and token not in active:
        raise StockSyncError(f"account {token} is unknown or not active; `lanes list` shows all")
    # What was delivered just before the command would be called in flight: a person means it too.
    time.sleep(min(at.config.reconciliation_grace_seconds, _LONGEST_WAIT))
    with at.database.scope():
        runs = [
            at.reconciliation.run(lane, dry_run=dry_run, limit=limit, actor=who())
            for lane in progress([token] if token else active, "sellers")
        ]
    buckets: Counter[str] = Counter()
    for run in runs:
        buckets.update(run["buckets"])
    waiting = [one for run in runs for one in run["discrepancies"] if one.get("status", "open") == "open"]
    document: dict[str, Any] = {
        "complete": all(run["complete"] for run in runs),
        "dry_run": dry_run,
        "checked": sum(run["checked"] for run in runs),
        "fixed": sum(run["fixed"] for run in runs),
        "buckets": dict(sorted(buckets.items())),
        "runs": runs,
    }

    def lines() -> Iterator[str]:
        for run in runs:
            yield f"{run['token_id']}: {run['status']}" + (f" ({run['reason']})" if run["reason"] else "")
        yield from (
            f"  {count:>6} {kind}{'  <-' if kind in DIFFERING else ''}" for kind, count in buckets.items()
        )
        yield f"{document['checked']} orders compared, {document['fixed']} told again"
        yield from (f"  for a person: {one['kind']}, order {one['order_id']}" for one in waiting[:20])

    answer(document, as_json, lines)
    if waiting or not document["complete"]:
        raise click.exceptions.Exit(1)


@click.group()
def differences() -> None:
    """Orders of which we and the remote say different things."""


@differences.command("list")
@click.option("--all", "every", is_flag=True, help="Those that ended, too.")
@click.option("--limit", type=click.IntRange(1, 1000), default=200, show_default=True)
@json_option
def list_(every: bool, limit: int, as_json: bool) -> None:
    """What waits for a person."""
    rows = _ready().reconciliation.records.differences(status=None if every else "open", limit=limit)
    columns = ("id", "token_id", "order_id", "kind", "status", "ours", "remote", "first_seen_at")
    answer({"differences": rows}, as_json, lambda: table(rows, columns))


@differences.command()
@click.argument("difference")
@click.option("--reason", required=True, help="Why, for the log.")
@json_option
def fix(difference: str, reason: str, as_json: bool) -> None:
    """Tell the remote again what we say of this order; both sides are read again first."""
    outcome = _ready().reconciliation.fix(difference, actor=who(), reason=reason)
    said = "the order is told again" if outcome == "fixed" else "both sides agree by now"
    answer({"difference": difference, "outcome": outcome}, as_json, lambda: [said])


@differences.command()
@click.argument("difference")
@click.option("--reason", required=True, help="Why, for whoever looks.")
@json_option
def leave(difference: str, reason: str, as_json: bool) -> None:
    """Leave it as it is; it is not brought up again unless it changes."""
    _ready().reconciliation.leave(difference, actor=who(), reason=reason)
    answer({"difference": difference, "outcome": "left"}, as_json, lambda: ["left as it is"])


COMMANDS = (reconcile, differences)
