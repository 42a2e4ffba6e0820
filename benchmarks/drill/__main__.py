"""The command: `python -m benchmarks.drill --minutes 3 --database sqlite`. Exit code 0: all holds; 1: it does not."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.drill.run import Outcome, Plan, UnknownFault, play, rows
from benchmarks.drill.stage import KINDS
from stocksync.queue.embedded import EmbeddedServerError


class Stopped(BaseException):
    """A signal asked for the end."""


def document(outcome: Outcome) -> dict[str, Any]:
    """For JSON."""
    facts = outcome.facts
    assert facts is not None
    journals = facts.journals.values()
    durations = sorted(seconds for kept in journals for _, seconds in kept.done)
    return {
        "ok": outcome.ok,
        "database": outcome.plan.database,
        "seed": outcome.plan.seed,
        "hosts": outcome.network,
        "seconds": round(outcome.seconds, 1),
        "faults": rows(outcome),
        "skipped": outcome.skipped,
        "calls": len(durations),
        "slowest_call": durations[-1] if durations else None,
        "median_call": durations[len(durations) // 2] if durations else None,
        "raised": sum(len(kept.raised) for kept in journals),
        "orders": sum(len(kept.book.orders) for kept in journals),
        "operations": len(facts.operations),
        "told": len(facts.told),
        "drained_after": facts.drained_after and round(facts.drained_after, 1),
        "memory": [round(each / 2**20, 1) for each in facts.memory],
        "page": outcome.visits,
        "checks": [{"check": each.name, "held": each.held, "said": each.said} for each in outcome.checks],
    }


def lines(found: dict[str, Any]) -> list[str]:
    """For people: the table, the figures and the checks."""
    said = [f"{'fault':<40} {'times':>5} {'seconds':>8} {'calls':>6}  longest until the next delivery"]
    for row in found["faults"]:
        longest = row["longest_until_delivery"]
        until = "none came" if longest is None else f"{longest:.1f} s"
        said.append(
            f"{row['fault']:<40} {row['times']:>5} {row['seconds']:>8.1f} {row['calls']:>6}  {until:>8}"
        )
    said += [f"{name:<40}  skipped: {why}" for name, why in found["skipped"].items()]
    drained = found["drained_after"]
    said += [
        "",
        f"{found['database']}, seed {found['seed']}, {found['seconds']:.0f} s; hosts: {found['hosts']}",
        f"{found['calls']} calls returned (median {1000 * (found['median_call'] or 0):.0f} ms, slowest "
        f"{found['slowest_call'] or 0:.1f} s), {found['raised']} raised and were repeated; "
        f"{found['orders']} orders, {found['operations']} operations; the remote was told {found['told']} times",
        f"drained after {drained} s; the worker's memory {found['memory'][0]} MB after the warm-up, "
        f"{found['memory'][1]} MB at the end; the page: {found['page']}",
        "",
    ]
    for each in found["checks"]:
        said.append(f"{'ok' if each['held'] else 'NOT SO':<7} {each['check']}")
        said += [f"          {what}" for what in each["said"]]
    return said


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

    def stop(_number: int, _frame: FrameType | None) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # once is enough: everything is being ended
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
