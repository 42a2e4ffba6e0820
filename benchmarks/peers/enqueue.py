"""Enqueue a job for every waiting operation: `python -m benchmarks.peers.enqueue MODULE`."""

from __future__ import annotations

import importlib
import json
import sys

from benchmarks.peers.work import waiting

if __name__ == "__main__":
    ids = waiting()
    importlib.import_module(sys.argv[1]).enqueue(ids)
    print(json.dumps({"enqueued": len(ids)}))
