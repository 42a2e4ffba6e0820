"""The demo: a small shop's orders taken through an outage on this machine alone, and a report that checks itself."""

import contextlib
import csv
import json
import math
import os
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import urllib3

from stocksync.config import PREFIX, StockSyncConfig
from stocksync.orders.checkout_form import READY
from stocksync.queue.embedded import EmbeddedRedis
from stocksync.queue.stopping import Stop
from stocksync.runtime import Runtime
from stocksync.store.audit import audit
from stocksync.store.migrate import migrate
from stocksync.store.models import DEFAULT_WAREHOUSE
from stocksync.store.operation_lists import Filter

from .server import Sandbox
from .supervisor import Supervisor, free_port, on_stop_signals

_DATA = Path(__file__).parent / "data"
_HOST = "127.0.0.1"
_COMMANDS = {name: f"python -m stocksync {name}" for name in ("web", "worker", "scheduler")}
# Bounds of each wait: with starting and stopping the whole takes two minutes at most.
_FIRST_SECONDS, _DELIVERY_SECONDS, _STOP_SECONDS = 20.0, 60.0, 10.0
_OUTAGE_SECONDS, _ERROR_SHARE, _POLL_SECONDS = 4.0, 0.2, 0.2
_PAGE_RETRIES = urllib3.Retry(6, backoff_factor=0.2)  # some 10 s
_FOREIGN = (PREFIX, "DATABASE_URL", "REDIS_URL", "ALLEGRO_MICROSERVICE_", "GUNICORN_", "DYNO")
"""How variables begin by which the demo would touch, or be changed by, what is not its own."""
_WAITING = ("pending", "processing", "failed")
_LINE = ("token_id", "order_id", "line_item_id", "sku", "quantity")

Form = Mapping[str, Any]
"""A checkout form, as decoded JSON."""


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
    stop, token = Stop(), secrets.token_urlsafe()
    forms = [json.loads(line) for line in (_DATA / "orders.jsonl").read_text(encoding="utf-8").splitlines()]
    on_stop_signals(stop.set)
    with (
        tempfile.TemporaryDirectory(prefix="stocksync-demo-", ignore_cleanup_errors=True) as folder,
        EmbeddedRedis(Path(folder)) as redis,
        Sandbox(token) as sandbox,
        open(f"{folder}/processes.log", "w", encoding="utf-8") as log,
    ):
        _say(f"data in {folder}, what the processes say in processes.log there; all of it goes at the end")
        environment = _environment(folder, redis.url, sandbox.url, token, port)
        page = f"http://{_HOST}:{port}/"
        with contextlib.closing(Runtime(StockSyncConfig.load(environment))) as runtime:
            migrate(runtime.database)
            with Supervisor(_COMMANDS, environment, _STOP_SECONDS, log):
                demo = _Demo(forms, runtime, sandbox, page, stop)
                figures, all_is_well = demo.report(demo.play())
                if not all_is_well:
                    said = Path(log.name).read_text(encoding="utf-8").splitlines()
                    complaints = [line for line in said if " INFO " not in line]
                    _say("not all is well; the processes said last:", *complaints[-15:])
                if not exit_after:
                    _say(f"the page stays at {page}   (Ctrl-C stops everything)")
                    stop.wait()
                _say("stopping everything")
    if exit_after:
        click.echo(json.dumps(figures))
    return 0 if all_is_well else 1


