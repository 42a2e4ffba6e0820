"""The worker and the scheduler process: how they start, work and end, and the log that they and the page write.

The log is one line an event on stdout, words for people or JSON for a platform, never a secret. Events carry `lane`,
`order`, `operation`, `attempt` and `task` as `extra`, where they concern one.
"""

import contextlib
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import FrameType
from typing import Any, TextIO
from urllib.parse import unquote, urlsplit

import redis
from pydantic import SecretStr
from rq.exceptions import StopRequested
from rq.job import Job
from rq.queue import Queue
from rq.worker import SimpleWorker, WorkerStatus

from stocksync.config import StockSyncConfig
from stocksync.errors import ConfigurationError, MissingExtra, StockSyncError
from stocksync.queue.shutdown import on_stop_signals
from stocksync.queue.wakeups import BLOCKING_SECONDS, RedisWakeups, StockSyncJob
from stocksync.runtime import Runtime, current
from stocksync.store.values import printable

log = logging.getLogger(__name__)

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)  # not SIGHUP, which `nohup` ignores


def main(name: str, run: Callable[[Runtime], None]) -> int:
    """Run one process to its end. Returns the exit code: 0 stopped, 1 can't go on, 2 wrong configuration."""
    try:
        runtime = current()
        set_up_log(runtime.config)
        on_stop_signals(runtime.stop.set, _STOP_SIGNALS)
        log.info("%s started", name)
        run(runtime)
        runtime.close()
        log.info("%s stopped", name)
        return 0
    except StockSyncError as error:
        misconfigured = isinstance(error, (ConfigurationError, MissingExtra))
        print(error if misconfigured else f"{name}: {error}", file=sys.stderr)
        return 2 if misconfigured else 1


def schedule(runtime: Runtime) -> None:
    """The scheduler process: queue what is due, every second, until told to stop."""
    runtime.scheduler().run_until(runtime.stop, runtime.run_overdue_monitor)


def work(runtime: Runtime) -> None:
    """The worker process: work until told to stop. RQ ends its loop on errors of Redis; a new one starts after a second."""
    runtime.require_schema()
    _ = runtime.sender, runtime.messenger  # what is missing must be said now, not at the first order
    if isinstance(runtime.wakeups, RedisWakeups):  # here no caller waits: a slow Redis is given its time
        runtime.wakeups.queue.connection.connection_pool = runtime.connect_redis(
            blocking=True
        ).connection_pool
    rq_log = logging.getLogger("rq.worker")
    rq_log.addFilter(lambda record: _is_news(record, runtime))
    while not runtime.stop.is_set():
        try:
            worker = StockSyncWorker([runtime.queue(blocking=True)], worker_ttl=60)
            worker.runtime = runtime
            worker.work(logging_level=logging.getLevelName(rq_log.getEffectiveLevel()))
        except (redis.RedisError, OSError) as error:
            runtime.redis_outage.begins(error)
        except StopRequested:
            log.debug("told to stop outside of RQ's loop")  # where it raises this from its handler, too
        finally:
            # RQ's handlers stay behind its loop; a signal during the wait must still end it.
            on_stop_signals(runtime.stop.set, _STOP_SIGNALS)
        runtime.stop.wait(1.0)


def _is_news(record: logging.LogRecord, runtime: Runtime) -> bool:
    """RQ logs each failed attempt, often with a traceback. Instead say once that Redis is away, or full."""
    error = sys.exc_info()[1]
    if record.levelno < logging.WARNING or not isinstance(
        error, redis.ConnectionError | redis.TimeoutError | redis.OutOfMemoryError | redis.ReadOnlyError
    ):
        return True
    runtime.redis_outage.begins(error)
    return False


