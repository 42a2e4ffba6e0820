"""What the worker and the scheduler process share: logging, signals, and errors in words."""

import logging
import signal
import sys
from collections.abc import Callable

from stocksync.errors import ConfigurationError, MissingExtra, StockSyncError
from stocksync.queue import eventlog
from stocksync.runtime import Runtime, current

log = logging.getLogger(__name__)


def main(name: str, run: Callable[[Runtime], None]) -> int:
    """Run one process to its end. Returns the exit code: 0 stopped, 1 can't go on, 2 wrong configuration."""
    try:
        runtime = current()
        eventlog.set_up(runtime.config)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: runtime.stop.set())
        log.info("%s started", name)
        run(runtime)
        runtime.close()
        log.info("%s stopped", name)
        return 0
    except (ConfigurationError, MissingExtra) as error:
        print(error, file=sys.stderr)
        return 2
    except StockSyncError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1


def tick(runtime: Runtime) -> None:
    """The scheduler process: queue what is due, every second, until told to stop."""
    runtime.scheduler().run_until(runtime.stop, runtime.stand_in)
