"""Decides single calls: one deduction, refund or adjustment of one SKU, its line found or made, recorded once.

Callers hold a write transaction, and roll it back when one of these raises. Each answers with the locked order, and with
the operation that was recorded before under one of the call's keys: then nothing was written now.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from uuid import UUID

from stocksync.errors import InvalidInput, LineTaken, OrderCancelled, OrderHasForm, OrphanRefund, UnknownOrder
from stocksync.orders.checkout_form import CANCELLED
from stocksync.orders.recording import Recorder, exceeds
from stocksync.store.identifiers import stored_key
from stocksync.store.operations import Operation, OrderRow
from stocksync.store.order_lines import HAND_OVER, Line

Decision = Callable[[Recorder, Operation, bool], tuple[OrderRow | None, UUID | None]]
"""One of `deduct`, `refund` and `adjust`; the last argument: wake the lane after the commit."""


def deduct(recorder: Recorder, call: Operation, wake: bool) -> tuple[OrderRow, UUID | None]:
    """Count a deduction on its line and record it; out of our own stock, if it `moves_stock`.

    Raises:
        IdempotencyConflict, InvalidInput, OrderHasForm, OrderCancelled, InsufficientStock
        LineTaken: another order has the line, and something of it is out.
        InDoubt: the same call was made before, and nobody knows what came of it.
    """
    now, order_id = recorder.context.clock(), str(call.order_id)
    order, others = recorder.hold(
        call.token_id, order_id, [] if call.line_item_id is None else [call.line_item_id], now
    )
    if first := recorder.first_of(call):
        return order, first
    if order.status == CANCELLED:
        raise OrderCancelled(call.token_id, order_id)
    if order.has_form and not call.keys:
        raise OrderHasForm(order_id)
    if call.moves_stock:
        recorder.ledger.require_warehouse(call.warehouse)
    for line_id, other in others.items():
        # Of a line that came back in full nothing is held: it may be sold in another order.
        line = recorder.lines.of(other).get(line_id)
        if line is None or line.moved_to or line.is_open or line.deducted > line.refunded:
            raise LineTaken(line_id, other.order_id)
        recorder.context.database.run(HAND_OVER, order_ref=other.id, line_ids=[line_id], order_id=order_id)
    _count_on_line(recorder, order, call)
    recorder.record(order, [call], now, wake=wake)
    return order, None


def refund(
    recorder: Recorder, call: Operation, wake: bool = True, *, return_id: str | None = None
) -> tuple[OrderRow, UUID | None]:
    """Count a refund on the line of its sale and record it.

    Args:
        call: where it `moves_stock`, the units come into our own stock, if they came from there.
        return_id: the refund is of this return, which gives back of one line once.

    Raises:
        IdempotencyConflict, InvalidInput, InDoubt
        OrphanRefund: no such sale is known.
        RefundExceedsSale: fewer units are left of it.
    """
    # Who sells and who buys know an order by the id it had, also where another one carries its line by now.
    which = (call.token_id, str(call.order_id))
    order = recorder.lock_order(call.token_id, recorder.lines.carrier(*which, call.line_item_id, call.sku))
    if order is None:
        raise OrphanRefund(*which, call.sku, call.line_item_id)
    if return_id is not None:
        # Whether the document names its line or only its SKU, it is the same return.
        named = (
            [call.line_item_id]
            if call.line_item_id
            else [one.line_id for one in _sold(recorder, order, call)]
        )
        call = replace(call, keys=tuple(stored_key("return", call.token_id, return_id, one) for one in named))
    if first := recorder.first_of(call):
        return order, first
    candidates = _sold(recorder, order, call)
    line = next((line for line in candidates if line.left >= call.quantity), None)
    if line is None:
        raise exceeds(which[1], [max(candidates, key=lambda line: line.left)], call.quantity)
    call = replace(
        call,
        line_item_id=line.named_id,
        warehouse=str(line.warehouse),
        moves_stock=call.moves_stock and line.moves_stock,
        keys=(stored_key("return", call.token_id, return_id, line.line_id),) if return_id else call.keys,
    )
    recorder.record(order, [call], recorder.context.clock(), wake=wake)
    return order, None


def adjust(recorder: Recorder, call: Operation, wake: bool) -> tuple[OrderRow | None, UUID | None]:
    """Record an adjustment. Of an order: the order's state is told again; of none: it is complete at once.

    Raises:
        IdempotencyConflict
        UnknownOrder: nothing was ever recorded for the order.
    """
    order = recorder.lock_order(call.token_id, call.order_id) if call.order_id else None
    if call.order_id and order is None:
        raise UnknownOrder(call.token_id, call.order_id)
    first, now = recorder.first_of(call), recorder.context.clock()
    if order and not first:
        recorder.record(order, [call], now, wake=wake)
    elif not first:
        recorder.insert(None, [call], now)
        recorder.complete(now, "it belongs to no order", operation_id=call.id)
    return order, first


def _count_on_line(recorder: Recorder, order: OrderRow, call: Operation) -> None:
    line_id = call.line_id
    if len(line_id) > 255:  # as its column
        raise InvalidInput(
            "line_item_id",
            f"is needed here: SKU and warehouse with {len(line_id)} characters are too long to stand for a line",
        )
    counted = call.quantity if call.applied == "yes" else 0
    known = recorder.lines.of(order).get(line_id)
    if known is None:
        recorder.lines.add(
            order,
            [Line(line_id, call.sku, call.warehouse, call.quantity, counted, moves_stock=call.moves_stock)],
        )
        return
    if known.moved_to is not None:
        raise LineTaken(line_id, known.moved_to)
    out, kept = known.deducted - known.refunded, "here" if known.moves_stock else "elsewhere"
    for refused, field, why in (
        (
            (known.sku, known.warehouse) != (call.sku, call.warehouse),
            "line_item_id",
            f"line {line_id} is of SKU {known.sku} in warehouse {known.warehouse}",
        ),
        (
            known.moves_stock is not call.moves_stock,
            "line_item_id",
            f"line {line_id} is deducted from stock that is kept {kept}; take all of a line the same way",
        ),
        (
            order.has_form and out + call.quantity > known.quantity,
            "quantity",
            f"line {line_id}: {known.quantity} were ordered, {out} are deducted already",
        ),
        (
            call.line_item_id is not None and known.deducted > 0 and not order.has_form,
            "line_item_id",
            f"line {line_id} was deducted before; a line is deducted once",
        ),
    ):
        if refused:
            raise InvalidInput(field, why)
    if counted:
        recorder.count(order, [call])


def _sold(recorder: Recorder, order: OrderRow, call: Operation) -> Sequence[Line]:
    """The lines that may be meant, the likeliest first. Raises OrphanRefund."""
    meant = [
        line
        for line in recorder.lines.of(order).values()
        if line.sku is not None and call.line_item_id in (None, line.line_id)
    ]
    of_sku = [line for line in meant if line.sku == call.sku]
    if call.line_item_id is not None and meant and not of_sku:
        raise InvalidInput("sku", f"line {call.line_item_id} is of SKU {meant[0].sku}")
    if not of_sku:
        raise OrphanRefund(call.token_id, str(call.order_id), call.sku, call.line_item_id)
    here = [line for line in of_sku if line.moved_to is None]
    if not here:  # since it was looked for
        raise LineTaken(of_sku[0].line_id, str(of_sku[0].moved_to))
    return sorted(here, key=lambda line: line.line_id != call.line_id)
