"""The demo: a small shop's orders taken through an outage on this machine alone, and a report that checks itself."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import os
import secrets
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import click
import urllib3

from stocksync.config import PREFIX, StockSyncConfig
from stocksync.domain.checkout_form import READY
from stocksync.domain.errors import StockSyncError
from stocksync.embedded import EmbeddedRedis
from stocksync.runtime import Runtime
from stocksync.store.migrate import migrate
from stocksync.store.models import DEFAULT_WAREHOUSE
from stocksync.store.operation_lists import Filter
from stocksync.upkeep.audit import audit

from .preflight import check_port_free, read_procfile
from .server import Sandbox
from .supervisor import Supervisor, on_stop_signals

_DATA = Path(__file__).parent / "data"
_HOST = "127.0.0.1"
# Bounds of each wait: with starting and stopping the whole takes two minutes at most.
_FIRST_SECONDS, _DELIVERY_SECONDS, _PAGE_SECONDS, _STOP_SECONDS = 20.0, 60.0, 10.0, 10.0
_OUTAGE_SECONDS, _ERROR_SHARE, _LOOK_SECONDS = 4.0, 0.2, 0.2
_FOREIGN = (PREFIX, "DATABASE_URL", "REDIS_URL", "ALLEGRO_MICROSERVICE_", "GUNICORN_", "DYNO")
"""How variables begin by which the demo would touch, or be changed by, what is not its own."""

_LINE = ("token_id", "order_id", "line_item_id", "sku", "quantity")

Form = Mapping[str, Any]
"""A checkout form, as decoded JSON."""
Figures = dict[str, int | bool]


def run_demo(exit_after: bool, port: int) -> int:
    """Show it all. Answers with the exit code: 0 only if all was delivered, the remote agrees and the audit holds.

    The report goes to stdout, what is said on the way to stderr. Nothing that was started outlives this call.

    Args:
        exit_after: end after the report, with one JSON object as the last line of stdout; otherwise stay up
            until SIGINT, SIGTERM or SIGHUP.
        port: of the page; 0: a free one.

    Raises:
        StockSyncError: a part can't be started; the message says which and why.
        click.Abort: told to stop before the report.
    """
    if port:
        check_port_free(_HOST, port)
    text = (_DATA / "orders.jsonl").read_text(encoding="utf-8")
    forms: list[Form] = [json.loads(line) for line in text.splitlines()]
    with _stage(port) as stage:
        figures, all_is_well = _report(stage, forms, *_play(stage, forms))
        if not all_is_well:
            said = stage.log.read_text(encoding="utf-8", errors="replace").splitlines()
            complaints = [line for line in said if " INFO " not in line]
            _say("not all is well; the processes said last:", *complaints[-15:])
        if not exit_after:
            _say(f"the page stays at {stage.page}   (Ctrl-C stops everything)")
            stage.stop.wait()
        _say("stopping everything")
    if exit_after:
        click.echo(json.dumps(figures))
    return 0 if all_is_well else 1


@dataclass(frozen=True, slots=True)
class _Stage:
    """Everything that runs while the demo does."""

    log: Path
    page: str
    at: Runtime
    sandbox: Sandbox
    stop: Event

    def until(self, happened: Callable[[], bool], seconds: float) -> bool:
        """Whether it happened within `seconds`. Raises click.Abort when told to stop."""
        ends = time.monotonic() + seconds
        while not happened():
            if time.monotonic() >= ends:
                return False
            if self.stop.wait(_LOOK_SECONDS):
                raise click.Abort
        return True

    def take(self, forms: Sequence[Form]) -> int:
        """Process `forms`. Answers with how many were taken."""
        with self.at.database.scope(), _bar("orders", len(forms)) as show:
            for number, form in enumerate(forms, 1):
                self.at.orders.process_order_stock_update(form)
                show(number)
                if self.stop.is_set():
                    raise click.Abort
        return len(forms)

    def watch_delivery(self, operations: int, enough: float, seconds: float) -> None:
        """Show how many of all `operations` are through, until `enough` are or the time is up."""
        done = 0
        with _bar("delivered", operations) as show:

            def is_enough() -> bool:
                nonlocal done
                counts = self.at.operation_lists.by_status()
                done = counts["completed"] + counts["failed"]
                show(done)
                return done >= enough

            self.until(is_enough, seconds)
        _say(f"{done} of {operations} operations delivered")

    def page_answers(self) -> bool:
        """Whether the page's process is there."""
        try:
            return urllib3.request("GET", f"{self.page}healthz", timeout=2, retries=False).status == 200
        except urllib3.exceptions.HTTPError:
            return False


