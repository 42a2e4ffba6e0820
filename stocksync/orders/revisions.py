"""What a form changes in an order, line by line, against what is known of it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from stocksync.orders.checkout_form import FormLine


class KnownLine(Protocol):
    """A stored line. `left`: units deducted that can still come back."""

    @property
    def sku(self) -> str | None: ...
    @property
    def quantity(self) -> int: ...
    @property
    def left(self) -> int: ...


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


def changes(form_lines: Sequence[FormLine], known: Mapping[str, KnownLine]) -> Iterator[LineChange]:
    """Every line that differs: those of the form in its order, then those that it no longer has."""
    for line in form_lines:
        before = known.get(line.id)
        if before is None:
            yield LineChange(line.id, line.sku, line.quantity, out=line.quantity if line.sku else 0)
        elif line.sku is None and before.sku is not None:
            yield from _dropped(line.id, before)
        elif line.sku != before.sku:
            yield LineChange(line.id, line.sku, line.quantity, before.left, line.quantity)
        elif line.quantity != before.quantity:
            more = line.quantity - before.quantity if line.sku else 0
            back = min(max(-more, 0), before.left)
            yield LineChange(line.id, line.sku, line.quantity, back, out=max(more, 0))
    in_form = {line.id for line in form_lines}
    for line_id, before in known.items():
        if line_id not in in_form:
            yield from _dropped(line_id, before)


def _dropped(line_id: str, before: KnownLine) -> Iterator[LineChange]:
    # It keeps its SKU: what was deducted and given back stays told.
    if before.quantity or before.left:
        yield LineChange(line_id, before.sku, 0, back=before.left)


def withdrawal(form_lines: Sequence[FormLine], known: Mapping[str, KnownLine]) -> Iterator[LineChange]:
    """What a cancelled order becomes: all that is out comes back, and no more is ordered than was returned before.

    So a form that takes the cancellation back finds what is to go out again. Lines that the cancelled form names first
    are noted: they are this order's.
    """
    for line_id, before in known.items():
        if before.left or before.sku is None:
            returned = before.quantity - before.left if before.sku else 0
            yield LineChange(line_id, before.sku, returned, back=before.left)
    for line in form_lines:
        if line.id not in known:
            yield LineChange(line.id, line.sku, 0)
