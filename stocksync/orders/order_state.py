"""What the remote should be told of an order, computed from its lines (design, section 4)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LineState:
    """One order line as far as the order's state needs it. `stock` False: postage and the like."""

    stock: bool
    quantity: int
    deducted: int = 0
    refunded: int = 0
    waived: bool = False

    @property
    def settled(self) -> bool:
        """Deducted in full, or waived by a person: it no longer holds its order up."""
        return not self.stock or self.waived or self.deducted >= self.quantity

    @property
    def net(self) -> int:
        """Units deducted and not given back."""
        return self.deducted - self.refunded


def is_ready(lines: Iterable[LineState], *, in_doubt: bool = False) -> bool:
    """Whether nothing holds the order up: every stock line is settled and no operation is in doubt."""
    return not in_doubt and all(line.settled for line in lines)


def order_state(
    lines: Iterable[LineState], *, in_doubt: bool = False, told_true: bool = False
) -> bool | None:
    """True or False: what should be told. None: not ready, or nothing to say.

    Args:
        lines: all lines of the order.
        in_doubt: an operation of it awaits a person's word on whether it was deducted.
        told_true: the remote may have heard True from us before; False is only ever said after that.
    """
    stock_lines = [line for line in lines if line.stock]
    if not stock_lines or not is_ready(stock_lines, in_doubt=in_doubt):
        return None
    if sum(line.net for line in stock_lines) > 0:
        return True
    return False if told_true else None
