"""Single calls: one deduction or refund of one SKU for an order, its line found or made, bounded, recorded once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from stocksync.errors import InvalidInput, LineTaken, OrderCancelled, OrderHasForm, OrphanRefund
from stocksync.orders.checkout_form import CANCELLED
from stocksync.orders.recording import Recorder, exceeds
from stocksync.store.identifiers import stored_key
from stocksync.store.operations import OperationDraft, OrderRow
from stocksync.store.order_lines import Line, unnamed_line
from stocksync.store.values import check_quantity, check_word


@dataclass(frozen=True, slots=True)
class Recorded:
    """What came of a call. `repeated`: it was recorded before, and nothing was written now."""

    order: OrderRow
    operation_id: UUID
    repeated: bool


Record = Callable[[OperationDraft, bool], Recorded]
"""Writes what a call asks for; is told whether to wake the lane."""


class Sales:
    """Deductions and refunds on order lines. Callers hold a write transaction, and roll it back when this raises."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def call(
        self,
        kind: str,
        token_id: object,
        order_id: str,
        sku: str,
        quantity: int,
        warehouse: str,
        line_item_id: str | None,
        idempotency_key: str | None = None,
    ) -> OperationDraft:
        """A call's arguments, checked, as the operation that it asks for. Raises InvalidInput."""
        token, order_id = checked_token(token_id), check_word("order_id", order_id)
        sku, warehouse = check_word("sku", sku), check_word("warehouse", warehouse)
        quantity = check_quantity("quantity", quantity)
        line_item_id = None if line_item_id is None else check_word("line_item_id", line_item_id)
        keys = call_keys(idempotency_key)
        if kind == "deduction" and line_item_id is not None:
            keys = (*keys, deduction_key(token, order_id, line_item_id))
        what = (line_item_id, sku, quantity, warehouse)
        return OperationDraft(self._recorder.new_id(), kind, token, order_id, *what, keys)

    def deduct(self, call: OperationDraft, wake: bool = True) -> Recorded:
        """Count a deduction on its line and record it; out of our own stock, if it `moves_stock`.

        Raises:
            IdempotencyConflict, InvalidInput, OrderHasForm, OrderCancelled, InsufficientStock
            LineTaken: another order has the line, and something of it is out.
            InDoubt: the same call was made before, and nobody knows what came of it.
        """
        at = self._recorder
        now = at.clock()
        named = [] if call.line_item_id is None else [call.line_item_id]
        order, others = at.hold(call.token_id, call.order_id, named, now)
        if first := at.first_of(call):
            return Recorded(order, first, True)
        if order.status == CANCELLED:
            raise OrderCancelled(call.token_id, call.order_id)
        if order.has_form and not call.keys:
            raise OrderHasForm(call.order_id)
        if call.moves_stock:
            at.ledger.require_warehouse(call.warehouse)
        for line_id, other in others.items():
            self._release(line_id, other, call.order_id)
        self._onto_line(order, call)
        at.record(order, [call], now, wake=wake)
        return Recorded(order, call.id, False)

    def refund(self, call: OperationDraft, wake: bool = True, *, return_id: str | None = None) -> Recorded:
        """Count a refund on the line of its sale and record it.

        Args:
            call: where it `moves_stock`, the units come into our own stock, if they came from there.
            return_id: the refund is of this return, which gives back of one line once.

        Raises:
            IdempotencyConflict, InvalidInput, InDoubt
            OrphanRefund: no such sale is known.
            RefundExceedsSale: fewer units are left of it.
        """
        at = self._recorder
        # Who sells and who buys know an order by the id it had, also where another one carries its line by now.
        where = at.lines.carrier(call.token_id, call.order_id, call.line_item_id, call.sku)
        order = at.operations.lock_order(call.token_id, where)
        if order is None:
            raise OrphanRefund(call.token_id, call.order_id, call.sku, call.line_item_id)
        if return_id is not None:
            # Whether the document names its line or only its SKU, it is the same return.
            named = call.line_item_id
            lines = [named] if named is not None else [line.line_id for line in self._sold(order, call)]
            call = replace(call, keys=tuple(return_key(call, return_id, line_id) for line_id in lines))
        if first := at.first_of(call):
            return Recorded(order, first, True)
        line = self._enough_left(self._sold(order, call), call)
        if return_id is not None:
            call = replace(call, keys=(return_key(call, return_id, line.line_id),))
        call = replace(call, line_item_id=line.named_id, warehouse=str(line.warehouse))
        call.moves_stock &= line.moves_stock
        at.record(order, [call], at.clock(), wake=wake)
        return Recorded(order, call.id, False)

    def _release(self, line_id: str, other: OrderRow, order_id: str) -> None:
        """Of a line that came back in full nothing is held: it may be sold in another order."""
        line = self._recorder.lines.of(other.id).get(line_id)
        if line is None or line.moved_to or line.is_open or line.deducted > line.refunded:
            raise LineTaken(line_id, other.order_id)
        self._recorder.lines.hand_over(other.id, [line_id], order_id)

    def _onto_line(self, order: OrderRow, call: OperationDraft) -> None:
        # Without a line id the SKU in its warehouse is the line; such calls add up.
        line_id = call.line_item_id or unnamed_line(call.sku, call.warehouse)
        lines, counted = self._recorder.lines, call.applied == "yes"
        known = lines.of(order.id).get(line_id)
        if known is None:
            place = (call.sku, call.warehouse, call.quantity, call.quantity if counted else 0)
            line = Line(line_id, *place, moves_stock=call.moves_stock)
            lines.add(order, [line], self._recorder.clock())
            return
        if known.moved_to is not None:
            raise LineTaken(line_id, known.moved_to)
        if (known.sku, known.warehouse) != (call.sku, call.warehouse):
            of = f"line {line_id} is of SKU {known.sku} in warehouse {known.warehouse}"
            raise InvalidInput("line_item_id", of)
        if known.moves_stock is not call.moves_stock:
            kept = f"stock that is kept {'here' if known.moves_stock else 'elsewhere'}"
            why = f"line {line_id} is deducted from {kept}; take all of a line the same way"
            raise InvalidInput("line_item_id", why)
        if order.has_form and known.left + call.quantity > known.quantity:
            why = f"line {line_id}: {known.quantity} were ordered, {known.left} are deducted already"
            raise InvalidInput("quantity", why)
        if call.line_item_id is not None and known.deducted and not order.has_form:
            raise InvalidInput("line_item_id", f"line {line_id} was deducted before; a line is deducted once")
        if counted:
            grows = call.line_item_id is None or not order.has_form
            lines.deduct(order.id, line_id, call.quantity, grows=grows)

    def _sold(self, order: OrderRow, call: OperationDraft) -> list[Line]:
        """The lines that may be meant, the likeliest first. Raises OrphanRefund."""
        lines = self._recorder.lines_of(order)
        if call.line_item_id is not None:
            found = lines.get(call.line_item_id)
            candidates = [found] if found is not None and found.sku is not None else []
            if candidates and candidates[0].sku != call.sku:
                raise InvalidInput("sku", f"line {call.line_item_id} is of SKU {candidates[0].sku}")
        else:
            of_sku = [line for line in lines.values() if line.sku == call.sku]
            candidates = sorted(of_sku, key=lambda line: line.line_id != call.line_id)
        if not candidates:
            raise OrphanRefund(call.token_id, call.order_id, call.sku, call.line_item_id)
        here = [line for line in candidates if line.moved_to is None]
        if not here:  # since it was looked for
            raise LineTaken(candidates[0].line_id, str(candidates[0].moved_to))
        return here

    @staticmethod
    def _enough_left(candidates: Sequence[Line], call: OperationDraft) -> Line:
        for line in candidates:
            if line.left >= call.quantity:
                return line
        raise exceeds(call.order_id, candidates, call.quantity)


def return_key(call: OperationDraft, return_id: str, line_id: str) -> str:
    """The key under which one return gives back of one line, once."""
    return stored_key("return", call.token_id, return_id, line_id)


def deduction_key(token_id: str, order_id: str, line_id: str) -> str:
    """The key under which one order line deducts, once."""
    return stored_key("deduct", token_id, order_id, line_id)


def call_keys(given: str | None) -> tuple[str, ...]:
    """The caller's own idempotency key as it is stored. Raises InvalidInput."""
    return () if given is None else (f"call:{check_word('idempotency_key', given)}",)


def checked_token(token_id: object) -> str:
    """A seller account, which callers may hold as a number or UUID. Raises InvalidInput."""
    return check_word("token_id", token_id if token_id is None else str(token_id))
