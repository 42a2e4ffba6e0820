"""rq-scheduler made to last: it survives lost connections, flushed keys and broken entries.

What plain rq-scheduler 0.14 does, and why this differs: an undecodable entry raises inside `run()` and stops
everything behind it; so does a lost connection; its lock is neither renewed nor owner-checked; enqueueing and
removing are two steps; its keys are shared with every other scheduler on the same Redis.
"""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from redis.exceptions import RedisError
from rq.exceptions import NoSuchJobError
from rq.queue import Queue
from rq_scheduler import Scheduler

from stocksync.queue.stopping import Stop
from stocksync.queue.wakeups import RedisWakeups, StockSyncJob, scheduler_lock

log = logging.getLogger(__name__)

_BATCH = 200
_LOCK_SECONDS = 11
_QUARANTINE_SECONDS = 7 * 86400
PERIODIC = "periodic-"
"""How the ids of periodic entries begin."""


@dataclass(frozen=True, slots=True)
class PeriodicTask:
    """A job that comes back. `interval` in seconds; `id` is fixed, so that a deploy finds it again."""

    id: str
    function: str
    interval: int
    description: str


class StockSyncScheduler(Scheduler):  # type: ignore[misc]
    """Our entries only, under our own prefix. A lane's entry becomes a wake-up, a periodic one a job of its own."""

    job_class = StockSyncJob

    def __init__(
        self,
        queue: Queue,
        wakeups: RedisWakeups,
        tasks: Sequence[PeriodicTask],
        prefix: str,
        *,
        interval: float = 1.0,
        now: Callable[[], float] = time.time,
    ) -> None:
        """
        Args:
            queue: where due jobs go, on the scheduler's own connection.
            tasks: kept in place at every tick.
            prefix: of our own keys.
            interval: seconds between ticks.
            now: Unix seconds.
        """
        super().__init__(queue=queue, connection=queue.connection, interval=interval, job_class=StockSyncJob)
        self.scheduled_jobs_key = wakeups.scheduled_jobs_key
        self.scheduler_lock_key = scheduler_lock(prefix)
        self.quarantine_key = f"{prefix}:scheduler:quarantine"
        self._wakeups = wakeups
        self._tasks = {task.id: task for task in tasks}
        self._now = now

    def run_until(self, stop: Stop, every_minute: Callable[[], None] = lambda: None) -> None:
        """Tick until `stop` is set. Without Redis it tries again, every two seconds at least.

        Args:
            every_minute: called once a minute, with Redis or without; must not raise.
        """
        wait, next_minute = self._interval, self._now() + 60
        while not stop.is_set():
            if self._now() >= next_minute:
                next_minute = self._now() + 60
                every_minute()
            try:
                self.tick()
                self._wakeups.outage.ends()
                wait = self._interval
            except (RedisError, OSError) as error:
                self._wakeups.outage.begins(error)
                wait = min(wait * 2, 2.0)
            stop.wait(wait)
        with contextlib.suppress(RedisError, OSError):  # else it expires by itself
            self.remove_lock()

    def tick(self) -> int:
        """One round, of a bounded number of entries. Returns how many were due. Raises RedisError."""
        if not self.acquire_lock():
            return 0
        self._restore_periodic()
        due = self.connection.zrangebyscore(self.scheduled_jobs_key, 0, self._now(), start=0, num=_BATCH)
        for raw in due:
            try:
                job = StockSyncJob.fetch(raw.decode("utf-8", "replace"), connection=self.connection)
                cast(StockSyncJob, job).require_ours()
                self.enqueue_job(job)
            except NoSuchJobError:
                self.connection.zrem(self.scheduled_jobs_key, raw)
            except (RedisError, OSError):
                raise
            except Exception as error:  # whatever is wrong with an entry, those behind it go on
                self._quarantine(raw, error)
        return len(due)

    def acquire_lock(self) -> bool:
        """Hold the lock, or renew it where it is ours already."""
        taken = self.connection.set(self.scheduler_lock_key, self.name, nx=True, ex=_LOCK_SECONDS)
        return bool(
            taken or (self._holds_lock() and self.connection.expire(self.scheduler_lock_key, _LOCK_SECONDS))
        )

    def remove_lock(self) -> None:
        """Give the lock up, if it is ours."""
        if self._holds_lock():
            self.connection.delete(self.scheduler_lock_key)

    def _holds_lock(self) -> bool:
        return bool(self.connection.get(self.scheduler_lock_key) == self.name.encode())

    def _restore_periodic(self) -> None:
        """Schedule every periodic task whose entry is missing or has another interval; leave the others as they are."""
        now = self._now()
        with self.connection.pipeline() as pipe:
            for id in self._tasks:
                pipe.zscore(self.scheduled_jobs_key, id)
                pipe.hget(StockSyncJob.key_for(id), "description")
            found = pipe.execute()
        for task, score, said in zip(self._tasks.values(), found[::2], found[1::2], strict=True):
            description = f"{task.description}, every {task.interval} s"
            # Further ahead than its interval: the clock went back since, and it would rest all that time.
            in_time = score is not None and score <= now + task.interval + 1
            if not in_time or said != description.encode():
                self.schedule(
                    datetime.fromtimestamp(now, UTC),
                    task.function,
                    id=task.id,
                    interval=task.interval,
                    description=description,
                )
                log.info("periodic task %s is scheduled: %s", task.id, description)

    def enqueue_job(self, job: Any) -> None:
        """Queue what a due entry stands for, and set its next time or remove it."""
        lane = job.meta.get("lane")
        if task := self._tasks.get(job.id):
            # The next time first: a crash between the two steps costs one run, not the entry.
            self.connection.zadd(self.scheduled_jobs_key, {job.id: math.floor(self._now()) + task.interval})
            if self.connection.lpos(self._queue.key, job.id) is None:
                self._queue.enqueue_job(job)
        elif lane is None:
            log.info("periodic task %s is no more", job.id)
            self._forget(job)
        elif self._wakeups.wake(lane):
            score = self.connection.zscore(self.scheduled_jobs_key, job.id)
            if score is not None and score <= self._now():  # else a worker has just moved it on
                self._forget(job)

    def _forget(self, job: Any) -> None:
        with self.connection.pipeline() as pipe:
            pipe.zrem(self.scheduled_jobs_key, job.id)
            pipe.delete(job.key)
            pipe.execute()

    def _quarantine(self, raw: bytes, error: Exception) -> None:
        log.error("scheduler entry %r can't be read (%s); put aside", raw, error)
        self.connection.hset(self.quarantine_key, raw, f"{type(error).__name__}: {error}"[:500])
        self.connection.expire(self.quarantine_key, _QUARANTINE_SECONDS)
        self.connection.zrem(self.scheduled_jobs_key, raw)
