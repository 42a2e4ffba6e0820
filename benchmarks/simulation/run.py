"""One seed from its first call to its last check: processes, scheduler, events, and the time after the faults."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from benchmarks.simulation.aftermath import Aftermath
from benchmarks.simulation.calls import Calls
from benchmarks.simulation.database import SimulatedDatabase
from benchmarks.simulation.faults import Disturbances, draw_weather
from benchmarks.simulation.forms import Call
from benchmarks.simulation.model import FIRST_STOCK, SKUS, Model
from benchmarks.simulation.people import People
from benchmarks.simulation.promises import Promises
from benchmarks.simulation.redis import SimulatedRedis, SimulatedWakeups
from benchmarks.simulation.remote import Client, SimulatedRemote
from benchmarks.simulation.scheduler import Scheduler
from benchmarks.simulation.world import TIME, Broken, NeverStops, Process, World
from stocksync import StockSyncConfig
from stocksync.delivery.breaker import Breaker
from stocksync.errors import DatabaseUnavailable
from stocksync.runtime import Runtime
from stocksync.store.cleanup import CleanUp
from stocksync.store.values import to_text
from tests.shop import WAREHOUSE

_CONFIG = StockSyncConfig.load({}, database_url="sqlite:////simulated", sweep_interval_seconds=60).model_copy(
    update={"delivery_concurrency": 0}
)
_STATUSES = "SELECT id, status FROM pending_stock_operations"


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
        runtime = Runtime(
            self.config, clock=process.clock, rng=self.rng, wakeups=SimulatedWakeups(self.redis, process)
        )
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
        Aftermath(self).run()

    def _event(self) -> None:
        idle = [process for process in self.callers if not process.busy]
        if not idle:
            return
        process, draw = self.rng.choice(idle), self.rng.random()
        if draw < 0.02:
            self.clean_up(31 + 50 * (draw < 0.01))  # keys of calls are kept for 90
        elif (call := self.people.draw() if draw < 0.17 else self.calls.draw()) is not None:
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
        began = self.world.now
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
        if not call.waits and self.world.now > began:
            raise Broken(f"{call.says}: waited for {self.world.now - began:.3f} s")
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

    def clean_up(self, days: int) -> None:
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
