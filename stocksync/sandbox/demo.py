"""The demo: a small shop's orders taken through an outage on this machine alone, and a report that checks itself."""

import contextlib
import csv
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import urllib3

from stocksync.config import PREFIX, StockSyncConfig
from stocksync.orders.checkout_form import READY
from stocksync.queue.embedded import EmbeddedRedis
from stocksync.queue.shutdown import on_stop_signals
from stocksync.runtime import Runtime
from stocksync.store.audit import audit
from stocksync.store.migrate import migrate
from stocksync.store.values import DEFAULT_WAREHOUSE

from .server import Sandbox
from .supervisor import Supervisor, free_port

_DATA = Path(__file__).parent / "data"
_HOST, _TOKEN = "127.0.0.1", "demo"
_COMMANDS = {name: f"python -m stocksync {name}" for name in ("web", "worker", "scheduler")}
# Bounds of each wait: with starting and stopping the whole takes two minutes at most.
_FIRST_SECONDS, _DELIVERY_SECONDS, _STOP_SECONDS = 20.0, 60.0, 10.0
_OUTAGE_SECONDS, _ERROR_SHARE, _POLL_SECONDS = 4.0, 0.2, 0.2
_FOREIGN = (PREFIX, "DATABASE_URL", "REDIS_URL", "ALLEGRO_MICROSERVICE_", "GUNICORN_", "DYNO")
"""How variables begin by which the demo would touch, or be changed by, what is not its own."""


def run_demo(exit_after: bool, port: int) -> int:
    """Show it all. Returns the exit code: 0 only if all was delivered, the remote agrees and the audit holds.

    The report goes to stdout, progress to stderr. Nothing that was started outlives this call.

    Args:
        exit_after: end after the report, with one JSON object as the last line of stdout; otherwise stay up
            until SIGINT, SIGTERM or SIGHUP.
        port: of the page; 0: a free one.

    Raises:
        StockSyncError: a part can't be started; the message says which and why.
        click.Abort: told to stop before the report.
    """
    port = free_port(_HOST, port)
    page = f"http://{_HOST}:{port}/"
    forms = [json.loads(line) for line in (_DATA / "orders.jsonl").read_text(encoding="utf-8").splitlines()]
    with (
        tempfile.TemporaryDirectory(prefix="stocksync-demo-", ignore_cleanup_errors=True) as folder,
        Sandbox(_TOKEN) as sandbox,
        open(f"{folder}/processes.log", "w", encoding="utf-8") as log,
    ):
        redis = EmbeddedRedis(Path(folder))
        environment = _environment(folder, redis.url, sandbox.url, port)
        with contextlib.closing(Runtime(StockSyncConfig.load(environment))) as runtime:
            on_stop_signals(runtime.stop.set)
            _say(
                f"data in {folder}, what the processes say in processes.log there; all of it goes at the end"
            )
            migrate(runtime.database)
            with redis, Supervisor(_COMMANDS, environment, _STOP_SECONDS, log):
                figures, all_is_well = _report(
                    forms, runtime, sandbox, page, _play(forms, runtime, sandbox, page)
                )
                if not all_is_well:
                    said = Path(log.name).read_text(encoding="utf-8").splitlines()
                    _say(
                        "not all is well; the processes said last:",
                        *[line for line in said if " INFO " not in line][-15:],
                    )
                if not exit_after:
                    _say(f"the page stays at {page}   (Ctrl-C stops everything)")
                    runtime.stop.wait()
                _say("stopping everything")
    if exit_after:
        click.echo(json.dumps(figures))
    return 0 if all_is_well else 1


