"""A deterministic simulation of shops, workers and everything that goes wrong: `python -m benchmarks.simulate --seeds N`.

Exit 0: every promise held in every seed. Exit 1: the first seed in which one did not, with the end of its history and
the command that runs it again. docs/proof.md says what is simulated.
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
from benchmarks.simulation.run import Result, run_seed


def main(given: Sequence[str] | None = None) -> int:
    """The command line."""
    arguments = _parser().parse_args(given)
    if arguments.seed is not None:
        first, count, history = arguments.seed, 1, 400
    else:
        first, count, history = arguments.first, arguments.seeds, 30
    mutated = MUTATIONS[arguments.mutation] if arguments.mutation else contextlib.nullcontext
    began, cpu, database = time.monotonic(), time.process_time(), SimulatedDatabase()
    results: list[Result] = []
    operations = requests = 0
    longest = 0.0
    with mutated():
        for seed in range(first, first + count):
            result = run_seed(seed, arguments.operations, database, history)
            operations += result.operations
            requests += result.requests
            longest = max(longest, result.settled_after)
            if result.broken or arguments.seed is not None:
                results.append(result)
            if result.broken:
                break
            if sys.stderr.isatty() and seed % 20 == 0:
                print(f"\rseed {seed}, {operations} operations", end="", file=sys.stderr, flush=True)
    seconds = time.monotonic() - began
    told = {
        "first": first,
        "seeds": seed - first + 1,
        "operations": operations,
        "requests": requests,
        "longest_until_settled_seconds": round(longest),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "operations_per_second": round(operations / seconds),
        "broken": next((result.broken for result in results if result.broken), None),
    }
    if arguments.json:
        print(json.dumps(told | {"history": results[0].history if results else [], "digest": results[0].digest if results else None}))
    else:
        _print(told, results, arguments)
    return int(told["broken"] is not None)


def _print(told: dict[str, object], results: Sequence[Result], arguments: argparse.Namespace) -> None:
    for result in results:
        print(*result.history, sep="\n")
        print(f"seed {result.seed}, history {result.digest}: {result.broken or 'every promise held'}")
        if result.broken:
            mutation = f" --mutation {arguments.mutation}" if arguments.mutation else ""
            print(
                "again, with its whole history: python -m benchmarks.simulate"
                f" --seed {result.seed} --operations {result.operations}{mutation}"
            )
    print(
        "{seeds} seeds from {first}, {operations} operations, {requests} requests in {seconds} s"
        " ({operations_per_second} operations a second); settled within {longest_until_settled_seconds} s"
        " of virtual time".format(**told)
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=100, help="how many (100)")
    parser.add_argument("--first", type=int, default=1, metavar="SEED", help="the first of them (1)")
    parser.add_argument("--operations", type=int, default=40, metavar="M", help="calls and clicks of a seed (40)")
    parser.add_argument("--seed", type=int, help="run this one alone and print its history")
    parser.add_argument("--mutation", choices=sorted(MUTATIONS), help="break the product in this way first")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


if __name__ == "__main__":
    sys.exit(main())
