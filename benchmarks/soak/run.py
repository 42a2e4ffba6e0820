"""One soak: everything is started, watched and judged."""

from __future__ import annotations

import re
import secrets
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

from benchmarks.bench import Bench, StubProcess, wait_for
from benchmarks.cpu import Meter
from benchmarks.draining import environment_of
from benchmarks.history import write_history
from benchmarks.shop import open_runtime
from benchmarks.soak.caller import SKUS, WAREHOUSE, sku
from benchmarks.soak.figures import Ledger, Sampler, now
from benchmarks.soak.report import UNITS, heading, line, tables
from benchmarks.soak.verdict import faults
from stocksync.credentials import hash_key, hash_password
from stocksync.store.audit import audit

CALLERS = 2
LATENCY = 0.02
"""Of the remote."""
DRAIN = 120.0
"""Seconds that everything may take to be delivered after the last call."""
HISTORY_DAYS = 20.0
"""Younger than clean-up takes away, so that all rows stay."""
REDIS_FILLS = 360.0
"""Seconds. RQ keeps what ended for five minutes, so that Redis' memory rises as long; it is judged from then on."""
_NAME = "operator"
_FAULT = re.compile(r"Traceback|\b(?:ERROR|CRITICAL)\b")


@dataclass(frozen=True)
class Plan:
    """What is asked of a soak."""

    kind: str
    seconds: float
    rate: float
    rows: int
    slow: int
    sample_every: float


def soak(bench: Bench, plan: Plan) -> list[str]:
    """Run it; answers with what was not well."""
    with ExitStack() as made:
        url = made.enter_context(bench.database(plan.kind))
        _fill(url, plan)
        journals = {name: bench.folder / f"{name}.tsv" for name in ("stub", "person", "pressure")}
        callers = [bench.folder / f"caller-{number}.tsv" for number in range(CALLERS)]
        stub = made.enter_context(bench.stub(LATENCY, journal=journals["stub"]))
        password, key = secrets.token_urlsafe(16), f"stocksync_{secrets.token_urlsafe(32)}"
        environment = _environment(bench, url, stub, password, key)
        port = _free_port()
        processes = made.enter_context(_processes(bench, environment, port))
        start = now() + 5.0
        words = ["--start", str(start), "--seconds", str(plan.seconds)]
        for number, file in enumerate(callers):
            share = ["--rate", str(plan.rate), "--number", str(number), "--of", str(CALLERS)]
            processes[f"caller {number + 1}"] = _guest(bench, "caller", file, *words, *share, **environment)
        words += ["--port", str(port)]
        processes["person"] = _guest(
            bench, "person", journals["person"], *words, "--name", _NAME, "--password", password
        )
        processes["pressure"] = _guest(
            bench, "pressure", journals["pressure"], *words, "--slow", str(plan.slow), "--key", key
        )
        ledger = Ledger(
            start,
            plan.seconds,
            {"callers": callers, **{name: [file] for name, file in journals.items()}},
        )
        sampler = Sampler(plan.kind, url, bench.redis.url, _watched(processes))
        try:
            meter = _meter(bench, plan, processes)
            _watch(plan, ledger, sampler, start)
            spent = meter.milliseconds(max(len(ledger.recorded), 1))
            left = _drain(processes, ledger, sampler)
        finally:
            sampler.close()
        ended = _end(bench, processes)
        ledger.read()
        print("\n".join(tables(ledger, sampler.memory, sampler.connections)))
        print("\nCPU ms an order: " + ", ".join(f"{name} {each:.2f}" for name, each in spent.items()))
        print(
            f"\n{UNITS}\nbursts by {ledger.burst_by}; slow clients: {plan.slow}; retried: {len(ledger.retried)}"
        )
        return _judge(plan, url, ledger, sampler, left, [*ended, *_faults_in_logs(bench.folder)])


def _meter(bench: Bench, plan: Plan, processes: dict[str, Popen[str]]) -> Meter:
    """What everybody spends, the page with all that is asked of it meanwhile."""
    groups = {
        name: [process for full, process in processes.items() if full.split()[0] == name]
        for name in ("worker", "caller", "scheduler", "web")
    }
    return Meter(bench, plan.kind, groups.pop("worker"), **groups)


def _judge(
    plan: Plan, url: str, ledger: Ledger, sampler: Sampler, left: int, errors: Sequence[str]
) -> list[str]:
    with open_runtime(url) as runtime:
        broken = [f"{finding.check}: {finding.rows[:3]}" for finding in audit(runtime.database)]
    # Of Redis nothing in a run that ends before its memory can be flat.
    first = int(REDIS_FILLS / plan.sample_every)
    memory = {
        name: values[first:] if name == "Redis" else values
        for name, values in sampler.memory.items()
        if name != "Redis" or len(values) >= first + 6
    }
    return faults(
        wanted=int(plan.rate * plan.seconds),
        in_time=ledger.in_time,
        recorded=ledger.recorded.keys(),
        retried=ledger.retried,
        journal=ledger.journal,
        errors=[*ledger.errors, *errors],
        backlog=left,
        broken=broken,
        memory=memory,
        connections=sampler.connections,
    )


