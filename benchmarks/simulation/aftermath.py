"""The time after the faults: everything settles within a bound, people finish their work, months pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.simulation.forms import LANES, Call
from benchmarks.simulation.world import Broken, Process

if TYPE_CHECKING:
    from benchmarks.simulation.run import Simulation

BOUND = 3 * 3600.0
"""Seconds within which everything must be settled: the longest wait for a retry and reconciliations have room in it."""
_STEP, _AT_ONCE = 300.0, 20.0


class Aftermath:
    """What is done, and must hold, once no more faults come."""

    def __init__(self, simulation: Simulation) -> None:
        self._of, self._world = simulation, simulation.world
        self._people, self._promises = simulation.people, simulation.promises

    def run(self) -> None:
        """All of it. Raises Broken."""
        self._of.disturbances.end()
        self._world.tell("the faults are over")
        self._settles()
        self._of.scheduler.reconcile()
        self._check_what_people_stopped()
        self._people_finish()
        self._settles(strictly=True)
        if self._world.rng.random() < 0.5:
            self._a_calm_shop_delivers_at_once()
        if self._world.rng.random() < 0.3:
            self._months_later()

    def _settles(self, *, strictly: bool = False) -> None:
        """Within a bounded time nothing waits, and the remote equals the local truth.

        Args:
            strictly: what was given up, or waits for a person, is no excuse.
        """
        began = self._world.now
        for lane in LANES:
            self._click(self._people.resume(lane))
        while True:
            self._world.run(self._world.now + (60.0 if self._world.now - began < 600 else _STEP))
            self._promises.check_orders()
            left = self._promises.unsettled(strictly=strictly)
            if not left and not self._of.remote.on_the_way and not any(p.busy for p in self._world.processes):
                break
            if self._world.now - began > BOUND:
                raise Broken(f"not settled after {BOUND:.0f} s: {'; '.join(left)}")
        self._of.settled_after = max(self._of.settled_after, self._world.now - began)
        self._promises.check_stock()
        self._promises.check_audit()
        self._promises.check_operations()

    def _check_what_people_stopped(self) -> None:
        runtime = self._of.callers[0].runtime
        names = [name for name, order in self._of.model.orders.items() if order.stopped]
        self._world.run(self._world.now + 5)
        looks: dict[tuple[str, str], Any] = {}

        def look(_: Process) -> None:
            looks.update({name: runtime.reconciliation.look(*name)[0] for name in names})

        self._wait_for_caller()
        self._of.callers[0].do("look", look, lambda: None)
        self._world.run(self._world.now + 60)
        self._promises.check_found(looks)

    def _people_finish(self) -> None:
        """Every doubt is settled, what was given up is retried, differences that wait for a person are repaired."""
        for _ in range(len(self._of.model.doubts)):
            self._click(self._people.confirm(True))
        for (id,) in self._world.database.look(
            "SELECT id FROM pending_stock_operations WHERE status = 'failed' ORDER BY id"
        ):
            self._click(self._people.retry(id))
        for _ in range(20):
            if (repair := self._people.repair()) is None:
                break
            self._click(repair)
            self._world.run(self._world.now + 120)

    def _click(self, call: Call | None) -> None:
        if call is not None:
            self._wait_for_caller()
            self._of.begin(self._of.callers[0], call)
            self._world.run(self._world.now + 1)

    def _wait_for_caller(self) -> None:
        for _ in range(1000):
            if not self._of.callers[0].busy:
                return
            self._world.run(self._world.now + 1)
        raise Broken(f"a call never ends: {self._of.callers[0].busy}")

    def _a_calm_shop_delivers_at_once(self) -> None:
        """Whatever was before: nothing waits for a probe, a retry or a sweep."""
        names = [(LANES[0], f"call-last-{number}") for number in range(5)]
        for name in names:
            self._click(self._of.calls.deducted(name=name))
        self._world.run(self._world.now + _AT_ONCE)
        late = [name[1] for name in names if not self._of.remote.flags.get(name)]
        if late:
            raise Broken(f"not delivered within {_AT_ONCE:.0f} s, though all is well: {late}")

    def _months_later(self) -> None:
        """Clean-up took what was at an end; events of long ago come again, and goods come back."""
        self._world.jumped += self._world.rng.choice((40, 200)) * 86400.0
        self._of.scheduler.look()
        self._world.run(self._world.now + 120)
        self._of.clean_up(0)
        for make in (
            self._of.calls.same_form,
            self._of.calls.old_form,
            self._of.calls.same_return,
            self._of.calls.given_back,
        ) * 2:
            self._of.calls.number += 1
            self._click(make())
        self._settles(strictly=True)
