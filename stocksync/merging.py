"""Lines that change orders: a buyer pays several purchases together, and a new order carries the lines of all.

Nothing moves in stock for it: what the old order has deducted of a line is given back there and deducted at the new
one, both without a movement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from stocksync.domain.checkout_form import CheckoutForm, FormLine
from stocksync.domain.errors import InvalidOrder, LineTaken
from stocksync.domain.identifiers import stored_key
from stocksync.recording import Recorder
from stocksync.sales import deduction_key
from stocksync.store.operations import OperationDraft, OrderRow
from stocksync.store.order_lines import Line


def take_over(
    at: Recorder,
    order: OrderRow,
    form: CheckoutForm,
    carriers: Mapping[str, OrderRow],
    warehouse: str,
) -> list[OperationDraft]:
    """Have the order carry the lines of its form that other orders carry so far.

    A line that an order with a later form carries stays there, and is noted here as gone. Lines that left an order
    never come back to it.

    Args:
        carriers: by line id, the other orders, locked.
        warehouse: of the lines that stay away.

    Returns:
        The deductions to be recorded at the order; those of the others are.

    Raises:
        InvalidOrder: nobody knows whether another order has a line deducted.
        LineTaken: a line has just gone on to another order.
    """
    now, drafts = at.clock(), list[OperationDraft]()
    lines: list[Line] = []
    for other in {row.order_id: row for row in carriers.values()}.values():
        ours = [line for line in form.line_items if carriers.get(line.id) is other]
        if not is_later(form, other):
            for line in ours:
                place = warehouse if line.sku else None
                gone = Line(line.id, line.sku, place, line.quantity, moved_to=other.order_id, waived=True)
                lines.append(gone)
            continue
        theirs = [line for line_id, line in at.lines_of(other).items() if carriers.get(line_id) is other]
        _refuse_doubtful(form.id, other.order_id, ours, theirs)
        out = [line for line in theirs if line.left > 0]
        went, came = f"taken over by order {order.order_id}", f"taken over from order {other.order_id}"
        if out:
            at.record(other, [_moving(at, "refund", other, line, went) for line in out], now)
        drafts += [_moving(at, "deduction", order, line, came) for line in out]
        at.lines.hand_over(other.id, [line.line_id for line in theirs], order.order_id)
        for known in theirs:
            # Units that were returned before stay so: they hold the order up as little here as there.
            short = known.sku is not None and known.left < known.quantity
            kept = replace(known, deducted=known.left, refunded=0, waived=known.waived or short)
            lines.append(replace(kept, moves_stock=known.moves_stock or not known.left))
    at.lines.add(order, lines, now)
    return drafts


def _refuse_doubtful(order_id: str, other_id: str, ours: Sequence[FormLine], theirs: Sequence[Line]) -> None:
    carried = {line.line_id for line in theirs if line.moved_to is None}
    for line in ours:
        if line.id not in carried:
            raise LineTaken(line.id, other_id)
    doubtful = [line.line_id for line in theirs if line.is_open or line.reserved]
    if doubtful:
        why = f"whether order {other_id} has it deducted is in doubt; confirm that, then process this form again"
        raise InvalidOrder(order_id, [f"line {line_id}: {why}" for line_id in doubtful])


def _moving(at: Recorder, kind: str, order: OrderRow, line: Line, reason: str) -> OperationDraft:
    which = (order.token_id, order.order_id, line.line_id)
    key = deduction_key(*which) if kind == "deduction" else stored_key("moved", *which)
    return replace(at.draft(kind, order, line, line.left, key), moves_stock=False, reason=reason)


def is_later(form: CheckoutForm, other: OrderRow) -> bool:
    """Whether the form is the later of the two that carry a line; where a time is missing, the one that came later."""
    mine, theirs = form.updated_at, other.form_updated_at
    return mine is None or theirs is None or (mine, form.id) > (theirs, other.order_id)
