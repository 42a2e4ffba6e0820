"""The RQ queue, its JSON job class, and wake-ups: the jobs that say 'this lane has due work' and carry no data."""

import math
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import NAMESPACE_URL, uuid5

from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError, ReadOnlyError
from redis.retry import Retry
from rq import Queue, worker_registration
from rq.exceptions import DeserializationError
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

from stocksync.store.context import Wakeups
from stocksync.store.outages import REDIS, Outage

TASKS = "stocksync.queue.tasks."
"""Where the functions are that jobs may name."""
_OUR_FUNCTION = re.compile(
    rf"(?:{re.escape(TASKS)}|jobs\.delivery\.|jobs\.periodic\.)(deliver_lane|sweep|reconcile|monitor|cleanup)"
)
"""`jobs.*` is where they were; jobs that wait under these names, and periodic entries, are still done."""
_FIELDS = frozenset(
    b"data origin description meta status created_at enqueued_at started_at ended_at last_heartbeat worker_name "
    b"result_ttl failure_ttl".split()
)
"""Of a job's hash, what counts. RQ calls whatever function is named as a callback, also of a job that it does not run,
and asks whatever address is named as a webhook."""
_TTL: dict[str, Any] = {"result_ttl": 300, "failure_ttl": 7 * 86400}
_JOB_TIMEOUT = 180
BLOCKING_SECONDS = 3
"""For which the worker and the scheduler wait for Redis at most; SIGTERM must end them in ten, though it hangs."""


class StockSyncJob(Job):
    """A job whose data is JSON and whose function is one of `tasks`: Redis can't make a worker run anything else."""

    def __init__(
        self,
        id: str | None = None,
        connection: Redis | None = None,
        serializer: Any = None,  # noqa: ARG002 (rq-scheduler hands in none, which would mean pickle)
    ) -> None:
        super().__init__(id=id, connection=connection, serializer=JSONSerializer)

    @property
    def func(self) -> Any:
        """The function that it names. Raises DeserializationError for a job that is not one of ours."""
        found = _OUR_FUNCTION.fullmatch(str(self.func_name))
        if found is None or self.instance is not None:
            raise DeserializationError(
                f"job {self.id} asks for {self.func_name!r}; only functions of {TASKS}* are run"
            )
        self.func_name = TASKS + found[1]
        return super().func

    def restore(self, raw_data: Any) -> None:
        """Take from Redis the fields that our jobs have, and no others; the time that a job may take is always ours."""
        super().restore(
            {name: value for name, value in raw_data.items() if name in _FIELDS}
            | {b"timeout": b"%d" % _JOB_TIMEOUT}
        )


def connect_redis(url: str, *, timeout: float | None = None, self_signed: bool = False) -> Redis:
    """A client for `url`, which connects at first use.

    It tries once more, at once and on a new connection, when the old one was broken, or leads to a server that is a
    replica now: behind one address another one has taken over. A time-out is never followed by another.

    Args:
        timeout: seconds for connecting and for each command. None: as the worker and the scheduler need it.
        self_signed: accept any certificate of a `rediss://` server (an explicit choice of who deploys).
    """
    return Redis.from_url(
        url,
        socket_timeout=timeout or BLOCKING_SECONDS,
        socket_connect_timeout=timeout or BLOCKING_SECONDS,
        retry=Retry(NoBackoff(), 1, (RedisConnectionError, ReadOnlyError)),
        **(
            {"ssl_cert_reqs": "none", "ssl_check_hostname": False}
            if self_signed and url.startswith("rediss")
            else {}
        ),
    )


def make_queue(connection: Redis, name: str) -> Queue:
    """The one queue: JSON, our job class, bounded times."""
    return Queue(name, connection, _JOB_TIMEOUT, job_class=StockSyncJob, serializer=JSONSerializer)


def processes_alive(connection: Redis, queue_name: str, prefix: str, now: datetime) -> dict[str, bool]:
    """Whether a `worker` of the queue and a `scheduler` live. Raises RedisError.

    A worker notes when it was last heard; the scheduler renews a lock of some seconds at every tick.
    """
    return {
        # Idle, a worker is heard every few seconds; during a job it is not.
        "worker": any(
            now - datetime.fromisoformat(beat.decode()).astimezone(UTC) < timedelta(seconds=_JOB_TIMEOUT + 60)
            for key in worker_registration.get_keys(Queue(queue_name, connection=connection))
            if (beat := cast(bytes | None, connection.hget(key, "last_heartbeat")))
        ),
        "scheduler": bool(connection.exists(scheduler_lock(prefix))),
    }


