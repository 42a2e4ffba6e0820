"""The course of a drill: a warm-up, one fault after another, the end of all faults, and the checks."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.drill.checks import DRAIN_SECONDS, NEXT_SECONDS, Check, Facts, check, leaks
from benchmarks.drill.faults import Fault, every_fault
from benchmarks.drill.gather import Books, document
from benchmarks.drill.releases import Releases
from benchmarks.drill.settings import IN_STOCK, SURVIVOR
from benchmarks.drill.stage import Stage

_BREATH = 0.5
"""Seconds between two faults."""


@dataclass(frozen=True)
class Plan:
    """What was asked for.

    `names`: parts of the names of the faults that are wanted; empty: all. `pace`: by which the time that a fault
    lasts is multiplied; below 1 those that must outlast a lease do not.
    """

    minutes: float
    database: str
    seed: int
    names: Sequence[str] = ()
    previous: str | None = None
    callers: int = 2
    rate: float = 24.0
    warm_up: float = 8.0
    namespaces: bool = True
    pace: float = 1.0


@dataclass(frozen=True)
class Happened:
    """One fault that came to pass, in monotonic seconds, as in the journals. `next_delivery`: seconds from its end to the next delivery; None: none came in time."""

    name: str
    started: float
    ended: float
    next_delivery: float | None


@dataclass
class Outcome:
    """Everything that one drill came to."""

    plan: Plan
    network: str = ""
    previous: str = ""
    """The release that ran beside this one, where one did."""
    happened: list[Happened] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    facts: Facts | None = None
    checks: list[Check] = field(default_factory=list)
    visits: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """All holds."""
        return bool(self.checks) and all(each.held for each in self.checks)


def draw(faults: Sequence[Fault], rng: random.Random) -> Iterator[Fault]:
    """Without end: each of them once, in a drawn order, then each once again in another."""
    while True:
        yield from rng.sample(list(faults), len(faults))


class UnknownFault(Exception):
    """No fault has such a name."""


def chosen(faults: Sequence[Fault], names: Sequence[str]) -> list[Fault]:
    """Those whose name holds one of `names`. Raises UnknownFault."""
    for name in names:
        if not any(name.lower() in fault.name.lower() for fault in faults):
            known = ", ".join(fault.name for fault in faults)
            raise UnknownFault(f"no fault is named {name}; there are: {known}")
    return [
        fault for fault in faults if not names or any(name.lower() in fault.name.lower() for name in names)
    ]


def play(plan: Plan, folder: Path, say: Callable[[str], None]) -> Outcome:
    """Play it in `folder`, which is left with every log and journal; `say` gets a line for each fault.

    Raises:
        UnknownFault
    """
    outcome, began = Outcome(plan), time.monotonic()
    diary = folder / "drill.log"

    def note(line: str) -> None:
        with diary.open("a") as file:
            file.write(f"{datetime.now(UTC):%H:%M:%S}  {line}\n")
        say(line)

    releases = Releases(plan.previous, folder)
    wanted = chosen(every_fault(releases), plan.names)
    stage = Stage(
        folder,
        plan.database,
        callers=plan.callers,
        rate=plan.rate,
        seed=plan.seed,
        namespaces=plan.namespaces,
    )
    try:
        with stage:
            outcome.network = stage.network.says
            note(f"hosts: {stage.network.says}")
            outcome.skipped = {fault.name: why for fault in wanted if (why := fault.why_not(stage))}
            possible = [fault for fault in wanted if fault.name not in outcome.skipped]
            outcome.facts = _course(plan, stage, possible, outcome, note)
    finally:
        releases.close()
    outcome.previous = releases.ran
    outcome.facts.leaks = leaks(folder, stage.secrets.named())
    outcome.checks, outcome.visits = check(outcome.facts), dict(stage.visitor.answers)
    outcome.seconds = time.monotonic() - began
    return outcome


def _course(
    plan: Plan, stage: Stage, faults: list[Fault], outcome: Outcome, say: Callable[[str], None]
) -> Facts:
    _warm_up(stage, plan.warm_up)
    worker = stage.parts[SURVIVOR].process
    assert worker is not None
    before = anonymous_memory(worker.pid)
    ends = time.monotonic() + 60 * plan.minutes
    drawn = draw(faults, random.Random(plan.seed))
    hurt: list[tuple[float, float]] = []
    while faults and (len(outcome.happened) < len(faults) or time.monotonic() < ends):
        fault = next(drawn)
        outcome.happened.append(one := _happen(stage, fault, plan.pace))
        if fault.hurts_database:
            hurt.append((one.started, one.ended))
        until = "NONE" if one.next_delivery is None else f"{one.next_delivery:.1f} s"
        number, lasted = len(outcome.happened), one.ended - one.started
        say(f"{number:>3}  {fault.name:<40} {lasted:5.1f} s, then next delivery: {until}")
    say("all faults are over; what waits is delivered")
    facts = _facts(stage, time.monotonic())
    facts.memory = before, _memory(stage, worker.pid)
    facts.database_hurt = hurt
    facts.stuck_after = [
        f"no delivery within {NEXT_SECONDS:g} s after: {each.name}"
        for each in outcome.happened
        if each.next_delivery is None
    ]
    return facts


def _facts(stage: Stage, over: float) -> Facts:
    """When callers have ended and everything is at rest; `over`: when the last fault was (monotonic)."""
    for path in stage.journals:
        stage.end(path.stem, seconds=70.0)
    books = Books(stage.environment())
    try:
        drained = stage.wait(DRAIN_SECONDS, lambda: books.waiting() == 0)
        drained_after = time.monotonic() - over
        # A request that hung may be applied only now, after something newer. Then it takes a reconciliation.
        stage.wait(stage.hangs_until - time.monotonic())
        stage.command("reconcile")
        drained = drained and stage.wait(DRAIN_SECONDS, lambda: books.waiting() == 0)
        return books.facts(
            stage.journals,
            stage.told,
            stage.remote_orders(),
            IN_STOCK,
            drained_after=drained_after if drained else None,
            audit=document(stage.command("audit", "--json").out),
            reconciliation=document(stage.command("reconcile", "--dry-run", "--json").out),
            ended=list(stage.ended_by_themselves),
            page_answers=stage.visitor.is_served(),
        )
    finally:
        books.close()


def _memory(stage: Stage, pid: int) -> int:
    """Of the worker that lived; more than any bound when it is another one by now."""
    worker = stage.parts[SURVIVOR].process
    return anonymous_memory(pid) if worker is not None and worker.pid == pid else 2**40


def _warm_up(stage: Stage, seconds: float) -> None:
    """Traffic, and a backlog in the middle of it, so that every thread of a worker has worked."""
    stage.wait(seconds / 4)
    stage.set_faults(outage="maintenance")
    stage.wait(seconds / 4)
    stage.set_faults()
    stage.wait(seconds / 2)


def _happen(stage: Stage, fault: Fault, pace: float) -> Happened:
    started = time.monotonic()
    with fault.act(stage):
        stage.wait(pace * fault.seconds)
    ended, size = time.monotonic(), stage.told.stat().st_size
    came = stage.wait(NEXT_SECONDS, lambda: stage.told.stat().st_size > size)
    waited = time.monotonic() - ended if came else None
    stage.wait(_BREATH)
    return Happened(fault.name, started, ended, waited)


def anonymous_memory(pid: int) -> int:
    """Bytes that a process alone uses: its heap and stacks, without what it shares with others."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon"))