def _environment(folder: str, redis_url: str, sandbox_url: str, port: int) -> dict[str, str]:
    """The environment of all processes: ours without what belongs to other installations."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)} | {
        f"{PREFIX}RETRY_INITIAL_DELAY": "1",
        f"{PREFIX}RETRY_MAX_DELAY": "5",
        f"{PREFIX}RETRY_MAX_ATTEMPTS": "12",
        f"{PREFIX}SWEEP_INTERVAL_SECONDS": "3",
        f"{PREFIX}DATA_DIR": folder,
        "REDIS_URL": redis_url,
        "ALLEGRO_MICROSERVICE_BASE_URL": sandbox_url,
        "ALLEGRO_MICROSERVICE_JWT_TOKEN": _TOKEN,
        "HOST": _HOST,
        "PORT": str(port),
        "NO_PROXY": _HOST,
        "no_proxy": _HOST,
    }


def _play(forms: list[dict[str, Any]], runtime: Runtime, sandbox: Sandbox, page: str) -> float:
    """The story. Returns the seconds that it took."""
    counted = {
        row["sku"]: int(row["quantity"])
        for row in csv.DictReader((_DATA / "stock.csv").read_text(encoding="utf-8").splitlines())
    }
    runtime.inventory.set_on_hand(counted, DEFAULT_WAREHOUSE, actor="demo", reason="the first count")
    _say(f"{len(counted)} SKUs are on hand; the page comes up at {page}")
    half, total = len(forms) // 2, len(_stock_lines(forms))
    started = time.monotonic()
    _take(forms[:half], runtime)
    _say(f"{half} of {len(forms)} orders taken, their stock deducted")
    _watch_delivery(runtime, total, len(_stock_lines(forms[:half])) / 2, _FIRST_SECONDS)
    _say(f"the microservice goes down for {_OUTAGE_SECONDS:g} s, connections are refused; orders keep coming")
    back = time.monotonic() + _OUTAGE_SECONDS
    sandbox.refuse()
    _take(forms[half:], runtime)
    _watch_delivery(runtime, total, float("inf"), back - time.monotonic())
    sandbox.set_faults(error_share=_ERROR_SHARE)
    sandbox.accept()
    _say(f"the microservice is back, and answers {_ERROR_SHARE:.0%} of all requests with 503")
    _watch_delivery(runtime, total, total, _DELIVERY_SECONDS)
    return time.monotonic() - started


def _take(forms: list[dict[str, Any]], runtime: Runtime) -> None:
    """Process `forms`, with a progress bar on a terminal. Raises click.Abort when told to stop."""
    with (
        runtime.database.scope(),
        click.progressbar(forms, label="orders", file=sys.stderr, hidden=not sys.stderr.isatty()) as bar,
    ):
        for form in bar:
            runtime.orders.process_order_stock_update(form)
            if runtime.stop.is_set():
                raise click.Abort


def _watch_delivery(runtime: Runtime, total: int, enough: float, seconds: float) -> None:
    """Wait until `enough` of all operations are through or the time is up, with a progress bar on a terminal.

    Raises click.Abort when told to stop.
    """
    ends, done = time.monotonic() + seconds, 0
    with click.progressbar(
        length=total, label="delivered", file=sys.stderr, hidden=not sys.stderr.isatty()
    ) as bar:
        while done < enough and time.monotonic() < ends:
            if runtime.stop.wait(_POLL_SECONDS):
                raise click.Abort
            counts = runtime.operation_lists.by_status()
            done = counts["completed"] + counts["failed"]
            bar.update(done - bar.pos)
    _say(f"{done} of {total} operations delivered")


def _report(
    forms: list[dict[str, Any]], runtime: Runtime, sandbox: Sandbox, page: str, seconds: float
) -> tuple[dict[str, int | bool], bool]:
    """Print what came of it. Returns the figures, and whether all is well."""
    expected = _stock_lines(forms)
    orders = {line[:2] for line in expected}
    told = runtime.queries.told()
    book = {(row["token_id"], row["order_id"]): row["is_stock_updated"] for row in sandbox.orders()}
    agreed = {order for order in orders if told.get(order) == (True, True) and book.get(order) is True}
    differing = sorted(order_id for _, order_id in (orders | told.keys() | book.keys()) - agreed)
    operations = [(order, row) for order in told for row in runtime.queries.order(*order)["operations"]]
    # Safe is what still waits for somebody, or is delivered and known there.
    safe = {
        (*order, row["line_item_id"], row["sku"], row["quantity"])
        for order, row in operations
        if row["status"] in ("pending", "processing", "failed")
        or (row["status"] == "completed" and order in book)
    }
    counts, answers = runtime.operation_lists.by_status(), sandbox.stats()["answers"]
    figures: dict[str, int | bool] = {
        "orders": len(forms),
        "operations": sum(counts.values()),
        "completed": counts["completed"],
        "failed": counts["failed"],
        "pending": counts["pending"] + counts["processing"],
        "lost": len(expected - safe),
        "remote_agrees": not differing,
    }
    retries = [row["retry_count"] for _, row in operations if row["status"] == "completed"]
    findings, page_answers = audit(runtime.database), _answers(page)
    for name, text in {
        "orders": f"{len(forms)} taken, {len(orders)} of them with stock, of {len({form['token_id'] for form in forms})} sellers",
        "operations": "{operations} recorded: {completed} completed, {failed} failed, {pending} waiting, "
        "{lost} lost".format(**figures),
        "first try": f"{retries.count(0) / max(1, len(operations)):.0%} of the operations; "
        f"the others took {sum(row['retry_count'] for _, row in operations)} retries",
        "outage": f"{_OUTAGE_SECONDS:g} s refused, then {answers.get('503', 0)} of {sum(answers.values())} "
        "answers were 503",
        "time": f"{seconds:.1f} s from the first order on, the outage included",
        "remote": f"{len(agreed)} of {len(orders)} orders as we say and as the file implies"
        + (f", but not {', '.join(differing[:5])}" if differing else ""),
        "audit": "; ".join(finding.meaning for finding in findings) or "every promise holds",
        "page": f"{page} {'answers' if page_answers else 'does not answer'}",
    }.items():
        click.echo(f"{name:<12}{text}")
    return figures, (
        len(operations) == figures["operations"] == figures["completed"] == len(expected)
        and not (figures["lost"] or differing or findings)
        and page_answers
    )


def _answers(page: str) -> bool:
    """Whether the page's process is there, or comes up soon."""
    try:
        patience = urllib3.Retry(6, backoff_factor=0.2)  # some 10 s
        return urllib3.request("GET", f"{page}healthz", timeout=2, retries=patience).status == 200
    except urllib3.exceptions.HTTPError:
        return False


def _stock_lines(forms: list[dict[str, Any]]) -> set[tuple[Any, ...]]:
    """(seller, order, line, SKU, quantity) of every order line that is to be deducted."""
    return {
        (form["token_id"], form["id"], line["id"], line["offer"]["external"]["id"], line["quantity"])
        for form in forms
        if form["status"] == READY
        for line in form["lineItems"]
        if line["offer"]["external"]
    }


def _say(*lines: str) -> None:
    click.echo("\n".join(lines), err=True)
