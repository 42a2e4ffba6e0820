"""The command: `python -m benchmarks.drill --minutes 3 --database sqlite`. Exit code 0: all holds; 1: it does not."""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from benchmarks.drill.report import document, lines
from benchmarks.drill.run import Plan, UnknownFault, play
from benchmarks.drill.settings import KINDS
from stocksync.queue.embedded import EmbeddedServerError


class Stopped(BaseException):
    """A signal asked for the end."""


def _parsed(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drill", description=__doc__)
    parser.add_argument(
        "--minutes", type=float, default=3.0, help="of faults; each kind comes at least once (default: 3)"
    )
    parser.add_argument("--database", choices=KINDS, default="sqlite")
    parser.add_argument(
        "--seed", type=int, default=1, help="of the order of faults and of what callers do (default: 1)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--faults", nargs="+", default=(), metavar="NAME", help="only those; part of a name")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="a new folder to leave all logs in")
    parser.add_argument(
        "--previous", metavar="REV", help="the release to run beside this one (default: the last tag)"
    )
    parser.add_argument("--callers", type=int, default=2)
    parser.add_argument(
        "--rate", type=float, default=24.0, help="calls a second, of all callers (default: 24)"
    )
    parser.add_argument(
        "--warm-up", type=float, default=8.0, help="seconds before the first fault (default: 8)"
    )
    parser.add_argument("--proxies", action="store_true", help="cut hosts off by proxies, not by namespaces")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Run the command."""
    given = _parsed(words)

    asked = -math.inf

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        # Once is enough, as everything is being ended then; but what is raised while it forks, Python drops.
        if time.monotonic() - asked > 10:
            asked = time.monotonic()
            raise Stopped

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    plan = Plan(
        given.minutes, given.database, given.seed, given.faults, given.previous,
        given.callers, given.rate, given.warm_up, namespaces=not given.proxies,
    )  # fmt: skip
    try:
        with tempfile.TemporaryDirectory(prefix="stocksync-drill-") as made:
            folder = given.keep.absolute() if given.keep else Path(made)
            folder.mkdir(parents=True, exist_ok=not given.keep)
            outcome = play(plan, folder, _say)
    except Stopped:
        print("stopped", file=sys.stderr)
        return 1
    except (UnknownFault, EmbeddedServerError, FileExistsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    found = document(outcome)
    print(json.dumps(found, ensure_ascii=False) if given.json else "\n".join(lines(found)))
    return 0 if found["ok"] else 1


def _say(line: str) -> None:
    if sys.stderr.isatty():
        print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
