"""`cleanup`."""

from __future__ import annotations

import click

from stocksync import runtime
from stocksync.cli.output import answer, json_option


@click.command()
@click.option("--dry-run", is_flag=True, help="Count what would go, and take nothing away.")
@json_option
def cleanup(dry_run: bool, as_json: bool) -> None:
    """Take away completed and cancelled operations, their logs and finished reports that are long at an end."""
    at = runtime.current()
    at.require_schema()
    report = at.cleanup(dry_run=dry_run).as_dict()
    answer(report, as_json, lambda: [f"{name}: {value}" for name, value in report.items()])


COMMANDS = (cleanup,)
