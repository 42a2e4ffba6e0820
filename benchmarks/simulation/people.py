"""People who click: retry, cancel, confirm, pause and resume a lane, repair a difference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from benchmarks.simulation.forms import LANES, Call, nothing
from benchmarks.simulation.model import UNNAMED, Model
from stocksync import StockSyncError

if TYPE_CHECKING:
    from benchmarks.simulation.world import World
    from stocksync.runtime import Runtime

_WHO = {"actor": "Anna", "reason": "looked"}
_OPERATIONS = "SELECT id FROM pending_stock_operations ORDER BY id DESC LIMIT 20"
_OPERATION = """
    SELECT token_id, order_id, operation_type, sku, quantity, COALESCE(line_item_id, ?), status
    FROM pending_stock_operations WHERE id = ?"""
_WAITING = """
    SELECT id FROM pending_stock_operations WHERE status IN ('pending', 'processing', 'failed')
    ORDER BY id DESC LIMIT 20"""
_OPEN = "SELECT id FROM stock_sync_discrepancies WHERE status = 'open' ORDER BY id"


class People:
    """Draws what a person does."""

    def __init__(self, world: World, model: Model) -> None:
        self.world, self.model = world, model
        self.cancelled: set[str] = set()
        """Operations that a person cancelled."""

    def draw(self) -> Call | None:
        """The next click; None: there is nothing to click on."""
        clicks = (self.retry, self.cancel, self.cancel, self.confirm, self.pause, self.resume, self.repair)
        return self.world.rng.choice(clicks)()

    def _one_of(self, sql: str) -> str | None:
        rows = self.world.database.look(sql)
        return self.world.rng.choice(rows)[0] if rows else None

    def retry(self, operation: str | None = None) -> Call | None:
        """Retry one of the last operations."""
        id = operation or self._one_of(_OPERATIONS)
        if id is None:
            return None
        return Call(
            f"somebody retries {id[-6:]}",
            lambda runtime: runtime.service.retry(UUID(id), **_WHO),
            may_refuse=(StockSyncError,),
        )

    def cancel(self) -> Call | None:
        """Stop an operation, and put its units back or not."""
        id = self._one_of(_WAITING)
        if id is None:
            return None
        put_back = self.world.rng.random() < 0.5
        token, order, kind, sku, units, line, _ = self.world.database.look(_OPERATION, UNNAMED, id)[0]
        model, name = self.model, (token, order)

        def commit() -> None:
            self.cancelled.add(id)
            if not put_back:
                model.keep(name).stopped = True
                return
            row = model.line(name, line)
            assert (kind, row[0]) == ("deduction", sku)
            row[2] -= units
            model.stock[sku] += units

        return Call(
            f"somebody cancels {id[-6:]} ({kind} of {token} {order}){', put back' * put_back}",
            lambda runtime: runtime.service.cancel(UUID(id), put_back=put_back, **_WHO),
            effects=[commit],
            may_refuse=(StockSyncError,),
        )

    def confirm(self, done: bool | None = None) -> Call | None:
        """Say what an operation in doubt came to."""
        if not self.model.doubts:
            return None
        id = self.world.rng.choice(sorted(self.model.doubts))
        said = self.world.rng.random() < 0.5 if done is None else done
        return Call(
            f"somebody confirms {id[-6:]} as {'done' if said else 'not done'}",
            lambda runtime: runtime.service.confirm(UUID(id), said, actor="Anna"),
            effects=[lambda: self.model.settle_doubt(id, done=said)],
        )

    def pause(self) -> Call:
        """Hold a lane back."""
        lane = self.world.rng.choice(LANES)
        return Call(f"somebody pauses {lane}", lambda runtime: runtime.deliveries.pause(lane, "looking"))

    def resume(self, lane: str | None = None) -> Call:
        """Let a lane go on, as the page and the command line do."""
        which = lane or self.world.rng.choice(LANES)

        def make(runtime: Runtime) -> Any:
            done = runtime.deliveries.resume(which)
            runtime.wakeups.wake(which)
            return done

        return Call(f"somebody resumes {which}", make)

    def repair(self) -> Call | None:
        """Have an order told again that differs."""
        id = self._one_of(_OPEN)
        if id is None:
            return None
        return Call(
            f"somebody repairs the difference {id[-6:]}",
            lambda runtime: runtime.reconciliation.fix(UUID(id), **_WHO),
            effects=[nothing],
            may_refuse=(StockSyncError,),
            waits=True,
        )
