"""`python -m benchmarks.soak [--quick]`: half an hour of everything at once, on a million rows; exits 0 only if all was well.

Callers record orders at a steady pace, two workers and a scheduler deliver them, an operator pages through the lists,
the API is loaded in bursts, slow clients hold connections. Prints a line each minute and tables at the end.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.soak.run import Plan, soak, verdict

KINDS = {"postgresql": "PostgreSQL", "sqlite": "SQLite"}
SERVER = "shared_buffers = 512MB\nmax_wal_size = 2GB"


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=200.0, help="orders a second (default 200)")
    parser.add_argument("--rows", type=int, default=1_000_000, help="operations that are there before")
    parser.add_argument("--database", choices=KINDS, default="postgresql")
    parser.add_argument("--slow", type=int, default=6, help="slow clients; gunicorn has eight threads")
    parser.add_argument("--quick", action="store_true", help="a minute at 50 a second on 20,000 rows")
    parser.add_argument("--dir", type=Path, help="where the files lie; PostgreSQL's account must get there")
    given = parser.parse_args()
    if given.quick:
        given.minutes, given.rate, given.rows = 1.0, 50.0, 20_000
    plan = Plan(
        kind=KINDS[given.database],
        seconds=given.minutes * 60,
        rate=given.rate,
        rows=given.rows,
        slow=given.slow,
        sample_every=min(10.0, given.minutes * 60 / 20),
    )
    with tempfile.TemporaryDirectory(prefix="stocksync-soak-", dir=given.dir) as folder:
        bench = Bench(Path(folder), on_disk=True, postgres_settings=SERVER)
        try:
            return verdict(soak(bench, plan))
        finally:
            bench.close()


if __name__ == "__main__":
    sys.exit(main())
