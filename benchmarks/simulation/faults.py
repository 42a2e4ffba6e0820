"""What disturbs a world: each seed has its weather, and between the calls something happens to one of the parts."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from benchmarks.simulation.remote import Weather

if TYPE_CHECKING:
    from benchmarks.simulation.run import Simulation


def draw_weather(rng: random.Random) -> Weather:
    """Some faults in some seeds: what never happens together with another hides nothing of it."""

    def some(*chances: float) -> float:
        return rng.choice((0.0, 0.0, *chances))

    weather = Weather(
        dies=some(0.05, 0.2),
        stalls=some(0.05, 0.3),
        lost=some(0.05, 0.3),
        late=some(0.05, 0.2),
        repeated=some(0.1),
        down=some(0.1, 0.5),
        refused=some(0.1, 0.5),
        invalid=some(0.05),
        throttled=some(0.05),
        credentials=some(0.03),
        disturbances=some(0.05, 0.2),
        clocks=rng.random() < 0.2,
        dedupes=rng.random() < 0.5,
    )
    # Without requests out of order, and without a worker that sends late and dies, no order needs reconciliation.
    never_late = not (weather.late or weather.repeated)
    weather.reconciles = not (never_late and not (weather.dies and weather.stalls))
    return weather


class Disturbances:
    """Draws what happens next to Redis, clocks, the remote, the database, a process."""

    def __init__(self, simulation: Simulation) -> None:
        self._of, self._world = simulation, simulation.world
        self._table: tuple[Callable[[], str], ...] = (
            self._outage,
            self._outage,
            self._redis_wiped,
            self._redis_away,
            self._job_lost,
            self._clock_jumps,
            self._killed,
            self._database_away,
            self._scheduler_away,
            self._clock_wrong,
        )

    def draw(self) -> None:
        """Disturb something."""
        self._world.tell(self._world.rng.choice(self._table)())

    def end(self) -> None:
        """All is well from now on."""
        of = self._of
        of.remote.away_until, of.scheduler_away_until = -1.0, -1.0
        of.redis.away = self._world.database.away = False
        for process in self._world.processes:
            process.offset, process.stalls = 0.0, 0.0
        clocks, reconciles, dedupes = of.weather.clocks, of.weather.reconciles, of.weather.dedupes
        of.weather.__dict__.update(vars(Weather(clocks=clocks, reconciles=reconciles, dedupes=dedupes)))

    def _outage(self) -> str:
        seconds = self._world.rng.choice((10, 60, 900))
        self._of.remote.away_until = self._world.now + seconds
        return f"the remote is away for {seconds} s"

    def _redis_wiped(self) -> str:
        self._of.redis.wipe()
        self._world.after(1.0, self._of.scheduler.look)
        return "Redis is wiped"

    def _redis_away(self) -> str:
        self._of.redis.away = True
        seconds = self._world.rng.choice((1, 20, 120))

        def back() -> None:
            self._of.redis.away = False

        self._world.after(seconds, back)
        return f"Redis is away for {seconds} s"

    def _job_lost(self) -> str:
        jobs = self._of.redis.jobs
        if jobs:
            jobs.pop(self._world.rng.randrange(len(jobs)))
        return "a job is lost"

    def _clock_jumps(self) -> str:
        seconds = self._world.rng.choice((30, 300, 3600))
        self._world.jumped += seconds
        self._world.after(0.0, self._of.scheduler.look)
        return f"all clocks jump {seconds} s forward"

    def _clock_wrong(self) -> str:
        if not self._of.weather.clocks:
            return "nothing"
        process = self._world.rng.choice(self._world.processes)
        process.offset = self._world.rng.uniform(-180, 180)
        return f"the clock of {process.name} is wrong by {process.offset:.0f} s"

    def _killed(self) -> str:
        process = self._world.rng.choice(self._world.processes)
        if process.busy:
            process.dead = True  # it learns of that where it goes on
        return f"{process.name} is killed"

    def _database_away(self) -> str:
        self._world.database.away = True
        seconds = self._world.rng.choice((1, 20, 90))

        def back() -> None:
            self._world.database.away = False

        self._world.after(seconds, back)
        return f"the database is away for {seconds} s"

    def _scheduler_away(self) -> str:
        seconds = self._world.rng.choice((60, 600))
        self._of.scheduler_away_until = self._world.now + seconds
        return f"the scheduler is away for {seconds} s"
