"""One seed from its first call to its last check: processes, scheduler, events, and the time after the faults."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from benchmarks.simulation.calls import LANES, Call, Calls
from benchmarks.simulation.database import SimulatedDatabase
from benchmarks.simulation.faults import Disturbances, draw_weather
from benchmarks.simulation.model import FIRST_STOCK, SKUS, Model
from benchmarks.simulation.people import People
from benchmarks.simulation.promises import Promises
from benchmarks.simulation.redis import SimulatedRedis, SimulatedWakeups
from benchmarks.simulation.remote import Client, SimulatedRemote
from benchmarks.simulation.scheduler import Scheduler
from benchmarks.simulation.world import TIME, Broken, NeverStops, Process, World
from stocksync import StockSyncConfig
from stocksync.delivery import engine, sender_pool
from stocksync.delivery.breaker import Breaker
from stocksync.errors import DatabaseUnavailable
from stocksync.runtime import Runtime
from stocksync.store import cleanup
from stocksync.store.cleanup import CleanUp
from stocksync.store.values import to_text
from stocksync.upkeep.reconcile import Reconciliation
from tests.shop import WAREHOUSE

BOUND = 3 * 3600.0
"""Seconds after the last fault within which everything must be settled: the longest snooze and two reconciliations."""
_STEP, _AT_ONCE = 300.0, 20.0
_CONFIG = StockSyncConfig.load({}, database_url="sqlite:////simulated", sweep_interval_seconds=60).model_copy(
    update={"delivery_concurrency": 0}
)
_STATUSES = "SELECT id, status FROM pending_stock_operations"


@dataclass(frozen=True)
class Result:
    """What came of a seed. `broken` None: every promise held."""

    seed: int
    operations: int
    digest: str
    settled_after: float
    requests: int
    broken: str | None = None
    history: tuple[str, ...] = ()


class SimulatedBreaker(Breaker):
    """The product's own; the remote hears when a process notes that it serves."""

    remote: SimulatedRemote

    def served(self) -> bool:
        self.remote.served_at = to_text(self.remote.world.wall())
        return super().served()


