"""What a monolith calls: each draws its arguments, says what should come of it, and is made by some process."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from benchmarks.simulation.forms import LANES, Call, Forms
from benchmarks.simulation.model import SHARED, SKUS, UNNAMED, Model, Name
from benchmarks.simulation.world import Broken
from stocksync import (
    InDoubt,
    InsufficientStock,
    InventoryManagerWithSync,
    OrderCancelled,
    OrphanRefund,
    RefundExceedsSale,
    UnknownOrder,
)
from tests.shop import WAREHOUSE, goods

if TYPE_CHECKING:
    from benchmarks.simulation.world import World
    from stocksync.runtime import Runtime


class Elsewhere:
    """An inventory that answers, refuses or falls silent."""

    def __init__(self, answer: Exception | None) -> None:
        self._answer = answer

    def remove_as_sale(self, sku: str, warehouse: str, quantity: int) -> None:
        del sku, warehouse, quantity
        if self._answer is not None:
            raise self._answer

    add = remove_as_sale


class Calls(Forms):
    """Draws calls. `number` rises with each."""

    def __init__(self, world: World, model: Model) -> None:
        super().__init__(world, model)
        self.table: list[tuple[int, Callable[[], Call]]] = [
            (6, self.form),
            (2, self.late_first_form),
            (3, self.seller_turns),
            (2, self.same_form),
            (1, self.old_form),
            (2, self.cancelled),
            (6, self.deducted),
            (2, self.deducted_with_a_key),
            (4, self.given_back),
            (1, self.same_return),
            (2, self.adjusted),
            (2, self.sold_from_our_stock),
            (2, self.sold_elsewhere),
            (1, self.given_back_elsewhere),
            (2, self.received),
        ]

    def draw(self) -> Call:
        """The next call."""
        self.number += 1
        weights = [weight for weight, _ in self.table]
        (_, make) = self.world.rng.choices(self.table, weights)[0]
        return make()

    # Single calls

    def _immediate(self) -> bool:
        return self.world.rng.random() < 0.15

    def deducted(self, key: str | None = None, name: Name | None = None) -> Call:
        immediate = name is None and self._immediate()
        name, units = name or self._under_way("call") or self._pick("call", 3), self._units()
        if key is not None:
            name, units = (LANES[0], f"call-{int(key) % 3}"), 1 + int(key) % 2
        model = self.model
        known = key is not None and key in model.keys

        def commit() -> None:
            if not known:
                model.line(name)[2] += units
                model.keys |= {key} if key is not None else set()

        return Call(
            f"deduct {units} for {name[0]} {name[1]} {'at once ' * immediate}key {key}",
            lambda runtime: runtime.service.sync_stock_deduction(
                *name, "A", units, idempotency_key=key, immediate=immediate
            ),
            (OrderCancelled,) if model.order(name).cancelled and not known else (),
            [commit],
            waits=immediate,
        )

    def deducted_with_a_key(self) -> Call:
        return self.deducted(str(self.world.rng.randrange(5) + self.number // 20 * 5))

    def given_back(self) -> Call:
        """As a return, with restock or without, or by a call that never moves stock; also by the id of an old order."""
        rng, model, units = self.world.rng, self.model, self._units()
        name = self._under_way("form", "call") or self._pick(rng.choice(("form", "form", "call")), 4)
        line = UNNAMED if name[1].startswith("call") else rng.choice(("1", "2", *SHARED))
        how = rng.choice("RCN")
        at = model.carriers.get((name[0], line), name)
        left = model.left(at, line)
        sku = model.order(at).lines[line][0] if left is not None else "A"
        document = goods(f"return-{self.number}", line, sku, units, name[1]) | {"token_id": name[0]}
        moves = how == "R" and not name[1].startswith("call")
        refused: tuple[type[Exception], ...] = ()
        if left is None or units > left:
            refused = (OrphanRefund,) if left is None else (RefundExceedsSale,)

        def commit() -> None:
            model.line(at, line)[2] -= units
            model.stock[sku] += units if moves else 0
            if how != "C":
                model.returns[document["return_id"]] = document

        def make(runtime: Runtime) -> Any:
            if how == "C":
                return runtime.service.sync_stock_refund(*name, sku, units, line_item_id=line)
            return runtime.orders.process_return(document, restock=how == "R")

        return Call(
            f"{units} come back of {name[0]} {name[1]} line {line[-4:]} {how}", make, refused, [commit]
        )

    def same_return(self) -> Call:
        if not self.model.returns:
            return self.given_back()
        document = self.model.returns[self.world.rng.choice(sorted(self.model.returns))]
        return Call(
            f"again: {document['return_id']}",
            lambda runtime: runtime.orders.process_return(document),
            expects=lambda result: result.status == "already_returned",
        )

    def adjusted(self) -> Call:
        name, units = (
            self._pick(self.world.rng.choice(("form", "call", "own")), 3),
            self.world.rng.choice((-2, 3)),
        )
        return Call(
            f"adjust {name[0]} {name[1]} by {units}",
            lambda runtime: runtime.service.sync_stock_adjustment(
                *name, "A", units, reason="counted", actor="Anna"
            ),
            may_refuse=(UnknownOrder,),
        )

    # Inventories

    def sold_from_our_stock(self) -> Call:
        name, units, model = self._pick("own", 2), self._units(), self.model
        refused: tuple[type[Exception], ...] = (InsufficientStock,) if model.stock["A"] < units else ()

        def commit() -> None:
            model.line(name)[2] += units
            model.stock["A"] -= units

        return Call(
            f"sell {units} for {name[0]} {name[1]} out of our stock",
            lambda runtime: runtime.inventory_with_sync.remove_as_sale_with_sync(
                "A", WAREHOUSE, units, name[1], name[0]
            ),
            (OrderCancelled,) if model.order(name).cancelled else refused,
            [commit],
        )

    def sold_elsewhere(self, kind: str = "deduction") -> Call:
        rng, name, units = self.world.rng, self._pick("far", 2), self._units()
        answer: Exception | None = rng.choice((None, None, TimeoutError(), ValueError()))
        left = self.model.left(name, UNNAMED)
        refused: tuple[type[Exception], ...] = ()
        if kind == "refund" and (left is None or units > left):
            refused = (OrphanRefund, RefundExceedsSale)

        def make(runtime: Runtime) -> Any:
            synced = InventoryManagerWithSync(Elsewhere(answer), runtime.service)
            ask = synced.remove_as_sale_with_sync if kind == "deduction" else synced.return_with_sync
            return ask("A", WAREHOUSE, units, name[1], name[0])

        said: tuple[type[Exception], ...] = (InDoubt, ValueError) if answer else ()
        effects: list[Callable[[], object]] = [lambda: self._doubt(name, kind, units)]
        if not isinstance(answer, TimeoutError):
            effects.append(lambda: self._resolved(done=answer is None))
        return Call(
            f"{kind} of {units} for {name[0]} {name[1]} elsewhere: {type(answer).__name__}",
            make,
            refused,
            effects,
            may_refuse=said,
        )

    def given_back_elsewhere(self) -> Call:
        return self.sold_elsewhere("refund")

    def _unknown(self) -> set[str]:
        sql = "SELECT id FROM pending_stock_operations WHERE applied = 'unknown'"
        return {row[0] for row in self.world.database.look(sql)}

    def _doubt(self, name: Name, kind: str, units: int) -> None:
        new = self._unknown() - self.model.doubts.keys()
        if len(new) != 1:
            raise Broken(f"an inventory is asked without one intent: {len(new)} are new")
        self.model.doubts[new.pop()] = (name, kind, units)

    def _resolved(self, *, done: bool) -> None:
        gone = self.model.doubts.keys() - self._unknown()
        if len(gone) != 1:
            raise Broken(f"an answer of the inventory resolved {len(gone)} intents")
        self.model.settle_doubt(gone.pop(), done=done)

    def received(self) -> Call:
        sku, units, model = self.world.rng.choice(SKUS), self._units() * 3, self.model

        def commit() -> None:
            model.stock[sku] += units

        return Call(
            f"receive {units} of {sku}",
            lambda runtime: runtime.inventory.add(sku, WAREHOUSE, units),
            effects=[commit],
        )
