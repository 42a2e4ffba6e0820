"""`python -m benchmarks.delivery`: every measurement, from one run on one machine."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench, Missing
from benchmarks.report import Result

MEASUREMENTS = {
    "bare": "bare",
    "latency": "latency",
    "two-workers": "two_workers",
    "peers": "beside_peers",
    "peers-latency": "beside_peers_latency",
    "pickup": "pickup",
    "redis-memory": "redis_memory",
    "caller": "caller",
    "table-size": "table_size",
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.delivery", description=__doc__)
    parser.add_argument(
        "--only", nargs="+", choices=MEASUREMENTS, metavar="NAME", help=", ".join(MEASUREMENTS)
    )
    parser.add_argument("--rounds", type=int, default=0, help="of each contender (default 5, with --quick 3)")
    parser.add_argument("--quick", action="store_true", help="smaller backlogs and tables")
    parser.add_argument("--orders", type=int, default=0, help="that each contender beside peers delivers")
    parser.add_argument("--peers", nargs="+", default=(), metavar="NAME", help="beside these peers alone")
    parser.add_argument(
        "--json", action="store_true", help="one JSON object on stdout in the place of the table"
    )
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    parser.add_argument("--dir", type=Path, help="where databases are made: the disk that is measured")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run what is asked for; 0 when it ran, whatever it found, 1 when a measurement broke."""
    given = _parser().parse_args(arguments)
    results: list[Result] = []
    broken = False
    with tempfile.TemporaryDirectory(prefix="stocksync-bench-", dir=given.dir) as folder:
        machine = _machine(Path(folder))
        _say(given.json, f"{machine['system']}, Python {machine['python']}, {machine['cores']} cores, "
             f"fsync {machine['fsync_ms']:.2f} ms, load {machine['load']:.1f} at the start")  # fmt: skip
        rounds = given.rounds or (3 if given.quick else 5)
        bench = Bench(Path(folder), rounds, given.quick, given.orders, given.peers)
        try:
            for name in given.only or MEASUREMENTS:
                started = time.monotonic()
                print(f"{name} ...", file=sys.stderr, flush=True)
                try:
                    result = importlib.import_module(f"benchmarks.{MEASUREMENTS[name]}").measure(bench)
                except Missing as missing:
                    result = Result(name, "skipped", skipped=[str(missing)])
                except Exception as error:  # the others are still worth having
                    result = Result(name, "broke", skipped=[f"{type(error).__name__}: {error}"])
                    broken = True
                result.seconds = time.monotonic() - started
                results.append(result)
                _say(given.json, "\n" + "\n".join(result.lines()))
        finally:
            bench.close()
        machine["load_at_end"] = os.getloadavg()[0]
    document = {
        "machine": machine,
        "rounds": bench.rounds,
        "quick": given.quick,
        "results": [result.as_dict() for result in results],
        "goals_not_reached": [
            goal.figure.name for result in results for goal in result.goals if not goal.met
        ],
    }
    if given.out:
        given.out.write_text(json.dumps(document, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    if given.json:
        print(json.dumps(document, ensure_ascii=False))
    return int(broken)


def _say(as_json: bool, text: str) -> None:
    print(text, file=sys.stderr if as_json else sys.stdout, flush=True)


def _machine(folder: Path) -> dict[str, Any]:
    times = []
    with (folder / "fsync").open("wb", buffering=0) as file:
        for _ in range(100):
            file.write(b"x" * 4096)
            started = time.perf_counter()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - started)
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "fsync_ms": statistics.median(times) * 1000,
        "load": os.getloadavg()[0],
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


if __name__ == "__main__":
    sys.exit(main())
