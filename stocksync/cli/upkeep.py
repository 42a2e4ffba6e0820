"""`sweep`, `cleanup`, `audit`, `reconcile`, `differences ...`, `monitor`, `alerts ...`: what runs by itself, run by hand."""

import time
from collections import Counter
from dataclasses import asdict
from uuid import UUID

import click

from stocksync.cli.frame import Answer, actor, cli, command, names_and_values, progress, table
from stocksync.errors import StockSyncError
from stocksync.runtime import Runtime
from stocksync.store.audit import audit, per_lane
from stocksync.upkeep.alert_texts import title
from stocksync.upkeep.discrepancies import DIFFERING


@command()
def sweep(runtime: Runtime) -> Answer:
    """Release what dead workers hold, and wake every lane with due work."""
    return names_and_values(runtime.periodic.sweep())


@command()
@click.option("--dry-run", is_flag=True, help="Count what would be deleted, and delete nothing.")
def cleanup(runtime: Runtime, dry_run: bool) -> Answer:
    """Delete old operations that are completed or cancelled, their logs, and old reports."""
    return names_and_values(runtime.periodic.cleanup(dry_run=dry_run))


@command(name="audit")
def run_audit(runtime: Runtime) -> Answer:
    """Prove that nothing was lost and nothing happened twice; exit code 1 and the rows when not."""
    findings, lanes = audit(runtime.database), per_lane(runtime.database)
    return Answer(
        {"ok": not findings, "findings": [asdict(finding) for finding in findings], "lanes": lanes},
        [
            *(
                line
                for finding in findings
                for line in (
                    f"{finding.check}: {finding.meaning}",
                    *(f"  {', '.join(map(str, row))}" for row in finding.rows),
                )
            ),
            *(
                f"{lane}: {', '.join(f'{number} {name}' for name, number in numbers.items() if number)}"
                for lane, numbers in lanes.items()
            ),
            f"{len(findings)} promise(s) broken" if findings else "every promise holds",
        ],
        not findings,
    )


@command()
@click.option("--token", help="Of this seller only; otherwise of every active one.")
@click.option("--dry-run", is_flag=True, help="Compare only: nothing is repaired or kept but the report.")
@click.option("--limit", type=click.IntRange(1), help="Orders looked at, of each seller.")
def reconcile(runtime: Runtime, token: str | None, dry_run: bool, limit: int | None) -> Answer:
    """Compare our orders with the remote's, and repair what may be repaired.

    Exit code 1 when a run did not finish, or a difference waits for a person.
    """
    active = [lane for lane, _, _ in runtime.reconciliation.records.accounts()]
    if token is not None and token not in active:
        raise StockSyncError(f"account {token} is unknown or not active; `lanes list` shows all")
    # Wait a little: what was delivered just before would count as in flight.
    time.sleep(min(runtime.config.reconciliation_grace_seconds, 5.0))
    runs = [
        runtime.reconciliation.run(lane, dry_run=dry_run, limit=limit, actor=actor())
        for lane in progress([token] if token else active, "sellers")
    ]
    buckets = sum((Counter(run["buckets"]) for run in runs), Counter[str]())
    waiting = [one for run in runs for one in run["discrepancies"] if one.get("status", "open") == "open"]
    complete = all(run["complete"] for run in runs)
    checked, fixed = sum(run["checked"] for run in runs), sum(run["fixed"] for run in runs)
    return Answer(
        {
            "complete": complete,
            "dry_run": dry_run,
            "checked": checked,
            "fixed": fixed,
            "buckets": dict(sorted(buckets.items())),
            "runs": runs,
        },
        [
            *(
                f"{run['token_id']}: {run['status']}" + (f" ({run['reason']})" if run["reason"] else "")
                for run in runs
            ),
            *(f"  {count:>6} {kind}{'  <-' if kind in DIFFERING else ''}" for kind, count in buckets.items()),
            f"{checked} orders compared, {fixed} told again",
            *(f"  for a person: {one['kind']}, order {one['order_id']}" for one in waiting[:20]),
        ],
        complete and not waiting,
    )


@cli.group()
def differences() -> None:
    """Orders where we and the remote differ."""


@command(differences, "list")
@click.option("--all", "every", is_flag=True, help="Those that are settled, too.")
@click.option("--limit", type=click.IntRange(1, 1000), default=200, show_default=True)
def list_differences(runtime: Runtime, every: bool, limit: int) -> Answer:
    """What waits for a person."""
    rows = runtime.reconciliation.records.differences(status=None if every else "open", limit=limit)
    return Answer(
        {"differences": rows}, table(rows, "id token_id order_id kind status ours remote first_seen_at")
    )


@command(differences)
@click.argument("difference")
@click.option("--reason", required=True, help="Why, for the log.")
def fix(runtime: Runtime, difference: str, reason: str) -> Answer:
    """Send our state of this order to the remote again; reads both sides first."""
    outcome = runtime.reconciliation.fix(difference, actor=actor(), reason=reason)
    return Answer(
        {"difference": difference, "outcome": outcome},
        ["the order is told again" if outcome == "fixed" else "both sides agree by now"],
    )


@command(differences)
@click.argument("difference")
@click.option("--reason", required=True, help="Why, for whoever looks.")
def leave(runtime: Runtime, difference: str, reason: str) -> Answer:
    """Leave the difference as it is; it is shown again only if it changes."""
    runtime.reconciliation.leave(difference, actor=actor(), reason=reason)
    return Answer({"difference": difference, "outcome": "left"}, ["left as it is"])


@command()
def monitor(runtime: Runtime) -> Answer:
    """Check everything that can go wrong, and send the alerts. Exit code 1 while an alert is open."""
    report = runtime.periodic.monitor()
    kinds = report["open"]
    return Answer(
        report,
        [
            *(f"{count} x {title(kind, 'en')}" for kind, count in kinds.items()),
            f"{len(kinds)} kinds of alert open, {report['sent']} messages sent, {report['unsent']} pending",
        ],
        not kinds,
    )


@cli.group()
def alerts() -> None:
    """Alerts that were sent, or are to be sent."""


@command(alerts, "list")
@click.option("--all", "every", is_flag=True, help="Those that are over, too.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
def list_alerts(runtime: Runtime, every: bool, limit: int) -> Answer:
    """Alerts, the newest first."""
    rows = runtime.alerts.find(open_only=not every, limit=limit)
    return Answer(
        {"alerts": rows},
        table(rows, "id kind subject raised_at resolved_at acknowledged_by pending_notification details"),
    )


@command(alerts)
@click.argument("alert", type=click.UUID)
def acknowledge(runtime: Runtime, alert: UUID) -> Answer:
    """Say that you have seen the alert: it is not sent again."""
    if not runtime.alerts.acknowledge(alert, actor(), runtime.clock()):
        raise StockSyncError(f"alert {alert} is unknown, or acknowledged already; `alerts list` shows all")
    return Answer({"alert": alert, "acknowledged": True}, ["acknowledged"])
