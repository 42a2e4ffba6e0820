"""A deterministic simulation of shops, workers and everything that goes wrong: `python -m benchmarks.simulate --seeds N`.

Exit 0: every promise held in every seed. Exit 1: one did not; the end of that seed's history is printed, with the
command that runs it again. docs/proof.md says what is simulated.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Sequence

from benchmarks.simulation.database import SimulatedDatabase
from benchmarks.simulation.mutations import MUTATIONS
from benchmarks.simulation.seed import Result, run_seed

_SHORT, _WHOLE = 30, 0


def main(given: Sequence[str] | None = None) -> int:
    """The command line."""
    arguments = _parser().parse_args(given)
    began, cpu = time.monotonic(), time.process_time()
    with (MUTATIONS[arguments.mutation] if arguments.mutation else contextlib.nullcontext)():
        told, last = _run(arguments)
    seconds = time.monotonic() - began
    told |= {
        "seconds": round(seconds, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "operations_per_second": round(told["operations"] / seconds),
    }
    shown = last if last and (last.broken or arguments.seed is not None) else None
    if arguments.json:
        more = {"broken": shown.broken, "history": shown.history, "digest": shown.digest} if shown else {}
        print(json.dumps({**told, "broken": None, **more}))
    else:
        if shown:
            _print(shown, arguments.mutation)
        print(
            "{seeds} seeds from {first}: {operations} operations, {requests} requests, {seconds} s, {cpu_seconds} s of CPU"
            " ({operations_per_second} operations a second); settled within {settled_after} s of virtual time".format(
                **told
            )
        )
    return int(shown is not None and shown.broken is not None)


def _run(arguments: argparse.Namespace) -> tuple[dict[str, float], Result | None]:
    """Run seed after seed until one breaks. Answers with figures and the last result."""
    alone = arguments.seed is not None
    first, count = (arguments.seed, 1) if alone else (arguments.first, arguments.seeds)
    told = {"first": first, "seeds": 0, "operations": 0, "requests": 0, "settled_after": 0}
    ends = time.monotonic() + (arguments.minutes or float("inf")) * 60
    database, result = SimulatedDatabase(), None
    for seed in range(first, first + count):
        if time.monotonic() > ends:
            break
        result = run_seed(seed, arguments.operations, database, _WHOLE if alone else _SHORT)
        told["seeds"] += 1
        told["operations"] += result.operations
        told["requests"] += result.requests
        told["settled_after"] = max(told["settled_after"], round(result.settled_after))
        if result.broken:
            break
        if sys.stderr.isatty() and not seed % 20:
            print(f"\rseed {seed}, {told['operations']} operations", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return dict(told), result


def _print(result: Result, mutation: str | None) -> None:
    print(*result.history, sep="\n")
    print(f"seed {result.seed}, history {result.digest}: {result.broken or 'every promise held'}")
    if result.broken:
        print(
            "again, with its whole history: python -m benchmarks.simulate"
            f" --seed {result.seed} --operations {result.operations}"
            + (f" --mutation {mutation}" if mutation else "")
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=100, help="how many (100)")
    parser.add_argument("--first", type=int, default=1, metavar="SEED", help="the first of them (1)")
    parser.add_argument(
        "--operations", type=int, default=40, metavar="M", help="calls and clicks of a seed (40)"
    )
    parser.add_argument("--minutes", type=float, help="begin no further seed after so many")
    parser.add_argument("--seed", type=int, help="run this one alone and print its whole history")
    parser.add_argument("--mutation", choices=sorted(MUTATIONS), help="break the product in this way first")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


if __name__ == "__main__":
    sys.exit(main())
