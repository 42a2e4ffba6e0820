"""What a monolith calls: each draws its arguments, says what should come of it, and is made by some process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from benchmarks.simulation.model import SHARED, SKUS, UNNAMED, Lines, Model, Name, new_form
from benchmarks.simulation.world import EPOCH, Broken
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

_CLAIMED = "SELECT token_id, order_id FROM stock_sync_orders WHERE claim_id IS NOT NULL ORDER BY id"
LANES = ("seller-1", "seller-2")


def nothing() -> None:
    """A commit that changes nothing of the model."""


@dataclass
class Call:
    """One call: what it says in the history, how it is made, what should come of it."""

    says: str
    make: Callable[[Runtime], Any]
    refused: tuple[type[Exception], ...] = ()
    """One of these must be raised, and nothing be written."""
    effects: list[Callable[[], object]] = field(default_factory=lambda: [nothing])
    """Of its commits, one after the other."""
    may_refuse: tuple[type[Exception], ...] = ()
    """One of these may be raised."""
    expects: Callable[[Any], bool] = lambda _: True
    """Of what it answers."""


class Elsewhere:
    """An inventory that answers, refuses or falls silent."""

    def __init__(self, answer: Exception | None) -> None:
        self._answer = answer

    def remove_as_sale(self, sku: str, warehouse: str, quantity: int) -> None:
        del sku, warehouse, quantity
        if self._answer is not None:
            raise self._answer

    add = remove_as_sale


class Calls:
    """Draws calls. `number` rises with each."""

    def __init__(self, world: World, model: Model) -> None:
        self.world, self.model, self.number = world, model, 0
        self.seen_doubts: set[str] = set()
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

    def _pick(self, kind: str, count: int) -> Name:
        """An order; with time, others."""
        rng = self.world.rng
        return rng.choice(LANES), f"{kind}-{rng.randrange(count) + self.number // 60}"

    def _under_way(self, *kinds: str) -> Name | None:
        """Often an order that a worker has in hand: what changes then is what may go wrong."""
        database, rng = self.world.database, self.world.rng
        if not database.claims or rng.random() < 0.4:
            return None
        names = [name for name in database.look(_CLAIMED) if name[1].startswith(kinds)]
        return rng.choice(names) if names else None

    def _units(self) -> int:
        return self.world.rng.randint(1, 3)

    def _lines(self) -> Lines:
        rng = self.world.rng
        ids = rng.sample(("1", "2", *SHARED), rng.choice((0, 1, 1, 1, 2, 2, 3)))
        return {id: (rng.choice(SKUS), self._units()) for id in sorted(ids)}

    def _time(self, earlier: bool = False) -> str:
        minutes = -self.number if earlier else self.number
        return (EPOCH + timedelta(minutes=minutes)).isoformat()

    # Forms

    def _take(self, document: dict[str, Any], *, late: bool = False) -> Call:
        taken = self.model.take(document, late=late)
        cancelled = self.model.order((document["token_id"], document["id"])).cancelled
        cancelled |= document["fulfillment"]["status"] == "CANCELLED"
        says = {line["id"][-4:]: line["quantity"] for line in document["lineItems"]}
        return Call(
            f"form of {document['token_id']} {document['id']} {document['revision']} {says}"
            f" {document['fulfillment']['status']}",
            lambda runtime: runtime.orders.process_order_stock_update(document),
            (InsufficientStock,) if taken.short else (),
            [taken.commit],
            expects=lambda result: (result.status == "cancelled") is cancelled or not result.operations,
        )

    def form(self) -> Call:
        return self._take(
            new_form(
                self._under_way("form") or self._pick("form", 4),
                self._lines(),
                f"r{self.number}",
                self._time(),
            )
        )

    def late_first_form(self) -> Call:
        """Earlier at Allegro than all that is known: what others carry by now stays there."""
        name = (self.world.rng.choice(LANES), f"late-{self.number}")
        return self._take(new_form(name, self._lines(), "r", self._time(earlier=True)), late=True)

    def _with_form(self) -> Name | None:
        known = [name for name, order in self.model.orders.items() if order.forms]
        return self.world.rng.choice(known[-12:]) if known else None

    def seller_turns(self) -> Call:
        if (name := self._with_form()) is None:
            return self.form()
        by_seller = self.world.rng.choice(("CANCELLED", "PROCESSING"))
        return self._take(self.model.orders[name].forms[-1] | {"fulfillment": {"status": by_seller}})

    def _again(self, name: Name, which: int) -> Call:
        document = self.model.orders[name].forms[which]
        return Call(
            f"again: form of {name[0]} {name[1]} {document['revision']}",
            lambda runtime: runtime.orders.process_order_stock_update(document),
            expects=lambda result: result.operations == (),
        )

    def same_form(self) -> Call:
        name = self._with_form()
        return self.form() if name is None else self._again(name, -1)

    def old_form(self) -> Call:
        """One that was in force long before."""
        if (name := self._with_form()) is None:
            return self.form()
        forms = self.model.orders[name].forms
        older = [which for which, one in enumerate(forms) if one["updatedAt"] < forms[-1]["updatedAt"]]
        return self._again(name, older[0] if older else -1)

    def cancelled(self) -> Call:
        kind = self.world.rng.choice(("form", "form", "call", "own"))
        name = self._under_way("form", "call", "own") or self._pick(kind, 3)
        was, model = self.model.order(name).cancelled, self.model
        if self.world.rng.random() < 0.5:
            document = new_form(name, {}, "c", self._time(), status="CANCELLED")

            def make(runtime: Runtime) -> Any:
                return runtime.orders.process_order_stock_update(document)
        else:

            def make(runtime: Runtime) -> Any:
                return runtime.orders.cancel_order(name[1], name[0])

        return Call(
            f"{name[0]} {name[1]} is cancelled",
            make,
            effects=[nothing if was else lambda: model.cancel(name)],
            expects=lambda result: result.status == ("already_cancelled" if was else "cancelled"),
        )

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

        return Call(f"{units} come back of {name[0]} {name[1]} line {line[-4:]} {how}", make, refused, [commit])

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
        name, units = self._pick(self.world.rng.choice(("form", "call", "own")), 3), self.world.rng.choice((-2, 3))
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
        answer = rng.choice((None, None, TimeoutError(), ValueError()))
        left = self.model.left(name, UNNAMED)
        refused: tuple[type[Exception], ...] = ()
        if kind == "refund" and (left is None or units > left):
            refused = (OrphanRefund, RefundExceedsSale)

        def make(runtime: Runtime) -> Any:
            synced = InventoryManagerWithSync(Elsewhere(answer), runtime.service)  # type: ignore[arg-type]
            ask = synced.remove_as_sale_with_sync if kind == "deduction" else synced.return_with_sync
            return ask("A", WAREHOUSE, units, name[1], name[0])

        said = {TimeoutError: (InDoubt,), ValueError: (ValueError,)}.get(type(answer), ())
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