@dataclass(frozen=True)
class _Demo:
    """The story and its report, while everything runs."""

    forms: Sequence[Form]
    runtime: Runtime
    sandbox: Sandbox
    page: str
    stop: Stop

    def play(self) -> float:
        """The story. Returns the seconds that it took."""
        with (_DATA / "stock.csv").open(encoding="utf-8", newline="") as file:
            counted = {row["sku"]: int(row["quantity"]) for row in csv.DictReader(file)}
        self.runtime.inventory.set_on_hand(counted, DEFAULT_WAREHOUSE, actor="demo", reason="the first count")
        _say(f"{len(counted)} SKUs are on hand; the page comes up at {self.page}")
        half = len(self.forms) // 2
        started = time.monotonic()
        self.take(self.forms[:half])
        _say(f"{half} of {len(self.forms)} orders taken, their stock deducted")
        self.watch_delivery(len(_stock_lines(self.forms[:half])) / 2, _FIRST_SECONDS)
        _say(
            f"the microservice goes down for {_OUTAGE_SECONDS:g} s, connections are refused; orders keep coming"
        )
        back = time.monotonic() + _OUTAGE_SECONDS
        self.sandbox.refuse()
        self.take(self.forms[half:])
        self.watch_delivery(math.inf, back - time.monotonic())
        self.sandbox.set_faults(error_share=_ERROR_SHARE)
        self.sandbox.accept()
        _say(f"the microservice is back, and answers {_ERROR_SHARE:.0%} of all requests with 503")
        self.watch_delivery(len(_stock_lines(self.forms)), _DELIVERY_SECONDS)
        return time.monotonic() - started

    def take(self, forms: Sequence[Form]) -> None:
        """Process `forms`. Raises click.Abort when told to stop."""
        with self.runtime.database.scope(), _bar("orders", len(forms)) as bar:
            for form in forms:
                self.runtime.orders.process_order_stock_update(form)
                bar.update(1)
                if self.stop.is_set():
                    raise click.Abort

    def watch_delivery(self, enough: float, seconds: float) -> None:
        """Show how many operations are through, until `enough` are or the time is up; click.Abort as above."""
        ends, total, done = time.monotonic() + seconds, len(_stock_lines(self.forms)), 0
        with _bar("delivered", total) as bar:
            while done < enough and time.monotonic() < ends:
                if self.stop.wait(_POLL_SECONDS):
                    raise click.Abort
                counts = self.runtime.operation_lists.by_status()
                done = counts["completed"] + counts["failed"]
                bar.update(done - bar.pos)
        _say(f"{done} of {total} operations delivered")

    def report(self, seconds: float) -> tuple[dict[str, int | bool], bool]:
        """Print what came of it. Returns the figures, and whether all is well."""
        rows, expected = self.operations(), _stock_lines(self.forms)
        counts = Counter(row["status"] for row in rows)
        book = {_order_of(row): row["is_stock_updated"] for row in self.sandbox.orders()}
        differing = self.differing_orders(book)
        # Safe is what still waits for somebody, or is delivered and known there.
        safe = {
            tuple(row[name] for name in _LINE)
            for row in rows
            if row["status"] in _WAITING or (row["status"] == "completed" and _order_of(row) in book)
        }
        findings, page_answers = audit(self.runtime.database), self.page_answers()
        figures: dict[str, int | bool] = {
            "orders": len(self.forms),
            "operations": len(rows),
            "completed": counts["completed"],
            "failed": counts["failed"],
            "pending": counts["pending"] + counts["processing"],
            "lost": len(expected - safe),
            "remote_agrees": not differing,
        }
        orders, sellers = {line[:2] for line in expected}, {form["token_id"] for form in self.forms}
        first = sum(row["status"] == "completed" and row["retry_count"] == 0 for row in rows)
        answers = self.sandbox.stats()["answers"]
        for name, text in {
            "orders": f"{len(self.forms)} taken, {len(orders)} of them with stock, of {len(sellers)} sellers",
            "operations": "{operations} recorded: {completed} completed, {failed} failed, {pending} waiting, "
            "{lost} lost".format(**figures),
            "first try": f"{first / max(1, len(rows)):.0%} of the operations; "
            f"the others took {sum(row['retry_count'] for row in rows)} retries",
            "outage": f"{_OUTAGE_SECONDS:g} s refused, then {answers.get('503', 0)} of {sum(answers.values())} "
            "answers were 503",
            "time": f"{seconds:.1f} s from the first order on, the outage included",
            "remote": f"{len(orders) - len(differing)} of {len(orders)} orders as we say and as the file implies"
            + (f", but not {', '.join(differing[:5])}" if differing else ""),
            "audit": "; ".join(finding.meaning for finding in findings) or "every promise holds",
            "page": f"{self.page} {'answers' if page_answers else 'does not answer'}",
        }.items():
            click.echo(f"{name:<12}{text}")
        unwanted = figures["failed"] or figures["pending"] or figures["lost"] or differing or findings
        return figures, not unwanted and len(rows) == len(expected) and page_answers

    def differing_orders(self, book: Mapping[tuple[str, str], bool]) -> list[str]:
        """Orders of which the remote's `book` does not say what the file implies, or we do not."""
        implied = {line[:2]: True for line in _stock_lines(self.forms)}
        told = self.runtime.queries.told()
        said = {order: flag for order, (flag, accepted) in told.items() if flag == accepted}
        orders = implied.keys() | told.keys() | book.keys()
        return sorted(o[1] for o in orders if not implied.get(o) is said.get(o) is book.get(o) is True)

    def operations(self) -> list[dict[str, Any]]:
        """All operations, read in pages."""
        lists, now = self.runtime.operation_lists, self.runtime.clock()
        pages = range(0, sum(lists.by_status().values()), 200)
        return [
            row for start in pages for row in lists.page(Filter(), now, limit=200, offset=start).operations
        ]

    def page_answers(self) -> bool:
        """Whether the page's process is there, or comes up soon."""
        try:
            return (
                urllib3.request("GET", f"{self.page}healthz", timeout=2, retries=_PAGE_RETRIES).status == 200
            )
        except urllib3.exceptions.HTTPError:
            return False


def _environment(folder: str, redis_url: str, sandbox_url: str, token: str, port: int) -> dict[str, str]:
    """The environment of all processes: ours without what belongs to other installations."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)} | {
        f"{PREFIX}RETRY_INITIAL_DELAY": "1",
        f"{PREFIX}RETRY_MAX_DELAY": "5",
        f"{PREFIX}RETRY_MAX_ATTEMPTS": "12",
        f"{PREFIX}SWEEP_INTERVAL_SECONDS": "3",
        f"{PREFIX}DATA_DIR": folder,
        "REDIS_URL": redis_url,
        "ALLEGRO_MICROSERVICE_BASE_URL": sandbox_url,
        "ALLEGRO_MICROSERVICE_JWT_TOKEN": token,
        "HOST": _HOST,
        "PORT": str(port),
        "NO_PROXY": _HOST,
        "no_proxy": _HOST,
    }


def _order_of(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["token_id"], row["order_id"]


def _stock_lines(forms: Sequence[Form]) -> set[tuple[Any, ...]]:
    """`_LINE` of every order line that is to be deducted."""
    return {
        (form["token_id"], form["id"], line["id"], line["offer"]["external"]["id"], line["quantity"])
        for form in forms
        if form["status"] == READY
        for line in form["lineItems"]
        if line["offer"]["external"]
    }


def _bar(label: str, length: int) -> Any:
    """A progress bar on a terminal, nothing on a pipe."""
    return click.progressbar(length=length, label=label, file=sys.stderr, hidden=not sys.stderr.isatty())


def _say(*lines: str) -> None:
    click.echo("\n".join(lines), err=True)