def scheduler_lock(prefix: str) -> str:
    """The key that the scheduler at work holds."""
    return f"{prefix}:scheduler:lock"


class RedisWakeups(Wakeups):
    """Wakes lanes through RQ and rq-scheduler. Without Redis it says so once and rests a while; only `push` raises."""

    def __init__(
        self,
        queue: Queue,
        prefix: str,
        outage: Outage | None = None,
        *,
        pause: float = 30.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            queue: on a connection with short timeouts and no retries.
            prefix: of our own keys.
            outage: the process's one of Redis; None: one of its own.
            pause: seconds for which Redis is left alone after it did not answer.
        """
        self.queue = queue
        self.prefix = prefix
        self._redis: Redis = queue.connection
        self.scheduled_jobs_key = f"{prefix}:scheduler:scheduled_jobs"
        """The sorted set of rq-scheduler's entries."""
        self.outage = outage or Outage(REDIS)
        self._pause = pause
        self._monotonic = monotonic
        self._resting_until = -math.inf

    def push(self, lane: str, *, force: bool = False) -> None:
        """Queue the job that drains the lane, unless one waits. `force`: as for `wake`. Raises RedisError."""
        if self._redis.set(self.marker(lane), "1", nx=not force, ex=60):
            self.queue.enqueue_call(
                f"{TASKS}deliver_lane", (lane,), description=f"deliver what is due of {lane}", **_TTL
            )

    def wake(self, lane: str, *, force: bool = False) -> bool:
        """Have the lane drained soon: one job, however often it is asked for while that job waits.

        Args:
            force: make a job though one seems to wait; the sweep's way around a job that was lost.

        Returns:
            False when Redis did not answer, or is being left alone.
        """
        return self._attempt(lambda: self.push(lane, force=force))

    def again(self, task_name: str, job_id: str | None = None) -> None:
        """Queue one of `tasks` behind what waits, for what is left of its work."""
        self._attempt(lambda: self.queue.enqueue_call(TASKS + task_name, job_id=job_id, **_TTL))

    def begin(self, lane: str) -> None:
        """Called by the lane's job before it looks for work: from here on a new wake-up makes a new job."""
        self._attempt(lambda: self._redis.delete(self.marker(lane)))

    def others_wait(self, lane: str) -> bool:
        """Whether a job waits that is not the lane's own."""
        found: list[bool] = []
        self._attempt(lambda: found.append(self.queue.count > self._redis.exists(self.marker(lane))))
        return any(found)

    def wake_at(self, lane: str, moment: datetime | None) -> None:
        """Have the lane's one entry at `moment`, rounded up to the second; None: have none."""

        def plan() -> None:
            id = self.entry_id(lane)
            # In this order: the scheduler drops an entry without its job.
            if moment is not None:
                StockSyncJob.create(
                    f"{TASKS}deliver_lane",
                    args=(lane,),
                    id=id,
                    connection=self._redis,
                    origin=self.queue.name,
                    status=JobStatus.SCHEDULED,
                    description=f"deliver what is due of {lane}",
                    meta={"lane": lane},
                ).save()
                self._redis.zadd(self.scheduled_jobs_key, {id: math.ceil(moment.timestamp())})
            elif self._redis.delete(StockSyncJob.key_for(id)):
                self._redis.zrem(self.scheduled_jobs_key, id)

        self._attempt(plan)

    def marker(self, lane: str) -> str:
        """The key that says: a wake-up of this lane waits."""
        return f"{self.prefix}:wake:{lane}"

    @staticmethod
    def entry_id(lane: str) -> str:
        """The fixed id of the lane's entry at rq-scheduler."""
        return f"retry-{uuid5(NAMESPACE_URL, lane)}"

    def _attempt(self, action: Callable[[], object]) -> bool:
        if self._monotonic() >= self._resting_until:
            try:
                action()
                self.outage.ends()
                return True
            except (RedisError, OSError) as error:
                self._resting_until = self._monotonic() + self._pause
                self.outage.begins(error)
        return False
