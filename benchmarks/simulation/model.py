"""What should be true of a shop: of every line what is deducted and not given back, and what is on hand.

Simple, and independent of the product: nothing of versions, claims, statuses or attempts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.shop import WAREHOUSE, form

Name = tuple[str, str]
"""Seller and order."""
Lines = dict[str, tuple[str | None, int]]
"""Line id -> SKU and quantity, as a form has them."""
SKUS = "AB"
UNNAMED = f"A@{WAREHOUSE}"
"""The line of calls that name none."""
FIRST_STOCK = 60
SHARED = tuple(f"d026dd20-7694-11ef-99fc-d3c5743b610{number}" for number in range(3))
"""Ids of lines that change orders, when purchases are paid together."""


@dataclass
class ModelOrder:
    """`lines`: line id -> [SKU, ordered, deducted and not given back]. `gone`: lines that another order carries."""

    lines: dict[str, list[Any]] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    cancelled: bool = False
    forms: list[dict[str, Any]] = field(default_factory=list)
    """Those that were taken, the last one in force."""
    stopped: bool = False
    """A person stopped one of its deliveries: what the remote holds may be old."""

    @property
    def sold(self) -> bool:
        return any(net for _, _, net in self.lines.values())


@dataclass
class Taken:
    """What a form should come to: the stock afterwards, and what to do to the model when it is committed."""

    stock: Counter[str | None]
    commit: Callable[[], None]
    changes: bool

    @property
    def short(self) -> bool:
        return min(self.stock[sku] for sku in SKUS) < 0


class Model:
    """Stock and orders of all sellers."""

    def __init__(self) -> None:
        self.stock = Counter[str | None](dict.fromkeys(SKUS, FIRST_STOCK))
        self.orders: dict[Name, ModelOrder] = {}
        self.carriers: dict[Name, Name] = {}
        """Seller and line id -> the order that carries it."""
        self.doubts: dict[str, tuple[Name, str, int]] = {}
        """Operation -> order, `deduction` or `refund`, units."""
        self.keys: set[str] = set()
        """Idempotency keys that were used."""
        self.returns: dict[str, Any] = {}
        """Documents of returns that were taken."""

    def order(self, name: Name) -> ModelOrder:
        return self.orders.get(name, ModelOrder())

    def keep(self, name: Name) -> ModelOrder:
        return self.orders.setdefault(name, ModelOrder())

    def line(self, name: Name, line: str = UNNAMED) -> list[Any]:
        return self.keep(name).lines.setdefault(line, ["A", 0, 0])

    def in_doubt(self) -> set[Name]:
        return {name for name, _, _ in self.doubts.values()}

    def lines_out(self) -> dict[tuple[str, str, str], int]:
        """Seller, order, line -> units deducted and not given back."""
        return {
            (*name, line): net
            for name, order in self.orders.items()
            for line, (_, _, net) in order.lines.items()
            if net
        }

    def take(self, document: dict[str, Any], *, late: bool = False) -> Taken:
        """What a form comes to. `late`: an order's first, older than all that is known."""
        lane, name = document["token_id"], (document["token_id"], document["id"])
        by_seller = document["fulfillment"]["status"] == "CANCELLED"
        before = self.order(name)
        lines: Lines = {
            line["id"]: (line["offer"]["external"]["id"], line["quantity"]) for line in document["lineItems"]
        }
        carried = {id: self.carriers[lane, id] for id in lines if (lane, id) in self.carriers}
        others = {id: at for id, at in carried.items() if at != name and id not in before.gone}
        gone = before.gone | (others.keys() if late else set())
        lines = {id: line for id, line in lines.items() if id not in gone}
        after = {id: list(row) for id, row in before.lines.items()}
        if not late:
            after |= {id: list(self.orders[at].lines[id]) for id, at in others.items()}
        start = {id: list(row) for id, row in after.items()}
        stock = self._followed(after, lines, nothing_is_out=by_seller or before.cancelled)

        def commit() -> None:
            for id, at in ({} if late else others).items():
                del self.orders[at].lines[id]
                self.orders[at].gone.add(id)
            self.carriers |= {(lane, id): name for id in after if id in SHARED}
            self.orders[name] = ModelOrder(
                after, gone, before.cancelled, [*before.forms, document], before.stopped
            )
            self.stock = stock

        return Taken(stock, commit, start != after or stock != self.stock)

    def _followed(
        self, rows: dict[str, list[Any]], lines: Lines, *, nothing_is_out: bool
    ) -> Counter[str | None]:
        """Change `rows` as a form with these lines does; answers with what is on hand then."""
        stock = Counter[str | None](self.stock)
        for id in dict.fromkeys((*lines, *rows)):
            sku, quantity = lines.get(id, (None, 0))
            had_sku, ordered, net = rows.get(id, [sku, 0, 0])
            if nothing_is_out:
                stock[had_sku] += net
                rows[id] = [had_sku, ordered - net, 0]
                continue
            keeps = net if sku in (had_sku, None) else 0
            keeps = max(0, keeps + min(0, quantity - ordered)) if sku else 0
            more = max(0, quantity - ordered) if sku == had_sku else quantity
            stock[had_sku] += net - keeps
            stock[sku] -= more
            rows[id] = [sku or had_sku, quantity, keeps + more]
        return stock

    def cancel(self, name: Name) -> None:
        """For good; what moved stock comes back."""
        order = self.keep(name)
        order.cancelled = True
        moves = not name[1].startswith(("call", "far"))
        for id, (sku, ordered, net) in order.lines.items():
            self.stock[sku] += net if moves else 0
            order.lines[id] = [sku, ordered - net, 0]

    def left(self, name: Name, line: str) -> int | None:
        """Units of a line that can come back; None: there is no such line."""
        known = self.order(name).lines.get(line)
        doubted = sum(units for at, kind, units in self.doubts.values() if (at, kind) == (name, "refund"))
        return None if known is None else known[2] - doubted

    def settle_doubt(self, operation: str, *, done: bool) -> None:
        name, kind, units = self.doubts.pop(operation)
        if done:
            self.line(name)[2] += units if kind == "deduction" else -units


def new_form(name: Name, lines: Lines, revision: str, updated_at: str, **more: Any) -> dict[str, Any]:
    """A checkout form."""
    return form(name[1], lines, token_id=name[0], revision=revision, updated_at=updated_at, **more)
