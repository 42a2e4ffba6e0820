"""Makes the lines of an order those of its form: what goes out, what comes back, what another order carries."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from stocksync.domain.checkout_form import CheckoutForm, FormLine
from stocksync.domain.errors import InvalidOrder
from stocksync.domain.identifiers import stored_key
from stocksync.domain.revisions import LineChange, changes, withdrawal
from stocksync.merging import take_over
from stocksync.recording import Recorder
from stocksync.sales import deduction_key
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
