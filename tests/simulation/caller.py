"""The model of a random shop, and the calls that a monolith makes to both.

The model knows of every order line what is deducted and not given back, and what is on hand; nothing of versions,
claims or statuses.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from stocksync import (
    InDoubt,
    InsufficientStock,
    InventoryManagerWithSync,
    OrderCancelled,
    OrphanRefund,
    RefundExceedsSale,
    UnknownOrder,
)
from stocksync.store.lanes import ClaimedOrder
from tests.shop import SELLER, WAREHOUSE, Shop, form, goods

FORMS = st.sampled_from([f"form-{number}" for number in range(3)])
CALLS = st.sampled_from([f"call-{number}" for number in range(3)])
ELSEWHERE = st.sampled_from([f"far-{number}" for number in range(2)])
ORDERS = FORMS | CALLS | ELSEWHERE
UNITS = st.integers(1, 3)
SHARED = [f"d026dd20-7694-11ef-99fc-d3c5743b610{number}" for number in range(2)]
"""Ids of lines that change orders, when purchases are paid together."""
LINE = st.sampled_from(["1", "2", *SHARED])
LINES = st.dictionaries(LINE, st.tuples(st.sampled_from("AB"), UNITS), max_size=3)
ON_HAND = 12
UNNAMED = "A@Ирина"


@dataclass
class ModelOrder:
    """`lines`: line id -> [sku, ordered, deducted and not given back]. `gone`: lines that another order carries."""

    lines: dict[str, list[Any]] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    cancelled: bool = False

    @property
    def sold(self) -> bool:
        return any(net for _, _, net in self.lines.values())


class Elsewhere:
    """An inventory that answers, refuses or falls silent."""

    answer: BaseException | None = None

    def remove_as_sale(self, sku: str, warehouse: str, quantity: int) -> None:
        del sku, warehouse, quantity
        if self.answer is not None:
            raise self.answer

    add = remove_as_sale


class Caller(RuleBasedStateMachine):
    """The calls of a monolith, to the real shop and to its model."""

    url: str
    fresh_url: Any

    @initialize()
    def open(self) -> None:
        self.shop = Shop(type(self).fresh_url())
        self.shop.stock(A=ON_HAND, B=ON_HAND)
        self.elsewhere = Elsewhere()
        self.synced = InventoryManagerWithSync(self.elsewhere, self.shop.service)
        self.stock = {"A": ON_HAND, "B": ON_HAND}
        self.orders: dict[str, ModelOrder] = {}
        self.forms: dict[str, dict[str, Any]] = {}
        self.carriers: dict[str, str] = {}
        self.operations: list[UUID] = []
        self.cancelled: set[UUID] = set()
        self.stopped: set[str] = set()
        self.doubts: dict[UUID, tuple[str, str, int]] = {}
        self.stalled: list[list[ClaimedOrder]] = []
        self.number = 0

    def next_number(self) -> int:
        self.number += 1
        return self.number

    def known(self, operations: Any) -> None:
        self.operations += operations

    # Orders

    @rule(order=FORMS, lines=LINES)
    def a_form_comes_in(self, order: str, lines: dict[str, tuple[str | None, int]]) -> None:
        time = f"2026-03-01T12:{self.next_number():02}:00Z"
        self.take(form(order, lines, revision=f"r{self.number}", updated_at=time))

    @rule(lines=LINES)
    def the_first_event_of_an_order_comes_late(self, lines: dict[str, tuple[str | None, int]]) -> None:
        """Earlier at Allegro than all that is known: what others carry by now stays there."""
        time = f"2026-03-01T10:{59 - self.next_number():02}:00Z"
        self.take(form(f"late-{self.number}", lines, updated_at=time), late=True)

    @rule(order=FORMS, cancelled=st.booleans())
    def the_seller_cancels_or_takes_it_back(self, order: str, cancelled: bool) -> None:
        if order in self.forms:
            by_seller = {"fulfillment": {"status": "CANCELLED" if cancelled else "PROCESSING"}}
            self.take(self.forms[order] | by_seller)

    def take(self, document: dict[str, Any], *, late: bool = False) -> None:
        """Process a form; the model takes over what others carry, and follows its lines."""
        order, by_seller = document["id"], document["fulfillment"]["status"] == "CANCELLED"
        before = self.orders.get(order, ModelOrder())
        lines = {
            line["id"]: (line["offer"]["external"]["id"], line["quantity"]) for line in document["lineItems"]
        }
        others = {id: self.orders[self.carriers[id]] for id in lines if id in self.carriers}
        others = {id: other for id, other in others.items() if other is not before and id not in before.gone}
        gone = before.gone | (others.keys() if late else set())
        lines = {id: line for id, line in lines.items() if id not in gone}
        after = {id: list(row) for id, row in before.lines.items()}
        after |= {} if late else {id: list(other.lines[id]) for id, other in others.items()}
        stock = self.followed(after, lines, nothing_is_out=by_seller or before.cancelled)
        try:
            result = self.shop.orders.process_order_stock_update(document)
        except InsufficientStock:
            assert min(stock["A"], stock["B"]) < 0
            return
        assert min(stock["A"], stock["B"]) >= 0
        self.known(result.operations)
        self.forms[order] = document
        assert (result.status == "cancelled") is (before.cancelled or by_seller) or not result.operations
        for id, other in ({} if late else others).items():
            del other.lines[id]
            other.gone.add(id)
        self.carriers |= {id: order for id in after if id in SHARED}
        self.orders[order] = ModelOrder(after, gone, before.cancelled)
        self.stock = {sku: stock[sku] for sku in "AB"}

    def followed(
        self, rows: dict[str, list[Any]], lines: dict[str, tuple[str | None, int]], *, nothing_is_out: bool
    ) -> Counter[str | None]:
        """Change `rows` as a form with these lines does; answers with what is on hand then."""
        stock = Counter[str | None](self.stock)
        for id in {*lines, *rows}:
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

    @rule(order=FORMS)
    def the_same_form_comes_again(self, order: str) -> None:
        if order in self.forms:
            assert self.shop.orders.process_order_stock_update(self.forms[order]).operations == ()

    @rule(order=FORMS | CALLS, by_form=st.booleans())
    def an_order_is_cancelled(self, order: str, by_form: bool) -> None:
        if by_form:
            result = self.shop.orders.process_order_stock_update(form(order, {}, status="CANCELLED"))
        else:
            result = self.shop.orders.cancel_order(order, SELLER)
        self.known(result.operations)
        model = self.orders.setdefault(order, ModelOrder())
        assert result.status == ("already_cancelled" if model.cancelled else "cancelled")
        model.cancelled = True
        for line, (sku, ordered, net) in model.lines.items():
            self.stock[sku] += net if order in self.forms else 0
            model.lines[line] = [sku, ordered - net, 0]

    # Single calls

    @rule(order=CALLS, quantity=UNITS)
    def the_monolith_calls(self, order: str, quantity: int) -> None:
        model = self.orders.get(order, ModelOrder())
        try:
            self.operations.append(self.shop.deduct(order, quantity=quantity))
        except OrderCancelled:
            assert model.cancelled
            return
        assert not model.cancelled
        self.orders[order] = model
        model.lines.setdefault(UNNAMED, ["A", 0, 0])[2] += quantity

    @rule(order=FORMS | CALLS, line=LINE, quantity=UNITS, how=st.sampled_from("RCN"))
    def goods_come_back(self, order: str, line: str, quantity: int, how: str) -> None:
        """As a return, with restock or without, or by a call that never moves stock; also by the id of an old order."""
        line = UNNAMED if order.startswith("call") else line
        model = self.orders.get(self.carriers.get(line, order), ModelOrder())
        sku, _, net = model.lines.get(line, ["A", 0, 0])
        document = goods(f"return-{self.next_number()}", line, sku, quantity, order)
        try:
            if how == "C":
                self.operations.append(self.shop.refund(order, sku, quantity, line_item_id=line))
            else:
                result = self.shop.orders.process_return(document, restock=how == "R")
                assert self.shop.orders.process_return(document).status == "already_returned"
                self.known(result.operations)
        except OrphanRefund:
            assert line not in model.lines
            return
        except RefundExceedsSale:
            assert line in model.lines
            assert quantity > net
            return
        assert quantity <= net
        model.lines[line][2] -= quantity
        self.stock[sku] += quantity if how == "R" and not order.startswith("call") else 0

    @rule(order=ORDERS, quantity=st.sampled_from([-2, 3]))
    def somebody_adjusts(self, order: str, quantity: int) -> None:
        with contextlib.suppress(UnknownOrder):
            result = self.shop.service.sync_stock_adjustment(
                SELLER, order, "A", quantity, reason="counted", actor="Anna"
            )
            self.known([result.operation_id])

    # An inventory kept elsewhere

    @rule(order=ELSEWHERE, quantity=UNITS, answer=st.sampled_from([None, None, TimeoutError(), ValueError()]))
    def sold_elsewhere(self, order: str, quantity: int, answer: BaseException | None) -> None:
        self.ask(self.synced.remove_as_sale_with_sync, order, quantity, answer, 1)

    @rule(order=ELSEWHERE, quantity=UNITS, answer=st.sampled_from([None, None, TimeoutError(), ValueError()]))
    def given_back_elsewhere(self, order: str, quantity: int, answer: BaseException | None) -> None:
        left = self.orders.get(order, ModelOrder()).lines.get(UNNAMED, ["A", 0, 0])[2]
        left -= sum(units for of, kind, units in self.doubts.values() if (of, kind) == (order, "refund"))
        try:
            self.ask(self.synced.return_with_sync, order, quantity, answer, -1)
        except (OrphanRefund, RefundExceedsSale):
            assert quantity > left
            return
        assert quantity <= left

    def ask(
        self, call: Callable[..., Any], order: str, quantity: int, answer: BaseException | None, sign: int
    ) -> None:
        self.elsewhere.answer = answer
        kind = "deduction" if sign > 0 else "refund"
        try:
            result = call("A", WAREHOUSE, quantity, order, SELLER)
        except InDoubt as doubt:
            self.doubts[UUID(str(doubt.operation_id))] = (order, kind, quantity)
        except ValueError:
            pass
        else:
            self.known([result.operation_id])
            self.line_elsewhere(order)[2] += sign * quantity

    def line_elsewhere(self, order: str) -> list[Any]:
        return self.orders.setdefault(order, ModelOrder()).lines.setdefault(UNNAMED, ["A", 0, 0])

    @rule(done=st.booleans())
    def a_doubt_is_settled(self, done: bool) -> None:
        if self.doubts:
            operation, (order, kind, quantity) = self.doubts.popitem()
            self.shop.service.confirm(operation, done, actor="Anna")
            line = self.line_elsewhere(order)
            line[2] += (quantity if kind == "deduction" else -quantity) if done else 0
