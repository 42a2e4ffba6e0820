"""rq-scheduler made to last: it survives lost connections, flushed keys and broken entries.

What plain rq-scheduler 0.14 does, and why this differs: an undecodable entry raises inside `run()` and stops
everything behind it; so does a lost connection; its lock is neither renewed nor owner-checked; enqueueing and
removing are two steps; its keys are shared with every other scheduler on the same Redis.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from redis.exceptions import RedisError
from rq.exceptions import NoSuchJobError
from rq.job import JobStatus
from rq.queue import Queue
from rq_scheduler import Scheduler

from stocksync.queue.stopping import Stop
from stocksync.queue.wakeups import RedisWakeups, StockSyncJob, scheduler_lock

log = logging.getLogger(__name__)

_BATCH = 200
_LOCK_SECONDS = 11
_FAILURE_TTL = 7 * 86400
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
        self.redis_scheduler_namespace_prefix = f"{prefix}:scheduler:instance:"
        self.quarantine_key = f"{prefix}:scheduler:quarantine"
        self._queue = queue
        self._wakeups = wakeups
        self._tasks = tuple(tasks)
        self._now = now
        self._cleared = False

    def run_until(self, stop: Stop, every_minute: Callable[[], None] = lambda: None) -> None:
        """Tick until `stop` is set. A lost Redis is waited for, in steps of at most two seconds.

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
        try:
            self.remove_lock()
            self.connection.delete(self.key)
        except (RedisError, OSError):
            pass  # both expire by themselves

    def tick(self) -> int:
        """One round, of a bounded number of entries. Answers with how many were due. Raises RedisError."""
        self.heartbeat()
        if not self.acquire_lock():
            return 0
        self.restore_periodic()
        due = self.connection.zrangebyscore(self.scheduled_jobs_key, 0, self._now(), start=0, num=_BATCH)
        for raw in due:
            job_id = raw.decode("utf-8", "replace")
            try:
                job = StockSyncJob.fetch(job_id, connection=self.connection)
                cast(StockSyncJob, job).require_ours()
                self.enqueue_job(job)
            except NoSuchJobError:
                self.connection.zrem(self.scheduled_jobs_key, raw)
            except (RedisError, OSError):
                raise
            except Exception as error:  # whatever an entry does to us, the ones behind it must go on
                self._quarantine(raw, error)
        return len(due)

    def heartbeat(self) -> None:
        """Say that this scheduler lives; its key expires when it does not."""
        with self.connection.pipeline() as pipe:
            pipe.hset(self.key, "last_heartbeat", datetime.fromtimestamp(self._now(), UTC).isoformat())
            pipe.expire(self.key, 60)
            pipe.execute()

    def acquire_lock(self) -> bool:
        """Hold the lock, or renew it where it is ours already."""
        if self.connection.set(self.scheduler_lock_key, self.name, nx=True, ex=_LOCK_SECONDS):
            return True
        if self._lock_is_ours():
            self.connection.expire(self.scheduler_lock_key, _LOCK_SECONDS)
            return True
        return False

    def remove_lock(self) -> None:
        """Give the lock up, if it is ours."""
        if self._lock_is_ours():
            self.connection.delete(self.scheduler_lock_key)

    def _lock_is_ours(self) -> bool:
        holder = self.connection.get(self.scheduler_lock_key)
        return bool(holder == self.name.encode())

    def restore_periodic(self) -> None:
        """Put back every periodic entry that is missing or has another interval; leave the others' times alone."""
        if not self._cleared:
            self._remove_obsolete()
        with self.connection.pipeline() as pipe:
            for task in self._tasks:
                pipe.zscore(self.scheduled_jobs_key, task.id)
                pipe.hget(StockSyncJob.key_for(task.id), "description")
            found = pipe.execute()
        for task, score, description in zip(self._tasks, found[::2], found[1::2], strict=True):
            wanted = f"{task.description}, every {task.interval} s"
            # Further ahead than its interval: the clock went back since, and it would rest all that time.
            ahead = score is not None and score > self._now() + task.interval + 1
            if (
                score is None
                or ahead
                or description is None
                or description.decode("utf-8", "replace") != wanted
            ):
                self._plan(task, wanted)

    def _remove_obsolete(self) -> None:
        """Once: entries of tasks that an earlier version had."""
        kept = {task.id.encode() for task in self._tasks}
        for entry, _ in self.connection.zscan_iter(self.scheduled_jobs_key, match=f"{PERIODIC}*"):
            if entry not in kept:
                log.info("periodic task %s is no more", entry.decode("utf-8", "replace"))
                self.connection.zrem(self.scheduled_jobs_key, entry)
                self.connection.delete(StockSyncJob.key_for(entry.decode("utf-8", "replace")))
        self._cleared = True

    def _plan(self, task: PeriodicTask, description: str) -> None:
        job = StockSyncJob.create(
            task.function,
            id=task.id,
            connection=self.connection,
            origin=self._queue.name,
            status=JobStatus.SCHEDULED,
            description=description,
            result_ttl=-1,
            failure_ttl=_FAILURE_TTL,
            meta={"interval": task.interval},
        )
        with self.connection.pipeline() as pipe:
            job.save(pipeline=pipe)
            pipe.persist(job.key)
            pipe.zadd(self.scheduled_jobs_key, {task.id: math.floor(self._now())})
            pipe.execute()
        log.info("periodic task %s is scheduled: %s", task.id, description)

    def enqueue_job(self, job: Any) -> None:
        """Bring one due entry about."""
        lane = job.meta.get("lane")
        if lane is not None:
            if self._wakeups.wake(lane):
                self._remove_if_due(job)
            return
        # The next time first: a crash between the two steps costs one run, not the entry.
        following = math.floor(self._now()) + int(job.meta["interval"])
        self.connection.zadd(self.scheduled_jobs_key, {job.id: following})
        if self.connection.lpos(self._queue.key, job.id) is None:
            self._queue.enqueue_job(job)

    def _remove_if_due(self, job: Any) -> None:
        """Remove the lane's entry, unless a worker has just moved it on."""
        score = self.connection.zscore(self.scheduled_jobs_key, job.id)
        if score is not None and score <= self._now():
            with self.connection.pipeline() as pipe:
                pipe.zrem(self.scheduled_jobs_key, job.id)
                pipe.delete(job.key)
                pipe.execute()

    def _quarantine(self, raw: bytes, error: Exception) -> None:
        log.error("scheduler entry %r can't be read (%s); put aside", raw, error)
        with self.connection.pipeline() as pipe:
            pipe.zrem(self.scheduled_jobs_key, raw)
            pipe.hset(self.quarantine_key, raw, f"{type(error).__name__}: {error}"[:500])
            pipe.expire(self.quarantine_key, _FAILURE_TTL)
            pipe.execute()