@contextlib.contextmanager
def _stage(port: int) -> Iterator[_Stage]:
    """Start everything around a temporary folder; end it in the reverse order, whatever happens meanwhile."""
    project, commands = _procfile()
    with contextlib.ExitStack() as running:
        stop = Event()
        running.enter_context(on_stop_signals(stop.set))
        try:
            made = tempfile.TemporaryDirectory(prefix="stocksync-demo-", ignore_cleanup_errors=True)
        except OSError as error:
            raise StockSyncError(f"no temporary folder can be made: {error.strerror}; set TMPDIR") from None
        folder = Path(running.enter_context(made))
        log = folder / "processes.log"
        _say(f"data in {folder}, what the processes say in {log.name} there; all of it goes at the end")
        running.enter_context(contextlib.chdir(project))
        redis = running.enter_context(EmbeddedRedis(folder))
        token = secrets.token_urlsafe()
        sandbox = running.enter_context(Sandbox(token))
        with socket.create_server((_HOST, 0)) as probe:
            port = port or probe.getsockname()[1]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        environment = kept | {
            f"{PREFIX}RETRY_INITIAL_DELAY": "1",
            f"{PREFIX}RETRY_MAX_DELAY": "5",
            f"{PREFIX}RETRY_MAX_ATTEMPTS": "12",
            f"{PREFIX}SWEEP_INTERVAL_SECONDS": "3",
            f"{PREFIX}DATA_DIR": str(folder),
            "REDIS_URL": redis.url,
            "ALLEGRO_MICROSERVICE_BASE_URL": sandbox.url,
            "ALLEGRO_MICROSERVICE_JWT_TOKEN": token,
            "HOST": _HOST,
            "PORT": str(port),
            "NO_PROXY": _HOST,
            "no_proxy": _HOST,
        }
        at = Runtime(StockSyncConfig.load(environment))
        running.callback(at.close)
        migrate(at.database)
        out = running.enter_context(log.open("w", encoding="utf-8"))
        supervisor = Supervisor(commands, environment, _STOP_SECONDS, out)
        # This thread has the demo to show. The kernel ends the processes should the supervisor's thread be gone.
        thread = running.enter_context(ThreadPoolExecutor(1, "supervisor"))
        running.callback(supervisor.request_stop)
        thread.submit(supervisor.run)
        yield _Stage(log, f"http://{_HOST}:{port}/", at, sandbox, stop)


def _play(stage: _Stage, forms: Sequence[Form]) -> tuple[int, float]:
    """The story. Answers with how many orders were taken, and the seconds that it took."""
    with (_DATA / "stock.csv").open(encoding="utf-8", newline="") as file:
        counted = {row["sku"]: int(row["quantity"]) for row in csv.DictReader(file)}
    stage.at.inventory.set_on_hand(counted, DEFAULT_WAREHOUSE, actor="demo", reason="the first count")
    _say(f"{len(counted)} SKUs are on hand; the page comes up at {stage.page}")
    half = len(forms) // 2
    operations, before = len(_stock_lines(forms)), len(_stock_lines(forms[:half]))
    started = time.monotonic()
    taken = stage.take(forms[:half])
    _say(f"{taken} of {len(forms)} orders taken, their stock deducted")
    stage.watch_delivery(operations, before / 2, _FIRST_SECONDS)
    _say(f"the microservice goes down for {_OUTAGE_SECONDS:g} s, connections are refused; orders keep coming")
    back = time.monotonic() + _OUTAGE_SECONDS
    stage.sandbox.refuse()
    taken += stage.take(forms[half:])
    stage.watch_delivery(operations, math.inf, back - time.monotonic())
    stage.sandbox.set_faults(error_share=_ERROR_SHARE)
    stage.sandbox.accept()
    _say(f"the microservice is back, and answers {_ERROR_SHARE:.0%} of all requests with 503")
    stage.watch_delivery(operations, operations, _DELIVERY_SECONDS)
    return taken, time.monotonic() - started


