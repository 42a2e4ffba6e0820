"""rq-scheduler and the workers' loop: planned entries come due, periodic tasks return, jobs find a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.simulation.world import EPOCH, Process
from stocksync.runtime import Runtime

if TYPE_CHECKING:
    from benchmarks.simulation.run import Simulation

_TICK = 10.0


class Scheduler:
    """One scheduler; what it queues, idle workers take."""

    def __init__(self, simulation: Simulation) -> None:
        self._of, self._world, self._redis = simulation, simulation.world, simulation.redis

    def tick(self) -> None:
        """Look, and again a little later."""
        self.look()
        self._world.after(_TICK, self.tick)

    def look(self) -> None:
        """Queue what is due, restore periodic entries that are missing."""
        world, redis = self._world, self._redis
        if redis.away or world.now < self._of.scheduler_away_until:
            return
        wall = (world.wall() - EPOCH).total_seconds() + EPOCH.timestamp()
        for lane, at in sorted(redis.planned.items()):
            if at <= wall:
                del redis.planned[lane]
                redis.jobs.append(("deliver_lane", lane))
        intervals = self._of.intervals
        for name, seconds in intervals.items():
            if redis.periodic.setdefault(name, wall + seconds) <= wall:
                redis.periodic[name] = wall + seconds
                redis.jobs.append((name, None))
        self.offer()

    def offer(self) -> None:
        """Have idle workers take what waits, soon."""
        if self._redis.jobs:
            self._world.after(self._world.rng.uniform(0.001, 0.05), self._take)

    def _take(self) -> None:
        idle = [worker for worker in self._of.workers if not worker.busy]
        if self._redis.away or not self._redis.jobs or not idle:
            return
        task, lane = self._redis.jobs.pop(0)
        worker = self._world.rng.choice(idle)
        if self._world.rng.random() < self._of.weather.dies:
            worker.dies_in = self._world.rng.randint(1, 60)
        what = f"{task} {lane}" if lane else task
        worker.do(what, lambda process: self._work(process, task, lane), self._done)
        self.offer()

    def _work(self, process: Process, task: str, lane: str | None) -> None:
        runtime: Runtime = process.runtime
        if lane is not None:
            report = runtime.with_database(lambda: runtime.deliver_lane(lane))
            if report and report.figures.total():
                figures = {name: number for name, number in report.figures.items() if number}
                self._world.tell(f"drained {lane}: {figures}")
        else:
            done = runtime.with_database(lambda: runtime.periodic.run(task)) or {}
            if said := {name: number for name, number in done.items() if number and name != "planned"}:
                self._world.tell(f"{task}: {said}")

    def _done(self) -> None:
        self._of.promises.check_orders()
        self.offer()

    def reconcile(self) -> None:
        """Have everything compared once more because a person asks for it, when all that has changed may count."""
        self._world.run(self._world.now + self._of.config.reconciliation_grace_seconds)
        self._of.callers[0].runtime.reconciliation.begin_all("Anna")
        self._redis.jobs.append(("reconcile", None))
        self.offer()
        self._world.run(self._world.now + 60)
