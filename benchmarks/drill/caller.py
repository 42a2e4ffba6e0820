"""A caller in a process of its own: sells, cancels and takes back all the time, through the Python API.

`python -m benchmarks.drill.caller --name caller-1 --journal FILE --seed 7 --rate 10`. SIGTERM ends it after the call that
it makes. Started again after a kill it reads its journal, repeats what had not returned, and goes on. A call that
raises an error of the database is repeated with the same keys until it returns.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peewee import PeeweeException

from benchmarks.drill.journal import Journal, Kept, Order, keep, read
from stocksync import StockSyncConfig
from stocksync.errors import DatabaseUnavailable, StockSyncError, TransitionRefused
from stocksync.queue.process import set_up_log
from stocksync.queue.shutdown import Stop, on_stop_signals
from stocksync.runtime import Runtime

WAREHOUSE = "Ирина"
SELLERS = ("seller-1", "seller-2", "seller-3")
SKUS = tuple(f"SKU-{number:02}" for number in range(20))
LAST_CALL_SECONDS = 60.0
"""So long it repeats its last call after SIGTERM."""
_PAUSE = 0.2
_RECENT = 200


class Calls:
    """The calls of the API that a caller makes. Each may be repeated: it has a key, or a revision, or is final."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def make(self, do: dict[str, Any]) -> dict[str, Any]:
        """Do it; answers with what is to be kept of the result."""
        make: Callable[[dict[str, Any]], dict[str, Any]] = getattr(self, f"_{do['what']}")
        return make(do)

    def _sell_form(self, do: dict[str, Any]) -> dict[str, Any]:
        form = {
            "id": do["order"],
            "token_id": do["token"],
            "status": "READY_FOR_PROCESSING",
            "revision": "r1",
            "updatedAt": "2026-03-01T11:00:00Z",
            "lineItems": [
                {"id": line, "quantity": units, "offer": {"id": "1", "external": {"id": sku}}}
                for line, sku, units in do["lines"]
            ],
        }
        return _kept(self._runtime.orders.process_order_stock_update(form, WAREHOUSE))

    def _sell(self, do: dict[str, Any]) -> dict[str, Any]:
        ((line, sku, units),) = do["lines"]
        result = self._runtime.inventory_with_sync.remove_as_sale_with_sync(
            sku, WAREHOUSE, units, do["order"], do["token"], line_item_id=line
        )
        return {"said": result.status, "operations": [str(result.operation_id)]}

    def _cancel(self, do: dict[str, Any]) -> dict[str, Any]:
        return _kept(self._runtime.orders.cancel_order(do["order"], do["token"], reason="the buyer asked"))

    def _refund(self, do: dict[str, Any]) -> dict[str, Any]:
        if do["by_form"]:
            goods = {
                "return_id": do["return"],
                "token_id": do["token"],
                "order_id": do["order"],
                "line_item_id": do["line"],
                "sku": do["sku"],
                "quantity": do["units"],
            }
            return _kept(self._runtime.orders.process_return(goods))
        result = self._runtime.inventory_with_sync.return_with_sync(
            do["sku"], WAREHOUSE, do["units"], do["order"], do["token"],
            line_item_id=do["line"], idempotency_key=do["return"],
        )  # fmt: skip
        return {"said": result.status, "operations": [str(result.operation_id)]}

    def _undo(self, do: dict[str, Any]) -> dict[str, Any]:
        try:
            self._runtime.service.cancel(
                do["operation"], actor="drill", reason="sold by mistake", put_back=True
            )
        except (
            TransitionRefused
        ) as refusal:  # nobody else cancels: it was cancelled by this call, or is delivered
            return {"said": "cancelled" if refusal.status == "cancelled" else "late"}
        return {"said": "cancelled"}


