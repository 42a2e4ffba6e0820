"""The simulated Redis: wake-ups, planned entries, the breaker's memory. It is wiped, loses jobs, and goes away."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from redis.exceptions import ConnectionError as RedisAway

from stocksync.delivery.breaker import LocalMemory
from stocksync.queue.wakeups import TASKS, RedisWakeups
from stocksync.store.outages import REDIS, Outage

if TYPE_CHECKING:
    from benchmarks.simulation.world import Process, World


class SimulatedRedis:
    """What all processes share. Of the commands those that wake-ups and the breaker use."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.away = False
        self.keys: dict[str, float] = {}
        """Of keys that expire, until when."""
        self.jobs: list[tuple[str, str | None]] = []
        """Task and lane."""
        self.planned: dict[str, float] = {}
        """Lane -> second of the wall clock."""
        self.periodic: dict[str, float] = {}
        self.breaker = LocalMemory()

    def wipe(self) -> None:
        """As FLUSHALL does."""
        self.jobs.clear()
        for kept in (self.keys, self.planned, self.periodic, self.breaker):
            kept.clear()

    def command(self) -> None:
        """Before each command: the process may die, Redis may be away."""
        if self.world.current:
            self.world.current.point("a Redis command")
        if self.away:
            raise RedisAway("away")

    def set(
        self, key: str, _value: str, nx: bool = False, ex: float | None = None, px: float | None = None
    ) -> bool | None:
        self.command()
        if nx and self.keys.get(key, -1.0) > self.world.now:
            return None
        self.keys[key] = self.world.now + (ex if ex is not None else (px or 0) / 1000)
        return True

    def delete(self, key: str) -> None:
        self.command()
        self.keys.pop(key, None)

    def exists(self, key: str) -> int:
        self.command()
        return int(self.keys.get(key, -1.0) > self.world.now)

    def hgetall(self, key: str) -> dict[bytes, bytes]:
        self.command()
        return self.breaker.hgetall(key)

    def hset(self, key: str, mapping: Mapping[str, str]) -> None:
        self.command()
        self.breaker.hset(key, mapping)

    def hincrby(self, key: str, name: str, amount: int) -> int:
        self.command()
        return self.breaker.hincrby(key, name, amount)


class SimulatedQueue:
    """The one queue, as `RedisWakeups` uses it."""

    def __init__(self, redis: SimulatedRedis) -> None:
        self.connection = redis
        self.name = "stock-sync"

    @property
    def count(self) -> int:
        self.connection.command()
        return len(self.connection.jobs)

    def enqueue_call(self, function: str, args: tuple[str, ...] = (), **_: Any) -> None:
        redis = self.connection
        redis.command()
        if redis.world.database.in_sqlite_transaction():
            # A worker that is idle is faster than the commit, and finds nothing.
            redis.world.tell("a wake-up comes before the commit")
            redis.keys.clear()
            return
        redis.jobs.append((function.removeprefix(TASKS), args[0] if args else None))


class SimulatedWakeups(RedisWakeups):
    """The product's own, but that a planned entry is a number in a table instead of a job of rq-scheduler."""

    def __init__(self, redis: SimulatedRedis, process: Process) -> None:
        super().__init__(
            SimulatedQueue(redis),  # type: ignore[arg-type]
            "stock-sync",
            Outage(REDIS, process.clock),
            monotonic=lambda: redis.world.now,
        )
        self.redis = redis

    def is_resting(self) -> bool:
        """Whether it leaves Redis alone for now."""
        return self._monotonic() < self._resting_until

    def wake_at(self, lane: str, moment: datetime | None) -> None:
        def plan() -> None:
            self.redis.command()
            if moment is None:
                self.redis.planned.pop(lane, None)
            else:
                self.redis.planned[lane] = math.ceil(moment.timestamp())

        self._attempt(plan)