class StockSyncWorker(SimpleWorker):
    """RQ's worker without the fork: warm connections, a stop event for the job, a bounded wait for Redis."""

    job_class = StockSyncJob
    max_connection_wait_time = 2.0
    log_result_lifespan = False
    # Seconds. With RQ's own, a Redis that hangs would hold up the end for a minute.
    dequeue_timeout = BLOCKING_SECONDS - 1
    connection_timeout = BLOCKING_SECONDS

    runtime: Runtime
    _next_check = 0.0

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """SIGTERM: the slice under way claims nothing more, settles what it sent, and the loop ends."""
        self.runtime.stop.set()
        # RQ has several steps before the end, and they must take less than ten seconds though Redis hangs. The pool is
        # replaced, not the client, because the queue and the job under way have the same client. A pipeline under way
        # keeps the pool that it has, and asks its connection up to four times.
        for connection in (
            *self.connection.connection_pool._in_use_connections,
            *self.connection.connection_pool._available_connections,
        ):
            connection.socket_timeout = connection.socket_connect_timeout = (
                self.runtime.config.caller_redis_timeout
            )
        self.connection.connection_pool = self.runtime.connect_redis().connection_pool
        if isinstance(self.runtime.wakeups, RedisWakeups):
            self.runtime.wakeups.queue.connection.connection_pool = self.connection.connection_pool
        with contextlib.suppress(redis.RedisError, OSError):  # RQ also notes the request in Redis
            super().request_stop(signum, frame)  # type: ignore[no-untyped-call]

    def _install_signal_handlers(self) -> None:
        super()._install_signal_handlers()  # type: ignore[no-untyped-call]
        self._stop_requested = self.runtime.stop.is_set()  # the signal came while the worker was being made

    def request_force_stop(self, signum: int, frame: FrameType | None) -> None:
        """A second signal changes nothing: stopping is bounded by the request under way."""

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:
        """RQ's heartbeat. After a flush of Redis it registers the worker again; idle, it runs a monitor that is late."""
        if self.runtime.stop.is_set() and self.get_state() == WorkerStatus.IDLE:
            raise StopRequested  # once more: what a signal raises while a log line is written, logging swallows
        super().heartbeat(timeout, pipeline)
        if pipeline is not None:
            return
        self.runtime.redis_outage.ends()
        if self.birth_date is not None and not self.connection.hexists(self.key, "birth"):
            self.connection.delete(self.key)
            self.register_birth()  # type: ignore[no-untyped-call]
        if (
            self.get_state() == WorkerStatus.IDLE
            and not self.runtime.stop.is_set()
            and time.monotonic() >= self._next_check
        ):
            self._next_check = time.monotonic() + 45
            self.runtime.run_overdue_monitor()
            self.runtime.database.close()

    def subscribe(self) -> None:
        """Nothing. RQ's listens for commands that come through Redis, with a thread and a connection of its own."""

    def execute_job(self, job: Job, queue: Queue) -> None:
        """RQ's; then the database connection goes back to the pool."""
        super().execute_job(job, queue)
        self.runtime.database.close()


class EventFormatter(logging.Formatter):
    """One line an event, UTC, without secrets: words and then the fields for people, or a JSON object for a platform."""

    def __init__(self, config: StockSyncConfig) -> None:
        super().__init__()
        # Every secret setting, its parts where it is a list, and passwords inside URLs.
        secrets = {
            *(value.get_secret_value() for _, value in config if isinstance(value, SecretStr)),
            *config.messengers,
            config.jwt_token() or "",
        }
        passwords = [urlsplit(url).password or "" for url in secrets if "://" in url]
        secrets.update(passwords, map(unquote, passwords))
        # Short ones would take ordinary words out; a URL comes before the password in it.
        self._secrets = sorted((secret for secret in secrets if len(secret) >= 6), key=len, reverse=True)
        self._as_json = config.log_format == "json" or (config.log_format == "auto" and "DYNO" in os.environ)

    def format(self, record: logging.LogRecord) -> str:
        """For people a traceback's lines are joined with ⏎."""
        said = super().format(record)
        for secret in self._secrets:
            said = said.replace(secret, "***")
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields = {
            name: record.__dict__[name]
            for name in ("lane", "order", "operation", "attempt", "task")
            if name in record.__dict__
        }
        if self._as_json:
            return printable(
                json.dumps(
                    {"time": at, "level": record.levelname, "logger": record.name, "message": said, **fields},
                    ensure_ascii=False,
                    default=str,
                )
            )
        return " ".join(
            [
                at,
                f"{record.levelname:<7}",
                printable(said.replace("\n", " ⏎ ")),
                *(f"{name}={_word(value)}" for name, value in fields.items()),
            ]
        )


def set_up_log(config: StockSyncConfig, stream: TextIO | None = None) -> None:
    """Have the process log to `stream` (default: stdout), as the configuration says."""
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(EventFormatter(config))
    logging.basicConfig(level=config.log_level, handlers=[handler], force=True)


def _word(value: object) -> str:
    text = printable(str(value))
    return json.dumps(text, ensure_ascii=False) if " " in text or not text else text
