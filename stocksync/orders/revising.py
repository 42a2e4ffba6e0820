"""Makes the lines of an order those of its form: what goes out, what comes back, what it takes over from other orders.

Lines change orders when a buyer pays several purchases together: a new order carries the lines of all. Nothing moves in
stock for it: what the old order has deducted of a line is given back there and deducted at the new one, both without a
movement.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from stocksync.errors import InvalidOrder, LineTaken
from stocksync.orders.checkout_form import CheckoutForm, FormLine
from stocksync.orders.recording import Recorder
from stocksync.orders.revisions import LineChange, changes, withdrawal
from stocksync.orders.single_operations import deduction_key
from stocksync.store.identifiers import stored_key
from stocksync.store.operations import OperationDraft, OrderRow
from stocksync.store.order_lines import Line

log = logging.getLogger(__name__)


def follow(
    at: Recorder,
    order: OrderRow,
    form: CheckoutForm,
    carriers: Mapping[str, OrderRow],
    warehouse: str,
    *,
    cancelled: bool,
) -> list[OperationDraft]:
    """Write the lines as a form that says something new makes them; answers with the operations to be recorded.

    Args:
        carriers: by line id, the other orders that carry lines of the form, locked.
        cancelled: nothing of the order is to be out.

    Raises:
        InvalidOrder: the form can't be followed; every fault is named.
        LineTaken: a line has just changed its order; roll back and begin again.
    """
    known = at.lines_of(order)
    coming = {line_id: other for line_id, other in carriers.items() if line_id not in known}
    drafts = take_over(at, order, form, coming, warehouse) if coming else []
    known = at.lines_of(order) if coming else known
    gone = {line_id for line_id, line in known.items() if line.moved_to is not None}
    here = [line for line in form.line_items if line.id not in gone]
    if cancelled:
        return drafts + apply(at, order, known, list(withdrawal(here, known)), warehouse)
    _refuse_unnamed_lines(order, known)
    named = {id: line for id, line in known.items() if not line.is_unnamed and id not in gone}
    changed = list(changes(here, named))
    _refuse_lines_kept_elsewhere(order, known, changed)
    _name_lines_without_sku(order, [line for line in here if line.sku is None and line.id not in known])
    return drafts + apply(at, order, known, changed, warehouse)


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


def apply(
    at: Recorder, order: OrderRow, known: dict[str, Line], changed: list[LineChange], warehouse: str
) -> list[OperationDraft]:
    """Write the lines as they become; answers with the operations to be recorded, refunds first."""
    version = str(order.state_version + 1)
    new: list[Line] = []
    revised: list[tuple[Line, int]] = []
    refunds: list[OperationDraft] = []
    deductions: list[OperationDraft] = []
    for change in changed:
        before = known.get(change.line_id)
        which = (order.token_id, order.order_id, change.line_id)
        place = warehouse if change.sku else None
        if before is None:
            key = deduction_key(*which)
            line = Line(change.line_id, change.sku, place, change.quantity, change.out)
            new.append(line)
        else:
            key = stored_key("deduct", *which, version)
            place = before.warehouse or place
            line = replace(before, sku=change.sku, warehouse=place, quantity=change.quantity)
            revised.append((line, change.out))
            if change.back:
                back_key = stored_key("revise", *which, version)
                refunds.append(at.draft("refund", order, before, change.back, back_key))
        if change.out:
            deductions.append(at.draft("deduction", order, line, change.out, key))
    at.lines.add(order, new, at.clock())
    at.lines.revise(order.id, revised)
    return refunds + deductions


def _refuse_unnamed_lines(order: OrderRow, known: dict[str, Line]) -> None:
    """Nobody can say which of the form's lines they are. Raises InvalidOrder."""
    unnamed = [line for line in known.values() if line.is_unnamed and (line.left > 0 or line.is_open)]
    if unnamed and not order.has_form:
        listed = ", ".join(f"{max(line.left, line.quantity)} of {line.sku}" for line in unnamed)
        twice = f"calls without line_item_id deducted {listed} for it, and the form would deduct them twice"
        raise InvalidOrder(order.order_id, [f"{twice}: refund those first, or go on line by line"])


def _refuse_lines_kept_elsewhere(order: OrderRow, known: dict[str, Line], changed: list[LineChange]) -> None:
    """What goes out of another's stock only that one can take. Raises InvalidOrder."""
    faults = [
        f"line {change.line_id}: {change.out} more of {change.sku} go out of stock that is kept elsewhere; "
        "deduct them there, under another line id"
        for change in changed
        if change.out
        and (line := known.get(change.line_id))
        and line.sku is not None
        and not line.moves_stock
    ]
    if faults:
        raise InvalidOrder(order.order_id, faults)


def _name_lines_without_sku(order: OrderRow, lines: Sequence[FormLine]) -> None:
    if lines:
        named = ", ".join(f"{line.id} ({line.quantity} units)" for line in lines)
        about = {"lane": order.token_id, "order": order.order_id}
        log.warning("sold without an external id, so nothing is deducted for: %s", named, extra=about)