class Simulation:
    """The parts of one seed. `operations`: how many calls and clicks there are."""

    def __init__(self, seed: int, operations: int, database: SimulatedDatabase) -> None:
        database.begin_anew()
        self.seed, self.operations = seed, operations
        self.world = World(seed, database)
        TIME.world = self.world
        self.rng = self.world.rng
        self.weather = draw_weather(self.rng)
        self.calm = not (self.weather.disturbances or self.weather.dies)
        """Redis is always there, and nobody dies: each wake-up has its job."""
        self.model = Model()
        self.remote = SimulatedRemote(self.world, self.weather)
        database.on_rescue = self.remote.rescued
        self.redis = SimulatedRedis(self.world)
        interval = self.rng.choice((60, 300))
        self.config = _CONFIG.model_copy(
            update={"sweep_interval_seconds": interval, "retry_initial_delay": self.rng.choice((5.0, 60.0))}
        )
        self.intervals = {"sweep": interval, "cleanup": 86400}
        """Seconds between two runs of each periodic task."""
        if self.weather.reconciles:
            self.intervals["reconcile"] = self.config.reconciliation_interval_minutes * 60
        self.scheduler_away_until = -1.0
        self.calls, self.people = Calls(self.world, self.model), People(self.world, self.model)
        self.promises = Promises(
            self.world, self.model, self.remote, self.config.retry_max_attempts, self.people.cancelled
        )
        self.workers = [Process(self.world, f"worker-{number}", self._runtime) for number in (1, 2, 3)]
        self.callers = [Process(self.world, f"web-{number}", self._runtime) for number in (1, 2)]
        self.scheduler = Scheduler(self)
        self.disturbances = Disturbances(self)
        self.settled_after = 0.0

    def _runtime(self, process: Process) -> Runtime:
        """The product's parts, in a process that has just begun."""
        runtime = Runtime(self.config, clock=process.clock, rng=self.rng, wakeups=SimulatedWakeups(self.redis, process))
        runtime.database = self.world.database
        runtime.sender = Client(self.remote, process)
        runtime.stop = NeverStops()  # type: ignore[assignment]
        breaker = SimulatedBreaker(self.redis, self.config.redis_prefix, process.clock)  # type: ignore[arg-type]
        breaker.remote = self.remote
        runtime.breaker = breaker
        return runtime

    # Events

    def run(self) -> None:
        """All of it. Raises Broken, or what the product raised and should not have."""
        self.callers[0].runtime.inventory.set_on_hand(dict.fromkeys(SKUS, FIRST_STOCK), WAREHOUSE)
        self.scheduler.tick()
        pace = self.rng.choice((0.02, 1.0, 20.0))
        if self.weather.stalls:
            for worker in self.workers:
                worker.stalls = 0.02
        for number in range(self.operations):
            self.world.run(self.world.now + self.rng.expovariate(1 / pace))
            if self.rng.random() < self.weather.disturbances:
                self.disturbances.draw()
            self._event()
            if number % 20 == 19:
                self.promises.check_stock()
                self.promises.check_audit()
        self._after_the_faults()

    def _event(self) -> None:
        idle = [process for process in self.callers if not process.busy]
        if not idle:
            return
        process, draw = self.rng.choice(idle), self.rng.random()
        if draw < 0.02:
            self._clean_up(31 + 50 * (draw < 0.01))  # keys of calls are kept for 90
        else:
            if (call := self.people.draw() if draw < 0.17 else self.calls.draw()) is not None:
                self.begin(process, call)
        self.promises.check_orders()

    def begin(self, process: Process, call: Call) -> None:
        """Have a process make a call."""
        self._may_die(process)
        process.do(call.says, lambda process: self._make(process, call), self.scheduler.offer)

    def _may_die(self, process: Process) -> None:
        if self.rng.random() < self.weather.dies:
            process.dies_in = self.rng.randint(1, 40)

    def _make(self, process: Process, call: Call) -> None:
        self.world.tell(call.says)
        process.effects = list(call.effects)
        if call.refused:
            process.effects = [lambda: self._must_not_be_written(call)]
        try:
            answer = call.make(process.runtime)
        except DatabaseUnavailable:
            return
        except (*call.refused, *call.may_refuse) as error:
            self.world.tell(f"refused: {type(error).__name__}")
            return
        if call.refused:
            raise Broken(f"{call.says}: not refused, {call.refused} was due")
        if not call.expects(answer):
            raise Broken(f"{call.says}: {answer}")
        self._is_woken(process)

    def _must_not_be_written(self, call: Call) -> None:
        raise Broken(f"{call.says}: written, {call.refused} was due")

    def _is_woken(self, process: Process) -> None:
        """What is due now has its wake-up: whoever recorded it woke its lane after the commit."""
        wakeups: Any = process.runtime.wakeups
        if not self.calm:
            return
        due = self.world.database.look(
            "SELECT DISTINCT o.token_id FROM stock_sync_orders AS o JOIN stock_sync_accounts AS a USING (token_id)"
            " WHERE o.due_at IS NOT NULL AND o.waiting = 'new' AND o.claim_id IS NULL AND NOT a.paused"
        )
        for (lane,) in due:
            awake = self.redis.keys.get(wakeups.marker(lane), -1.0) > self.world.now
            at_it = any(f"deliver_lane {lane}" == worker.busy for worker in self.workers)
            held = lane in self.redis.planned or ("deliver_lane", lane) in self.redis.jobs
            self.promises.check_woken(lane, not (awake or at_it or held))

    def _clean_up(self, days: int) -> None:
        """By somebody whose clock is ahead: all that is at an end counts as old."""
        self.world.tell(f"clean-up with a clock {days} days ahead")
        look = self.world.database.look
        before = dict(look(_STATUSES))
        now = self.world.wall() + timedelta(days=days)
        runtime = self.callers[0].runtime
        CleanUp(replace(runtime.context, clock=lambda: now)).run(wait=lambda _: False)
        gone = before.keys() - dict(look(_STATUSES)).keys()
        if live := {before[id] for id in gone} - {"completed", "cancelled"}:
            raise Broken(f"the clean-up took {live}")

    # After the faults

    def _after_the_faults(self) -> None:
        self.disturbances.end()
        self.world.tell("the faults are over")
        self._all_is_well_within(BOUND)
        self.scheduler.reconcile()
        self._check_what_people_stopped()
        self._people_finish()
        self._all_is_well_within(BOUND)
        self._a_calm_shop_delivers_at_once()
        if self.rng.random() < 0.3:
            self._months_later()

    def _all_is_well_within(self, bound: float) -> None:
        began = self.world.now
        for lane in LANES:
            self._click(self.people.resume(lane))
        while True:
            self.world.run(self.world.now + (60.0 if self.world.now - began < 600 else _STEP))
            self.promises.check_orders()
            left = self.promises.unsettled()
            if not left and not self.remote.on_the_way and not any(p.busy for p in self.world.processes):
                break
            if self.world.now - began > bound:
                raise Broken(f"not settled after {bound:.0f} s: {'; '.join(left)}")
        self.settled_after = max(self.settled_after, self.world.now - began)
        self.promises.check_stock()
        self.promises.check_audit()
        self.promises.check_operations()

    def _check_what_people_stopped(self) -> None:
        runtime = self.callers[0].runtime
        names = [name for name, order in self.model.orders.items() if order.stopped]
        self.world.run(self.world.now + 5)
        looks: dict[tuple[str, str], Any] = {}

        def look(_: Process) -> None:
            looks.update({name: runtime.reconciliation.look(*name)[0] for name in names})

        self._wait_for_caller()
        self.callers[0].do("look", look, lambda: None)
        self.world.run(self.world.now + 60)
        self.promises.check_found(looks)

    def _people_finish(self) -> None:
        """Every doubt is settled, what was given up is retried, differences that wait for a person are repaired."""
        for _ in range(len(self.model.doubts)):
            self._click(self.people.confirm(True))
        for (id,) in self.world.database.look(
            "SELECT id FROM pending_stock_operations WHERE status = 'failed' ORDER BY id"
        ):
            self._click(self.people.retry(id))
        for _ in range(20):
            if (repair := self.people.repair()) is None:
                break
            self._click(repair)
            self.world.run(self.world.now + 120)

    def _click(self, call: Call | None) -> None:
        if call is not None:
            self._wait_for_caller()
            self.begin(self.callers[0], call)
            self.world.run(self.world.now + 1)

    def _wait_for_caller(self) -> None:
        for _ in range(1000):
            if not self.callers[0].busy:
                return
            self.world.run(self.world.now + 1)
        raise Broken(f"a call never ends: {self.callers[0].busy}")

    def _a_calm_shop_delivers_at_once(self) -> None:
        """Whatever was before: nothing waits for a probe, a retry or a sweep."""
        names = [(LANES[0], f"call-last-{number}") for number in range(5)]
        for name in names:
            self._click(self.calls.deducted(name=name))
        self.world.run(self.world.now + _AT_ONCE)
        late = [name[1] for name in names if not self.remote.flags.get(name)]
        if late:
            raise Broken(f"not delivered within {_AT_ONCE:.0f} s, though all is well: {late}")

    def _months_later(self) -> None:
        """Clean-up took what was at an end; events of long ago come again, and goods come back."""
        self.world.jumped += self.rng.choice((40, 200)) * 86400.0
        self.scheduler.look()
        self.world.run(self.world.now + 120)
        self._clean_up(0)
        for make in (self.calls.same_form, self.calls.old_form, self.calls.same_return, self.calls.given_back) * 2:
            self.calls.number += 1
            self._click(make())
        self._all_is_well_within(BOUND)


