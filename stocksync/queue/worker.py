"""The worker process: one warm process on one queue, which stops cleanly and outlives its Redis."""

import contextlib
import logging
import signal
import sys
import time
from functools import cached_property
from types import FrameType
from typing import Any

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from rq.exceptions import StopRequested
from rq.job import Job
from rq.queue import Queue
from rq.worker import SimpleWorker, WorkerStatus

from stocksync.queue.wakeups import BLOCKING_SECONDS, StockSyncJob, connect_redis
from stocksync.runtime import Runtime

log = logging.getLogger(__name__)

_AWAY = (RedisConnectionError, RedisTimeoutError)
_STAND_IN_SECONDS = 45
# RQ has several steps at the end of a job, and SIGTERM must end the worker in ten seconds though Redis hangs.
_QUICK_SECONDS = 1.0


class StockSyncWorker(SimpleWorker):
    """RQ's worker without the fork: warm connections, a stop event for the job, a bounded wait for Redis."""

    job_class = StockSyncJob
    max_connection_wait_time = 2.0
    log_result_lifespan = False
    # Seconds. With RQ's own, a Redis that hangs would hold up the end for a minute.
    dequeue_timeout = BLOCKING_SECONDS - 1
    connection_timeout = BLOCKING_SECONDS

    runtime: Runtime
    _next_stand_in = 0.0

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """SIGTERM: the slice under way claims nothing more, settles what it sent, and the loop ends."""
        self.runtime.stop.set()
        self.connection = self.runtime.connect_redis()  # it hardly waits
        with contextlib.suppress(RedisError, OSError):  # RQ also notes the request in Redis
            super().request_stop(signum, frame)  # type: ignore[no-untyped-call]

    def _install_signal_handlers(self) -> None:
        super()._install_signal_handlers()  # type: ignore[no-untyped-call]
        self._stop_requested = self.runtime.stop.is_set()  # the signal came while the worker was being made

    def request_force_stop(self, signum: int, frame: FrameType | None) -> None:
        """A second signal changes nothing: stopping is bounded by the request under way."""

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:
        """RQ's heartbeat. After a flush of Redis it registers the worker again; idle, it runs a monitor that is late."""
        super().heartbeat(timeout, pipeline)
        if pipeline is not None:
            return
        self.runtime.redis_outage.ends()
        if self.birth_date is not None and not self.connection.hexists(self.key, "birth"):
            self.connection.delete(self.key)
            self.register_birth()  # type: ignore[no-untyped-call]
        idle = self.get_state() == WorkerStatus.IDLE and not self.runtime.stop.is_set()
        if idle and time.monotonic() >= self._next_stand_in:
            self._next_stand_in = time.monotonic() + _STAND_IN_SECONDS
            self.runtime.stand_in()
            self.runtime.database.close()

    def subscribe(self) -> None:
        """Nothing. RQ's listens for commands that come through Redis, with a thread and a connection of its own."""

    def execute_job(self, job: Job, queue: Queue) -> None:
        """RQ's, with a short wait for Redis before and after the job; then the database connection goes back to the pool."""
        blocking, self.connection = self.connection, self._quick_connection
        super().execute_job(job, queue)
        self.runtime.database.close()
        if not self.runtime.stop.is_set():
            self.connection = blocking

    def handle_execution_ended(self, job: Job, queue: Queue, heartbeat_ttl: int) -> None:
        """RQ's, with the wait for Redis that the worker has by now."""
        job.connection = self.connection
        super().handle_execution_ended(job, queue, heartbeat_ttl)

    @cached_property
    def _quick_connection(self) -> Redis:
        url, config = self.runtime.redis_url, self.runtime.config
        return connect_redis(url, timeout=_QUICK_SECONDS, self_signed=config.redis_ssl_self_signed)


def run(runtime: Runtime) -> None:
    """Work until told to stop. RQ ends its loop on errors of Redis; a new one starts after a second."""
    runtime.require_schema()
    _ = runtime.sender, runtime.messenger  # what is missing must be said now, not at the first order
    rq_log = logging.getLogger("rq.worker")
    rq_log.addFilter(lambda record: _is_news(record, runtime))
    while not runtime.stop.is_set():
        try:
            worker = StockSyncWorker([runtime.worker_queue()], worker_ttl=60)
            worker.runtime = runtime
            worker.work(logging_level=logging.getLevelName(rq_log.getEffectiveLevel()))
        except (RedisError, OSError) as error:
            runtime.redis_outage.begins(error)
        except StopRequested:
            log.debug("told to stop outside of RQ's loop")  # where it raises this from its handler, too
        finally:
            # RQ's handlers stay behind its loop; a signal during the wait must still end it.
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: runtime.stop.set())
        runtime.stop.wait(1.0)


def _is_news(record: logging.LogRecord, runtime: Runtime) -> bool:
    """RQ logs each failed attempt, often with a traceback. Instead say once that Redis is away."""
    error = sys.exc_info()[1]
    if record.levelno < logging.WARNING or not isinstance(error, _AWAY):
        return True
    runtime.redis_outage.begins(error)
    return False
