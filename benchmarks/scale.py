"""`python -m benchmarks.scale --operations N --database postgresql|sqlite`: a shop with a long history, and what each question takes.

Fills a database with N operations of 45 days (mostly delivered; a few wait, failed, are in doubt or cancelled), with
lines, logs, keys and movements, then times what workers, callers, the page and upkeep ask of it. Prints medians, the
statement behind whatever takes long, and bytes a row. The files lie under `--dir`, and are removed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench
from benchmarks.history import write_history
from benchmarks.scale_questions import Spy, paths, tasks
from benchmarks.shop import open_runtime
from benchmarks.sizes import sizes
from stocksync.runtime import Runtime
from stocksync.store.audit import QUESTIONS
from stocksync.web import create_app

KINDS = {"postgresql": "PostgreSQL", "sqlite": "SQLite"}
TRIES, SECONDS = 7, 20.0
"""Of each question, in all; the first try does not count unless it is the only one."""
SLOW_MS = 100.0
"""Above that the statement is shown."""
CLEANED_SECONDS = 20.0
# Memory as of a small server of its own, and checkpoints that don't come every second while millions of rows go in.
SERVER = "shared_buffers = 2GB\neffective_cache_size = 8GB\nmax_wal_size = 4GB\ncheckpoint_timeout = 30min\nautovacuum = off"


def measure(bench: Bench, kind: str, operations: int, *, own: bool) -> dict[str, Any]:
    """Fill, ask, weigh."""
    with bench.database(kind) as url:
        with open_runtime(url):
            pass
        began = time.monotonic()
        parts = write_history(url, operations, own=own, said=_say)
        told: dict[str, Any] = {"database": kind, "asked for": operations, "fill": parts}
        told["fill seconds"] = round(time.monotonic() - began)
        with open_runtime(url) as runtime:
            told["statuses"] = runtime.operation_lists.by_status()
            told["sizes"] = sizes(kind, url)
            _say("questions")
            told["times"], told["slow"] = {}, []
            spy = Spy(runtime.database)
            for name, act in _acts(runtime).items():
                spy.forget()
                told["times"][name] = _times(act)
                _say(f"{name}: {told['times'][name]['median']:.1f} ms")
                if told["times"][name]["median"] > SLOW_MS and (slowest := spy.slowest()):
                    told["slow"].append({"question": name, **slowest})
            _say("audit")
            told["audit"] = _audit(runtime)
            _say("clean-up")
            told["clean-up"] = runtime.periodic.cleanup(seconds=CLEANED_SECONDS)
    return told


def _acts(runtime: Runtime) -> dict[str, Callable[[], float]]:
    """Everything that is timed: name -> what does it once and answers with its seconds."""
    app = create_app(runtime)

    def asked(path: str) -> Callable[[], float]:
        def ask() -> float:
            began = time.perf_counter()
            answer = app.test_client().get(path)
            took = time.perf_counter() - began
            if answer.status_code >= 400 and path != "/readyz":
                raise RuntimeError(f"{path} was answered with {answer.status_code}: {answer.text[:200]}")
            return took

        return ask

    return tasks(runtime) | {f"GET {name}": asked(path) for name, path in paths(runtime).items()}


def _times(act: Callable[[], float]) -> dict[str, float]:
    """Milliseconds: the median, the least and the most of several tries, and how many there were."""
    took: list[float] = []
    began = time.monotonic()
    while len(took) < TRIES + 1 and (not took or time.monotonic() - began < SECONDS):
        took.append(act() * 1000)
    counted = took[1:] or took
    return {
        "median": statistics.median(counted),
        "least": min(counted),
        "most": max(took),
        "tries": len(counted),
    }


def _audit(runtime: Runtime) -> dict[str, float]:
    """Seconds of every question. Raises RuntimeError: a promise is broken."""
    took = {}
    for check, (meaning, question) in QUESTIONS.items():
        began = time.perf_counter()
        with runtime.database.snapshot():
            rows = runtime.database.run(question, limit=5).fetchall()
        took[check] = time.perf_counter() - began
        if rows:
            raise RuntimeError(f"{check}: {meaning}: {rows}")
    return took | {"all": sum(took.values())}


def lines(told: dict[str, Any]) -> list[str]:
    """The report for people."""
    statuses = ", ".join(f"{number:,} {status}" for status, number in told["statuses"].items())
    fill = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in told["fill"].items())
    said = [f"{told['database']}: {sum(told['statuses'].values()):,} operations ({statuses})"]
    said += [
        f"filled in {told['fill seconds']} s ({fill})",
        "",
        f"{'question':<52}{'median ms':>10}{'most':>10}",
    ]
    said += [
        f"{name:<52}{took['median']:>10,.1f}{took['most']:>10,.1f}" for name, took in told["times"].items()
    ]
    said += ["", f"{'audit':<52}{'seconds':>10}"]
    said += [f"{check:<52}{seconds:>10,.1f}" for check, seconds in told["audit"].items()]
    said += ["", "clean-up: " + json.dumps(told["clean-up"]), ""]
    said.append(f"{'table':<34}{'rows':>12}{'table MB':>10}{'index MB':>10}{'bytes a row':>13}")
    for table in told["sizes"]:
        each = (table["table"] + table["indexes"]) / max(table["rows"], 1)
        said.append(
            f"{table['name']:<34}{table['rows']:>12,}{table['table'] / 1e6:>10,.0f}"
            f"{table['indexes'] / 1e6:>10,.0f}{each:>13,.0f}"
        )
    whole = sum(table["table"] + table["indexes"] for table in told["sizes"])
    each = whole / sum(told["statuses"].values())
    said.append(f"all: {whole / 1e6:,.0f} MB, {each:,.0f} bytes an operation with all that belongs to it")
    for slow in told["slow"]:
        said += ["", f"{slow['question']}: {slow['ms']:,.0f} ms in", slow["statement"], *slow["plan"]]
    return said


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Run it for one size."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--operations", type=int, default=1_000_000)
    parser.add_argument("--database", choices=KINDS, default="postgresql")
    parser.add_argument(
        "--elsewhere", action="store_true", help="the stock is not ours: no keys, no movements"
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--dir", type=Path, help="where the files lie; open to others, or PostgreSQL gets in not"
    )
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="stocksync-scale-", dir=given.dir) as folder:
        bench = Bench(Path(folder), on_disk=True, postgres_settings=SERVER)
        try:
            told = measure(bench, KINDS[given.database], given.operations, own=not given.elsewhere)
            told["load"] = os.getloadavg()[0]
        finally:
            bench.close()
    print(json.dumps(told) if given.json else "\n".join(lines(told)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