def _report(stage: _Stage, forms: Sequence[Form], taken: int, seconds: float) -> tuple[Figures, bool]:
    """Hold what the file implies, what we recorded and what the remote was told against each other, and print it.

    Answers with the figures, and whether all is well.
    """
    queries, expected = stage.at.queries, _stock_lines(forms)
    lists = stage.at.operation_lists
    counts = lists.by_status()
    now, pages = stage.at.clock(), range(0, sum(counts.values()), 200)
    rows = [row for start in pages for row in lists.page(Filter(), now, limit=200, offset=start).operations]
    told = queries.told()
    book = {(row["token_id"], row["order_id"]): row["is_stock_updated"] for row in stage.sandbox.orders()}
    wanted = {line[:2] for line in expected}
    agreeing = {order for order in wanted if book.get(order) is True and told.get(order) == (True, True)}
    differing = sorted((wanted | told.keys() | book.keys()) - agreeing)
    waiting = ("pending", "processing", "failed")
    safe = {
        tuple(row[name] for name in _LINE)
        for row in rows
        if row["status"] in waiting
        or (row["status"] == "completed" and (row["token_id"], row["order_id"]) in book)
    }
    figures: Figures = {
        "orders": taken,
        "operations": len(rows),
        "completed": counts["completed"],
        "failed": counts["failed"],
        "pending": counts["pending"] + counts["processing"],
        "lost": len(expected - safe),
        "remote_agrees": not differing,
    }
    findings = audit(stage.at.database)
    page = stage.until(stage.page_answers, _PAGE_SECONDS)
    first = sum(row["status"] == "completed" and row["retry_count"] == 0 for row in rows)
    retries = sum(row["retry_count"] for row in rows)
    answers = stage.sandbox.stats()["answers"]
    not_so = f", but not {', '.join(order_id for _, order_id in differing[:5])}" if differing else ""
    for name, text in {
        "orders": f"{taken} taken, {len(wanted)} of them with stock, of {len({f['token_id'] for f in forms})} sellers",
        "operations": f"{len(rows)} recorded: {counts['completed']} completed, {counts['failed']} failed, "
        f"{figures['pending']} waiting, {figures['lost']} lost",
        "first try": f"{first / max(1, len(rows)):.0%} of the operations; the others took {retries} retries",
        "outage": f"{_OUTAGE_SECONDS:g} s refused, then {answers.get('503', 0)} of {sum(answers.values())} answers were 503",
        "time": f"{seconds:.1f} s from the first order on, the outage included",
        "remote": f"{len(agreeing)} of {len(wanted)} orders as we say and as the file implies{not_so}",
        "audit": "; ".join(finding.meaning for finding in findings) or "every promise holds",
        "page": f"{stage.page} {'answers' if page else 'does not answer'}",
    }.items():
        click.echo(f"{name:<12}{text}")
    unwanted = figures["failed"] or figures["pending"] or figures["lost"] or differing or findings
    return figures, not unwanted and len(rows) == len(expected) and page


def _stock_lines(forms: Sequence[Form]) -> set[tuple[Any, ...]]:
    """`_LINE` of every order line that is to be deducted."""
    return {
        (form["token_id"], form["id"], line["id"], line["offer"]["external"]["id"], line["quantity"])
        for form in forms
        if form["status"] == READY
        for line in form["lineItems"]
        if line["offer"]["external"]
    }


def _procfile() -> tuple[Path, dict[str, str]]:
    """The folder of the project's own Procfile, and what is to run there: here, else beside the package."""
    for folder in (Path(), Path(__file__).parents[2]):
        if (folder / "Procfile").is_file():
            commands = read_procfile(folder / "Procfile")
            # A monolith's folder has a Procfile too, which is not ours to run.
            if "jobs.worker" in commands.get("worker", ""):
                return folder, commands
    raise StockSyncError("no Procfile of stocksync here or beside the package: run this in its checkout")


@contextlib.contextmanager
def _bar(label: str, length: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal, nothing on a pipe; what it gives is told how far things are."""
    hidden = not sys.stderr.isatty()
    with click.progressbar(length=length, label=label, file=sys.stderr, hidden=hidden) as bar:
        yield lambda done: bar.update(done - bar.pos)


def _say(*lines: str) -> None:
    for line in lines:
        click.echo(line, err=True)
