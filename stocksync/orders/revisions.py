"""Makes the lines of an order those of its form: what goes out, what comes back, what it takes over from other orders.

Lines change orders when a buyer pays several purchases together: a new order carries the lines of all. Nothing moves in
stock for it: what the old order has deducted of a line is given back there and deducted at the new one, both without a
movement. `changes` and `withdrawal` are pure.
"""

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from stocksync.errors import InvalidOrder, LineTaken
from stocksync.orders.checkout_form import CheckoutForm, FormLine
from stocksync.orders.recording import Recorder
from stocksync.store.identifiers import stored_key
from stocksync.store.operations import Operation, OrderRow
from stocksync.store.order_lines import HAND_OVER, REVISE_LINES, Line

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LineChange:
    """One line as it becomes. `back`: units of the SKU it had that come back, before `out` of its new SKU go out.

    `sku` None: not stock.
    """

    line_id: str
    sku: str | None
    quantity: int
    back: int = 0
    out: int = 0


def changes(form_lines: Sequence[FormLine], known: Mapping[str, Line]) -> Iterator[LineChange]:
    """Every line that differs: those of the form in its order, then those that it no longer has."""
    asked = {line.id: line for line in form_lines}
    for line_id in dict.fromkeys([*asked, *known]):
        line, before = asked.get(line_id), known.get(line_id) or Line(line_id, None, None, 0)
        if line is None or (line.sku is None and before.sku is not None):
            # It keeps its SKU: what was deducted and given back stays told.
            if before.quantity or before.left:
                yield LineChange(line_id, before.sku, 0, back=before.left)
        elif line.sku != before.sku:
            yield LineChange(line_id, line.sku, line.quantity, before.left, line.quantity)
        elif line.quantity != before.quantity:
            more = line.quantity - before.quantity if line.sku else 0
            yield LineChange(
                line_id, line.sku, line.quantity, back=min(max(-more, 0), before.left), out=max(more, 0)
            )


def withdrawal(form_lines: Sequence[FormLine], known: Mapping[str, Line]) -> Iterator[LineChange]:
    """What a cancelled order becomes: all that is out comes back, and no more is ordered than was returned before.

    So a form that takes the cancellation back finds what is to go out again. Lines that the cancelled form names first
    are noted: they are this order's.
    """
    for line_id, before in known.items():
        if before.left or before.sku is None:
            yield LineChange(
                line_id, before.sku, before.quantity - before.left if before.sku else 0, before.left
            )
    for line in form_lines:
        if line.id not in known:
            yield LineChange(line.id, line.sku, 0)


def follow(
    recorder: Recorder,
    order: OrderRow,
    form: CheckoutForm,
    carriers: Mapping[str, OrderRow],
    warehouse: str,
    *,
    cancelled: bool,
) -> list[Operation]:
    """Write the lines as a form that says something new makes them; answers with the operations to be recorded.

    Args:
        carriers: by line id, the other orders that carry lines of the form, locked.
        cancelled: nothing of the order is to be out.

    Raises:
        InvalidOrder: the form can't be followed; every fault is named.
        LineTaken: a line has just changed its order; roll back and begin again.
    """
    known = recorder.lines.of(order)
    coming = {line_id: other for line_id, other in carriers.items() if line_id not in known}
    operations = take_over(recorder, order, form, coming, warehouse) if coming else []
    known = recorder.lines.of(order) if coming else known
    carried = {line_id: line for line_id, line in known.items() if line.moved_to is None}
    here = [line for line in form.line_items if line.id in carried or line.id not in known]
    if cancelled:
        return operations + apply(recorder, order, known, withdrawal(here, known), warehouse)
    changed = list(changes(here, {id: line for id, line in carried.items() if line.named_id is not None}))
    _check_lines(order, known, changed)
    if unsold := [f"{one.id} ({one.quantity} units)" for one in here if not one.sku and one.id not in known]:
        log.warning(
            "sold without an external id, so nothing is deducted for: %s",
            ", ".join(unsold),
            extra={"lane": order.token_id, "order": order.order_id},
        )
    return operations + apply(recorder, order, known, changed, warehouse)


def _check_lines(order: OrderRow, known: Mapping[str, Line], changed: Iterable[LineChange]) -> None:
    """Raises InvalidOrder: lines that nobody can tell from the form's, or that only another's stock can supply."""
    faults = [
        f"line {change.line_id}: {change.out} more of {change.sku} go out of stock that is kept elsewhere; "
        "deduct them there, under another line id"
        for change in changed
        if change.out
        and (line := known.get(change.line_id))
        and line.sku is not None
        and not line.moves_stock
    ]
    unnamed = [line for line in known.values() if line.named_id is None and (line.left > 0 or line.is_open)]
    if unnamed and not order.has_form:
        listed = ", ".join(f"{max(line.left, line.quantity)} of {line.sku}" for line in unnamed)
        faults.append(
            f"calls without line_item_id deducted {listed} for it, and the form would deduct them twice: "
            "refund those first, or go on line by line"
        )
    if faults:
        raise InvalidOrder(order.order_id, faults)


