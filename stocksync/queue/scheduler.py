"""rq-scheduler made to last: it survives lost connections, flushed keys and broken entries.

What plain rq-scheduler 0.14 does, and why this differs: an undecodable entry raises inside `run()` and stops
everything behind it; so does a lost connection; its lock is neither renewed nor owner-checked; enqueueing and
removing are two steps; its keys are shared with every other scheduler on the same Redis.
"""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from redis import RedisError
from rq.exceptions import NoSuchJobError
from rq_scheduler import Scheduler

from stocksync.queue.shutdown import Stop
from stocksync.queue.wakeups import TASKS, RedisWakeups, StockSyncJob, scheduler_lock

log = logging.getLogger(__name__)

_LOCK_SECONDS = 11
_PERIODIC = "periodic-"
"""How the ids of periodic entries begin."""


class StockSyncScheduler(Scheduler):  # type: ignore[misc]
    """Our entries only, under our own prefix. A lane's entry becomes a wake-up, a periodic one a job of its own."""

    def __init__(
        self,
        wakeups: RedisWakeups,
        tasks: Mapping[str, tuple[int, str]],
        *,
        interval: float = 1.0,
        now: Callable[[], float] = time.time,
    ) -> None:
        """
        Args:
            wakeups: on a connection for blocking calls. Due jobs go to its queue.
            tasks: the periodic tasks, kept in place at every tick: name -> (seconds between runs, what it is for).
            interval: seconds between ticks.
            now: Unix seconds.
        """
        super().__init__(
            queue=wakeups.queue,
            connection=wakeups.queue.connection,
            interval=interval,
            job_class=StockSyncJob,
        )
        self.scheduled_jobs_key = wakeups.scheduled_jobs_key
        self.scheduler_lock_key = scheduler_lock(wakeups.prefix)
        self._wakeups = wakeups
        self._tasks = {f"{_PERIODIC}{name}": task for name, task in tasks.items()}
        self._now = now

    def run_until(self, stop: Stop, every_minute: Callable[[], None] = lambda: None) -> None:
        """Tick until `stop` is set, with Redis or without.

        Args:
            every_minute: called once a minute, with Redis or without; must not raise.
        """
        next_minute = self._now() + 60
        while not stop.is_set():
            if self._now() >= next_minute:
                next_minute = self._now() + 60
                every_minute()
            try:
                self.tick()
                self._wakeups.outage.ends()
            except (RedisError, OSError) as error:
                self._wakeups.outage.begins(error)
            stop.wait(self._interval)
        with contextlib.suppress(RedisError, OSError):  # else it expires by itself
            self.remove_lock()

    def tick(self) -> int:
        """One round, of a bounded number of entries. Returns how many were due. Raises RedisError."""
        if not self.acquire_lock():
            return 0
        self._restore_periodic()
        due = self.connection.zrangebyscore(self.scheduled_jobs_key, 0, self._now(), start=0, num=200)
        for raw in due:
            try:
                job = StockSyncJob.fetch(raw.decode("utf-8", "replace"), connection=self.connection)
                _ = job.func  # it must be one of ours
                self.enqueue_job(job)
            except NoSuchJobError:
                self.connection.zrem(self.scheduled_jobs_key, raw)
            except (RedisError, OSError):
                raise
            except Exception as error:  # whatever is wrong with an entry, those behind it go on
                log.error(
                    "scheduler entry %.200r can't be queued (%s: %.500s); dropped",
                    raw,
                    type(error).__name__,
                    error,
                )
                self.connection.zrem(self.scheduled_jobs_key, raw)
        return len(due)

    def acquire_lock(self) -> bool:
        """Hold the lock, or renew it where it is ours already."""
        return bool(
            self.connection.set(self.scheduler_lock_key, self.name, nx=True, ex=_LOCK_SECONDS)
            or (self._holds_lock() and self.connection.expire(self.scheduler_lock_key, _LOCK_SECONDS))
        )

    def remove_lock(self) -> None:
        """Give the lock up, if it is ours."""
        if self._holds_lock():
            self.connection.delete(self.scheduler_lock_key)

    def _holds_lock(self) -> bool:
        return bool(self.connection.get(self.scheduler_lock_key) == self.name.encode())

    def _restore_periodic(self) -> None:
        """Schedule every periodic task whose entry is missing or has another interval; leave the others as they are."""
        for id, (interval, purpose) in self._tasks.items():
            description = f"{purpose}, every {interval} s"
            score = self.connection.zscore(self.scheduled_jobs_key, id)
            # Further ahead than its interval: the clock went back since, and it would rest all that time.
            if (
                score is None
                or score > self._now() + interval + 1
                or self.connection.hget(StockSyncJob.key_for(id), "description") != description.encode()
            ):
                self.schedule(
                    datetime.fromtimestamp(self._now(), UTC),
                    TASKS + id.removeprefix(_PERIODIC),
                    id=id,
                    interval=interval,
                    description=description,
                )
                log.info("periodic task %s is scheduled: %s", id, description)

    def enqueue_job(self, job: Any) -> None:
        """Queue what a due entry stands for, and set its next time or remove it."""
        if job.id in self._tasks:
            # The next time first: a crash between the two steps costs one run, not the entry.
            self.connection.zadd(
                self.scheduled_jobs_key, {job.id: math.floor(self._now()) + self._tasks[job.id][0]}
            )
            if self.connection.lpos(self._queue.key, job.id) is None:
                self._queue.enqueue_job(job)
        else:
            # Removed first, because the drain that the wake-up brings about plans the lane's next time. If we crash in
            # between, the sweep wakes the lane.
            self.connection.delete(job.key)
            self.cancel(job)
            if lane := job.meta.get("lane"):
                self._wakeups.push(lane)
            else:
                log.info("periodic task %s is no more", job.id)
