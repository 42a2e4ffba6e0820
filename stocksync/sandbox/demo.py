"""The demo: a small shop's orders taken through an outage on this machine alone, and a report that checks itself."""

from __future__ import annotations

import contextlib
import csv
import http.client
import json
import math
import os
import secrets
import signal
import socket
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import click

from stocksync.config import PREFIX, StockSyncConfig
from stocksync.domain.checkout_form import READY
from stocksync.domain.errors import StockSyncError
from stocksync.embedded import EmbeddedRedis
from stocksync.runtime import Runtime
from stocksync.store.migrate import migrate
from stocksync.supervisor import Supervisor, check_port_free, read_procfile
from stocksync.upkeep.audit import audit

from .errors import SandboxError
from .server import Sandbox

_DATA = Path(__file__).parent / "data"
_HOST = "127.0.0.1"
_DELIVERY_SECONDS, _PAGE_SECONDS, _STOP_SECONDS, _LOOK_SECONDS = 75.0, 15.0, 10.0, 0.2
_BEFORE_OUTAGE_SECONDS, _OUTAGE_SECONDS, _ERROR_SHARE = 20.0, 4.0, 0.2
_SETTINGS = {
    "RETRY_INITIAL_DELAY": "1",
    "RETRY_MAX_DELAY": "5",
    "RETRY_MAX_ATTEMPTS": "12",
    "SWEEP_INTERVAL_SECONDS": "3",
}
_FOREIGN = (PREFIX, "DATABASE_URL", "REDIS_URL", "ALLEGRO_MICROSERVICE_", "GUNICORN_", "WEB_CONCURRENCY", "DYNO")
"""How variables begin by which the demo would touch, or be changed by, what is not its own."""

Order = Mapping[str, Any]


def run_demo(exit_after: bool, port: int) -> int:
    """Show it all. Answers with the exit code: 0 only if all was delivered, the remote agrees and the audit holds.

    The report goes to stdout, what is said on the way to stderr. Nothing that was started outlives this call.

    Args:
        exit_after: end after the report, with one JSON object as the last line of stdout; otherwise stay up
            until SIGINT or SIGTERM.
        port: of the page; 0: a free one.

    Raises:
        StockSyncError: a part can't be started; the message says which and why.
        click.Abort: told to stop before the report.
    """
    if port:
        check_port_free(_HOST, port)
    text = (_DATA / "orders.jsonl").read_text(encoding="utf-8")
    orders: list[Order] = [json.loads(line) for line in text.splitlines()]
    try:
        with _stage(port) as stage:
            _say(f"data in {stage.folder}; what the processes say in {stage.log}; both go at the end")
            seconds = _play(stage, orders)
            outcome = _look(stage, orders)
            for line in outcome.lines(seconds):
                click.echo(line)
            if not outcome.ok:
                _say("the processes said last:", *_last_lines(stage.log))
            if not exit_after:
                stage.sandbox.set_faults(error_share=0)
                _say(f"the page stays at {stage.page}   (Ctrl-C stops everything)")
                while not stage.stop.wait(1):
                    stage.require_processes()
            _say("stopping everything")
    except SandboxError as error:
        raise StockSyncError(str(error)) from error
    if exit_after:
        click.echo(json.dumps(outcome.figures))
    return 0 if outcome.ok else 1


@dataclass(frozen=True, slots=True)
class _Stage:
    """Everything that runs while the demo does."""

    folder: Path
    log: Path
    port: int
    at: Runtime
    sandbox: Sandbox
    stop: Event
    processes: Future[int]

    @property
    def page(self) -> str:
        return f"http://{_HOST}:{self.port}/"

    def until(self, happened: Callable[[], bool], seconds: float) -> bool:
        """Whether it happened within `seconds`. Raises click.Abort when told to stop, StockSyncError."""
        ends = time.monotonic() + seconds
        while not happened():
            if time.monotonic() >= ends:
                return False
            self.require_processes()
            if self.stop.wait(_LOOK_SECONDS):
                raise click.Abort
        return True

    def require_processes(self) -> None:
        """Raises StockSyncError when nobody keeps the processes running any more."""
        if self.processes.done():
            raise StockSyncError(f"the processes can't be kept running: {self.processes.exception()}")

    def page_answers(self) -> bool:
        """Whether the page's process is there."""
        connection = http.client.HTTPConnection(_HOST, self.port, timeout=2)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def watch(self, label: str, operations: int, enough: float, seconds: float) -> bool:
        """Show how many of all `operations` are through, until `enough` are."""
        with _bar(label, operations) as advance:

            def through() -> bool:
                counts = self.at.queries.counts()
                done = counts["completed"] + counts["failed"] + counts["cancelled"]
                advance(done)
                return done >= enough

            return self.until(through, seconds)


@contextlib.contextmanager
def _stage(port: int) -> Iterator[_Stage]:
    """Start everything in a temporary folder, and end it in the reverse order, whatever happens."""
    project, commands = _procfile()
    with contextlib.ExitStack() as running:
        stop, stopping = Event(), [stop_set := Event()]
        yield  # placeholder
