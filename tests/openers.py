"""New SQLite files, each opened and migrated at once by forked processes with threads: `python -m tests.openers FOLDER`.

A program of its own, because a test runner that has threads must not fork.
"""

from __future__ import annotations

import multiprocessing
import sys
import threading
from multiprocessing.synchronize import Barrier
from pathlib import Path

from stocksync.store.database import open_database
from stocksync.store.migrate import migrate

FILES = 25
PROCESSES, THREADS = 4, 2


def open_each(folder: Path, start: Barrier) -> None:
    """Open every file together with all others; what goes wrong is printed by the thread or process that it ends."""
    for number in range(FILES):
        database = open_database(f"sqlite:///{folder / f'{number}.sqlite3'}")
        start.wait(20)
        migrate(database)
        database.close_all()


def with_threads(folder: Path, start: Barrier) -> None:
    """One process."""
    threads = [threading.Thread(target=open_each, args=(folder, start)) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    fork = multiprocessing.get_context("fork")
    together = (Path(sys.argv[1]), fork.Barrier(PROCESSES * THREADS))
    processes = [fork.Process(target=with_threads, args=together) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
