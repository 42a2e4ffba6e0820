"""The remote in a process of its own: the sandbox, with a journal of what it was told that outlives a kill.

`python -m benchmarks.drill.remote --port 8099 --journal FILE`; the bearer is in ALLEGRO_MICROSERVICE_JWT_TOKEN. What it
answers with success is in the journal before the answer goes out.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

from benchmarks.drill.journal import Journal, read
from stocksync.queue.shutdown import Stop, on_stop_signals
from stocksync.sandbox import Sandbox
from stocksync.sandbox.microservice import Answer, Update


class JournalledSandbox(Sandbox):
    """Begins with what its journal says, and goes on with it."""

    def __init__(self, token: str, journal: Path, **more: Any) -> None:
        super().__init__(token, **more)
        for entry in read(journal):
            content = entry["token"], entry["order"], entry["flag"]
            self._keys[entry["key"]] = content
            if not entry["again"]:
                self._set(*content).history.append(entry["flag"])
        self._journal = Journal(journal)

    def _update(self, order_id: str, update: Update, key: str | None) -> Answer:
        again = key in self._keys
        answer = super()._update(order_id, update, key)
        if answer.status == 200:
            self._journal.write(
                at=time.monotonic(),
                token=update.token_id,
                order=order_id,
                flag=update.is_stock_updated,
                key=key,
                again=again,
            )
        return answer


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description="The remote of the drill.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--faults", default="{}", help="the faults in force, JSON")
    given = parser.parse_args()
    stop = Stop()
    on_stop_signals(stop.set)
    token = os.environ["ALLEGRO_MICROSERVICE_JWT_TOKEN"]
    sandbox = JournalledSandbox(token, given.journal, host=given.host, port=given.port)
    sandbox.set_faults(**json.loads(given.faults))
    with sandbox:
        while not stop.wait(60.0):
            pass


if __name__ == "__main__":
    main()
