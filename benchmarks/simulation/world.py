"""The world of one seed: virtual time, processes that take turns in one thread, and the history of what happened.

A process is a greenlet. It gives way in requests, before transactions, and when it stalls; never inside a transaction,
as SQLite lets nobody else write there. At each statement, commit, Redis command and request it may die.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent, greenlet  # type: ignore[import-untyped]

from stocksync.runtime import Runtime

if TYPE_CHECKING:
    from benchmarks.simulation.database import SimulatedDatabase

EPOCH = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Broken(AssertionError):
    """A promise does not hold."""


class Died(BaseException):
    """The process dies here; what it had not committed is lost."""


class World:
    """Time, processes, history."""

    def __init__(self, seed: int, database: SimulatedDatabase) -> None:
        self.rng = random.Random(seed)
        self.database = database
        database.world = self
        self.now = 0.0
        """Seconds since the begin, as a monotonic clock has them."""
        self.jumped = 0.0
        """Seconds by which the wall clock leapt forward."""
        self.current: Process | None = None
        self.last_events: deque[str] = deque(maxlen=400)
        self._digest = hashlib.sha256()
        self._heap: list[tuple[float, float, int, Callable[[], object]]] = []
        self._number = 0
        self._hub = getcurrent()
        self.processes: list[Process] = []
        self.ended = False

    def tell(self, what: str) -> None:
        """Add to the history."""
        who = f"{self.current.name}: " if self.current else ""
        line = f"{self.now:10.3f} {who}{what}"
        self._digest.update(line.encode())
        self.last_events.append(line)

    def digest(self) -> str:
        """The same for the same history."""
        return self._digest.hexdigest()[:16]

    def wall(self, offset: float = 0.0) -> datetime:
        """What a clock on the wall shows, if it is wrong by `offset` seconds."""
        return EPOCH + timedelta(seconds=self.now + self.jumped + offset)

    def after(self, seconds: float, act: Callable[[], object]) -> None:
        """Have `act` done when so much time has passed."""
        self._number += 1
        heapq.heappush(self._heap, (self.now + max(0.0, seconds), self.rng.random(), self._number, act))

    def run(self, until: float) -> None:
        """Let time go on."""
        while self._heap and self._heap[0][0] <= until:
            self.now, _, _, act = heapq.heappop(self._heap)
            act()
        self.now = max(self.now, until)

    def switch_to(self, process: Process) -> None:
        """Let a process go on until it gives way or is done."""
        before, self.current = self.current, process
        try:
            process.greenlet.switch()
        finally:
            self.current = before

    def give_way(self) -> None:
        """Back to who runs the world."""
        self._hub.switch()

    def end(self) -> None:
        """Let nobody live."""
        self.ended = True
        for process in self.processes:
            process.dead = True
            if process.greenlet:
                process.greenlet.throw(Died)
        self.processes.clear()


class Process:
    """One process of ours. `make` composes its runtime; a process that dies is replaced by a new one of its name."""

    def __init__(self, world: World, name: str, make: Callable[[Process], Runtime]) -> None:
        self.world, self.name, self.make = world, name, make
        self.offset = 0.0
        """Seconds by which its clock is wrong."""
        self.busy: str | None = None
        self.dead = False
        self.dies_in = 0
        """Points until it dies; 0: it does not."""
        self.stalls = 0.0
        """Chance that it stands still for longer than a lease before a transaction."""
        self.effects: list[Callable[[], object]] = []
        """What its next commits do to the model."""
        self.greenlet: Any = None
        self.runtime = make(self)
        world.processes.append(self)

    def clock(self) -> datetime:
        return self.world.wall(self.offset)

    def do(self, what: str, act: Callable[[Process], object], then: Callable[[], object]) -> None:
        """Begin `act`; `then` is called when it is done or the process has died."""
        self.busy = what

        def live() -> None:
            try:
                act(self)
            except Died:
                self._die()
            finally:
                self.busy, self.greenlet, self.effects = None, None, []
                self.dies_in = 0
            if not self.world.ended:
                then()

        self.greenlet = greenlet(live)
        self.world.switch_to(self)

    def _die(self) -> None:
        if self.world.database.in_sqlite_transaction():
            self.world.database.undo()
        self.dead, self.runtime = False, self.make(self)

    def point(self, where: str) -> None:
        """A place where it may die."""
        if self.dies_in:
            self.dies_in -= 1
            if not self.dies_in:
                self.dead = True
                self.world.tell(f"dies at: {where}")
        if self.dead:
            raise Died(where)

    def sleep(self, seconds: float) -> None:
        """Let others go on for so long."""
        if self.world.database.in_sqlite_transaction():
            raise Broken(f"{self.name} waits inside a transaction")
        self.world.after(seconds, lambda mine=self.greenlet: self._go_on(mine))  # type: ignore[misc]
        self.world.give_way()
        if self.dead:
            raise Died("while it waited")

    def _go_on(self, mine: object) -> None:
        if self.greenlet is mine:
            self.world.switch_to(self)


class VirtualTime:
    """In the place of the module `time` in the parts of the product that use it."""

    def __init__(self) -> None:
        self.world: World | None = None

    def monotonic(self) -> float:
        return self.world.now if self.world else 0.0

    def sleep(self, seconds: float) -> None:
        if self.world and self.world.current:
            self.world.current.sleep(seconds)


TIME = VirtualTime()


class NeverStops:
    """A wish to stop that nobody has; whoever waits for it lets time pass."""

    def set(self) -> None: ...

    def is_set(self) -> bool:
        return False

    def wait(self, timeout: float | None = None) -> bool:
        TIME.sleep(timeout or 0.0)
        return False
