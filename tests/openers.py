"""A new database migrated by several processes at once: `python -m tests.openers URL`; or many: `... FOLDER`.

In a folder these are SQLite files, each opened and migrated by all threads of all processes.
A program of its own, because a test runner that has threads must not fork.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import threading
from multiprocessing.synchronize import Barrier

from stocksync.store.database import open_database
from stocksync.store.migrate import migrate

FILES = 25
PROCESSES, THREADS = 4, 2


def open_each(folder: str, start: Barrier) -> None:
    """Open every file together with all others; what goes wrong is printed by the thread or process that it ends."""
    for number in range(FILES):
        database = open_database(f"sqlite:///{folder}/{number}.sqlite3")
        start.wait(20)
        migrate(database)
        database.close_all()


def with_threads(folder: str, start: Barrier) -> None:
    """One process."""
    threads = [threading.Thread(target=open_each, args=(folder, start)) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def open_one(url: str, start: Barrier) -> None:
    """One process, which prints what it applied."""
    database = open_database(url)
    start.wait(20)
    sys.stdout.write(f"{json.dumps(migrate(database))}\n")  # in one go, as the others write there too
    database.close_all()


if __name__ == "__main__":
    fork, where = multiprocessing.get_context("fork"), sys.argv[1]
    one_database = "://" in where
    together = fork.Barrier(PROCESSES if one_database else PROCESSES * THREADS)
    work = open_one if one_database else with_threads
    processes = [fork.Process(target=work, args=(where, together)) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