class Caller:
    """Draws what to do next, by its seed and by what it did before."""

    def __init__(self, name: str, calls: Calls, journal: Journal, kept: Kept, rng: random.Random) -> None:
        self._name, self._calls, self._journal, self._kept, self._rng = name, calls, journal, kept, rng
        self._sold: tuple[dict[str, Any], dict[str, Any]] | None = None

    def next(self) -> dict[str, Any]:
        """What to do now."""
        if self._kept.open is not None:
            return self._kept.open  # of the process before
        if self._sold and self._rng.random() < 0.2:
            do, done = self._sold
            return {
                "what": "undo",
                **{name: do[name] for name in ("order", "token")},
                "line": do["lines"][0][0],
                "operation": done["operations"][0],
            }
        recent = [
            (name, order)
            for name, order in list(self._kept.book.orders.items())[-_RECENT:]
            if order.flag and not order.cancelled
        ]
        drawn = self._rng.random()
        if recent and drawn < 0.12:
            name, order = self._rng.choice(recent)
            return {"what": "cancel", "order": name, "token": order.token}
        if recent and drawn < 0.3:
            return self._refund(*self._rng.choice(recent))
        return self._sale(by_form=drawn < 0.8)

    def _refund(self, name: str, order: Order) -> dict[str, Any]:
        id, line = self._rng.choice([row for row in order.lines.items() if row[1].left])
        return {
            "what": "refund", "order": name, "token": order.token, "line": id, "sku": line.sku,
            "units": self._rng.randint(1, line.left), "by_form": order.by_form,
            "return": f"{name}-return-{self._kept.calls}",
        }  # fmt: skip

    def _sale(self, *, by_form: bool) -> dict[str, Any]:
        name = f"{self._name}-{self._kept.calls}"
        skus = self._rng.sample(SKUS, self._rng.randint(1, 3) if by_form else 1)
        lines = [[f"{name}-line-{at}", sku, self._rng.randint(1, 3)] for at, sku in enumerate(skus)]
        what = "sell_form" if by_form else "sell"
        return {"what": what, "order": name, "token": self._rng.choice(SELLERS), "lines": lines}

    def do(self, do: dict[str, Any], give_up: Callable[[], bool]) -> bool:
        """Make one call until it returns, and keep what came of it. False: it did not before `give_up` said so."""
        if self._kept.open is None:
            self._note(do=do)
        self._sold = None
        while True:
            began = time.monotonic()
            try:
                done = self._calls.make(do)
            except (PeeweeException, DatabaseUnavailable) as error:
                self._note(raised=type(error).__name__)
            except StockSyncError as error:
                self._note(refused=f"{type(error).__name__}: {error}")
                return True
            else:
                self._note(done=done, seconds=round(time.monotonic() - began, 4))
                if do["what"] == "sell" and done["said"] == "pending":
                    self._sold = do, done
                return True
            if give_up():
                return False
            time.sleep(_PAUSE)

    def _note(self, **entry: Any) -> None:
        entry["at"] = time.monotonic()  # whatever the wall clock of this process says
        self._journal.write(**entry)
        keep([entry], self._kept)


def _kept(result: Any) -> dict[str, Any]:
    return {"said": result.status, "operations": [str(id) for id in result.operations]}


def main() -> int:
    """Call until SIGTERM. Exit code 1: the last call never returned."""
    parser = argparse.ArgumentParser(description="A caller of the drill.")
    parser.add_argument("--name", required=True)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, default=10.0, help="calls a second")
    given = parser.parse_args()
    stop = Stop()
    on_stop_signals(stop.set)
    config = StockSyncConfig.load()
    set_up_log(config)
    runtime = Runtime(config)
    kept = keep(read(given.journal))
    rng = random.Random(f"{given.seed} {given.name} {kept.calls}")
    caller = Caller(given.name, Calls(runtime), Journal(given.journal), kept, rng)
    ends: float | None = None

    def give_up() -> bool:
        nonlocal ends
        if ends is None and stop.is_set():
            ends = time.monotonic() + LAST_CALL_SECONDS
        return ends is not None and time.monotonic() > ends

    logging.getLogger("drill").info("caller started")
    returned = True
    while returned and not (stop.is_set() and kept.open is None):
        returned = caller.do(caller.next(), give_up)
        stop.wait(rng.expovariate(given.rate))
    runtime.close()
    return 0 if returned else 1


if __name__ == "__main__":
    sys.exit(main())
