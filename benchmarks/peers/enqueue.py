"""Enqueue jobs for the waiting operations: `python -m benchmarks.peers.enqueue MODULE`; prints one JSON object."""

from __future__ import annotations

import argparse
import importlib
import json

from benchmarks.peers import work
from benchmarks.spaced import call_one_by_one

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("module")
    parser.add_argument(
        "how",
        choices=["at-once", "nothing", "one-by-one"],
        help="prepare the queue and enqueue all; only prepare it; enqueue a job each time that the last one is done",
    )
    parser.add_argument("--pause", type=float, default=0.0, help="most seconds more between two jobs")
    given = parser.parse_args()
    module = importlib.import_module(given.module)
    if given.how != "one-by-one" and hasattr(module, "prepare"):
        module.prepare()
    if given.how == "one-by-one":
        orders = work.orders()
        returned = call_one_by_one(
            sorted(orders), lambda one: module.enqueue([one]), work.is_settled, given.pause
        )
        print(json.dumps({orders[operation_id]: moment for operation_id, moment in returned.items()}))
    else:
        ids = [] if given.how == "nothing" else work.waiting()
        if ids:
            module.enqueue(ids)
        print(json.dumps({"enqueued": len(ids)}))
