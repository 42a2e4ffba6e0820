"""What a monolith calls with whole orders: forms, their revisions and repeats, cancellations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from benchmarks.simulation.model import SHARED, SKUS, Lines, Model, Name, new_form
from benchmarks.simulation.world import EPOCH
from stocksync import InsufficientStock

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
    waits: bool = False
    """For the remote, because its caller asked for that."""
    expects: Callable[[Any], bool] = lambda _: True
    """Of what it answers."""


class Forms:
    """Draws calls with whole orders. `number` rises with each call."""

    def __init__(self, world: World, model: Model) -> None:
        self.world, self.model, self.number = world, model, 0

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
