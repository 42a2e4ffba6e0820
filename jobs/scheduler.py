"""The scheduler process: brings due entries to the queue and keeps the periodic ones in place."""

from __future__ import annotations

import sys

from jobs.process import main_of
from stocksync.runtime import Runtime


def run(runtime: Runtime) -> None:
    """Tick every second until told to stop."""
    runtime.scheduler().run_until(runtime.stop, runtime.stand_in)


if __name__ == "__main__":
    sys.exit(main_of("scheduler", run))