def take_over(
    recorder: Recorder,
    order: OrderRow,
    form: CheckoutForm,
    carriers: Mapping[str, OrderRow],
    warehouse: str,
) -> list[Operation]:
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
    operations: list[Operation] = []
    lines: list[Line] = []
    for other in {row.order_id: row for row in carriers.values()}.values():
        ours = {line.id: line for line in form.line_items if carriers.get(line.id) is other}
        if is_later(form, other):
            taken = _handed_over(recorder, order, other, ours.keys())
            operations += [
                _moving(recorder, "deduction", order, line, f"taken over from order {other.order_id}")
                for line in taken
                if line.left > 0
            ]
            lines += taken
        else:
            lines += [
                Line(
                    id, line.sku, line.sku and warehouse, line.quantity, moved_to=other.order_id, waived=True
                )
                for id, line in ours.items()
            ]
    recorder.lines.add(order, lines)
    return operations


def _handed_over(
    recorder: Recorder, order: OrderRow, other: OrderRow, line_ids: Collection[str]
) -> list[Line]:
    """Have the other order give these lines up, and what it has deducted of them; answers with them as they come."""
    known = recorder.lines.of(other)
    for line_id in line_ids:
        if line_id not in known or known[line_id].moved_to is not None:
            raise LineTaken(line_id, other.order_id)
    lines = [line for line_id, line in known.items() if line_id in line_ids]
    if faults := [
        f"line {line.line_id}: whether order {other.order_id} has it deducted is in doubt; confirm that, then process "
        "this form again"
        for line in lines
        if line.is_open or line.reserved
    ]:
        raise InvalidOrder(order.order_id, faults)
    recorder.record(
        other,
        [
            _moving(recorder, "refund", other, line, f"taken over by order {order.order_id}")
            for line in lines
            if line.left > 0
        ],
        recorder.context.clock(),
    )
    recorder.context.database.run(
        HAND_OVER, order_ref=other.id, order_id=order.order_id, line_ids=list(line_ids)
    )
    # Units that were returned before stay so: they hold the order up as little here as there.
    return [
        replace(
            line,
            deducted=line.left,
            refunded=0,
            waived=line.waived or (line.sku is not None and line.left < line.quantity),
            moves_stock=line.moves_stock or not line.left,
        )
        for line in lines
    ]


def _moving(recorder: Recorder, kind: str, order: OrderRow, line: Line, reason: str) -> Operation:
    key = stored_key(
        "deduct" if kind == "deduction" else "moved", order.token_id, order.order_id, line.line_id
    )
    return recorder.on_line(kind, order, line, line.left, key, moves_stock=False, reason=reason)


def is_later(form: CheckoutForm, other: OrderRow) -> bool:
    """Whether the form is the later of the two that carry a line; where a time is missing, the one that came later."""
    mine, theirs = form.updated_at, other.form_updated_at
    return mine is None or theirs is None or (mine, form.id) > (theirs, other.order_id)


def apply(
    recorder: Recorder,
    order: OrderRow,
    known: Mapping[str, Line],
    changed: Iterable[LineChange],
    warehouse: str,
) -> list[Operation]:
    """Write the lines as they become; answers with the operations to be recorded, refunds first."""
    lines: list[Line] = []
    operations: list[Operation] = []
    for change in changed:
        place = warehouse if change.sku else None
        before = known.get(change.line_id) or Line(change.line_id, None, place, 0)
        line = replace(
            before,
            sku=change.sku,
            warehouse=before.warehouse if before.warehouse and change.sku == before.sku else place,
            quantity=change.quantity,
            deducted=before.deducted + change.out,
        )
        lines.append(line)
        version = [str(order.state_version + 1)] if change.line_id in known else []
        operations += [
            recorder.on_line(
                kind,
                order,
                of,
                quantity,
                stored_key(purpose, order.token_id, order.order_id, change.line_id, *version),
            )
            for kind, of, quantity, purpose in (
                ("refund", before, change.back, "revise"),
                ("deduction", line, change.out, "deduct"),
            )
            if quantity
        ]
    recorder.lines.add(order, [line for line in lines if line.line_id not in known])
    if revised := [vars(line) for line in lines if line.line_id in known]:
        recorder.context.database.run(REVISE_LINES, items=revised, order_ref=order.id)
    return sorted(operations, key=lambda one: one.operation_type == "deduction")