def _guest(bench: Bench, module: str, journal: Path, *words: str, **environment: str) -> Popen[str]:
    """One of those who use the shop, with its journal and its log."""
    return bench.start(
        f"benchmarks.soak.{module}", "--journal", str(journal), *words,
        environment=environment, log=journal.with_suffix(".log"),
    )  # fmt: skip


def _fill(url: str, plan: Plan) -> None:
    """A history of so many rows in the list, and stock for the callers."""
    with open_runtime(url):
        pass
    began = time.monotonic()
    write_history(url, plan.rows, days=HISTORY_DAYS)
    with open_runtime(url) as runtime:
        runtime.inventory.set_on_hand({sku(number): 10_000_000 for number in range(SKUS)}, WAREHOUSE)
        operations = sum(runtime.operation_lists.by_status().values())
    _say(f"{operations:,} operations were written in {time.monotonic() - began:.0f} s")


def _environment(bench: Bench, url: str, stub: StubProcess, password: str, key: str) -> dict[str, str]:
    settings = {
        "REDIS_URL": bench.redis.url,
        "STOCK_SYNC_USERS": f"{_NAME}:operator:{hash_password(password)}",
        "STOCK_SYNC_API_KEYS": f"wrk:reader:{hash_key(key)}",
        # The stub keeps no list of orders to compare with.
        "STOCK_SYNC_RECONCILIATION_INTERVAL_MINUTES": "1000000",
    }
    return environment_of(url, stub, settings)


@contextmanager
def _processes(bench: Bench, environment: dict[str, str], port: int) -> Iterator[dict[str, Popen[str]]]:
    """Two workers, a scheduler, and the page as the Procfile has it; more may be added. All are ended."""
    commands = {
        "worker 1": ("jobs.worker",),
        "worker 2": ("jobs.worker",),
        "scheduler": ("jobs.scheduler",),
        "web": ("stocksync", "web", "--host", "127.0.0.1", "--port", str(port)),
    }
    processes: dict[str, Popen[str]] = {}
    try:
        for name, words in commands.items():
            log = bench.folder / f"{name.replace(' ', '-')}.log"
            processes[name] = bench.start(*words, environment=environment, log=log)
        wait_for(lambda: _listens(port), 30)
        logs = [bench.folder / f"worker-{number}.log" for number in (1, 2)]
        wait_for(lambda: all("Listening on" in log.read_text() for log in logs), 30)
        yield processes
    finally:
        for process in processes.values():
            bench.end(process)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except OSError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _watched(processes: dict[str, Popen[str]]) -> dict[str, int]:
    """Those whose memory is to stay flat: ours, and callers, which hold our library."""
    return {name: process.pid for name, process in processes.items() if name not in ("person", "pressure")}


def _watch(plan: Plan, ledger: Ledger, sampler: Sampler, start: float) -> None:
    """Sample until the callers are through; a line each minute."""
    print(heading())
    end, printed, next_sample = start + plan.seconds, 0, start + plan.sample_every
    while (moment := now()) < end:
        time.sleep(max(0.0, min(next_sample, end) - moment))
        if now() < end:
            sampler.sample()
            ledger.read()
            ledger.minute(now()).samples = sampler.now
        next_sample += plan.sample_every
        while now() >= min(start + 60 * (printed + 1), end) and start + 60 * printed < end:
            ledger.read()
            length = min(60.0, plan.seconds - 60 * printed)
            print(line(printed + 1, ledger.minutes[printed], length, plan.rate), flush=True)
            printed += 1


def _drain(processes: dict[str, Popen[str]], ledger: Ledger, sampler: Sampler) -> int:
    """Wait for the callers and for what they recorded; answers with what is left of it."""
    began = now()
    for name in ("caller 1", "caller 2", "person", "pressure"):
        processes[name].wait(DRAIN)

    def delivered() -> bool:
        ledger.read()
        return sampler.backlog() == 0 and ledger.recorded.keys() <= ledger.arrived.keys()

    try:
        wait_for(delivered, DRAIN, pause=0.2)
        print(f"everything was delivered {now() - began:.1f} s after the last minute")
    except TimeoutError:
        pass
    return sampler.backlog()


def _end(bench: Bench, processes: dict[str, Popen[str]]) -> list[str]:
    """End all in order; answers with those that ended otherwise."""
    for process in processes.values():
        bench.end(process)
    return [
        f"{name} ended with exit code {process.returncode}"
        for name, process in processes.items()
        if process.returncode
    ]


def _faults_in_logs(folder: Path) -> list[str]:
    return [
        f"{file.name}: {text.strip()[:200]}"
        for file in sorted(folder.glob("*.log"))
        if not file.name.startswith("redis")
        for text in file.read_text(errors="replace").splitlines()
        if _FAULT.search(text)
    ]


def verdict(found: Sequence[str]) -> int:
    """Say what was found; the exit code."""
    print("\n" + ("\n".join(f"NOT WELL: {fault}" for fault in found) or "all is well"))
    return 1 if found else 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