@contextmanager
def simulated_time() -> Iterator[None]:
    """The product's own clocks of waiting are the world's, and nothing is logged."""
    modules: tuple[Any, ...] = (engine, sender_pool)
    before = [module.time for module in modules]
    defaults: Any = cleanup.CleanUp.run.__kwdefaults__
    real, walks = defaults["monotonic"], Reconciliation._monotonic
    for module in modules:
        module.time = TIME
    defaults["monotonic"], Reconciliation._monotonic = TIME.monotonic, staticmethod(TIME.monotonic)
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
        for module, time in zip(modules, before, strict=True):
            module.time = time
        defaults["monotonic"], Reconciliation._monotonic = real, staticmethod(walks)
        TIME.world = None


def run_seed(seed: int, operations: int, database: SimulatedDatabase, history: int = 30) -> Result:
    """Run one seed. Whatever the product raises and should not counts as a broken promise too."""
    simulation = Simulation(seed, operations, database)
    broken: str | None = None
    with simulated_time():
        try:
            simulation.run()
        except Exception as error:
            broken = f"{type(error).__name__}: {error}"
            if not isinstance(error, AssertionError):
                broken += _where(error)
        finally:
            simulation.world.end()
            database.world = None
            if database.in_sqlite_transaction():
                database.undo()
    world = simulation.world
    return Result(
        seed,
        operations,
        world.digest(),
        simulation.settled_after,
        simulation.remote.figures["requests"],
        broken,
        tuple(world.last_events)[-history:] if history else tuple(world.last_events),
    )


def _where(error: BaseException) -> str:
    trace: Any = error.__traceback__
    while trace.tb_next:
        trace = trace.tb_next
    return f" ({trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno})"


Runner = Callable[[int], Result]
