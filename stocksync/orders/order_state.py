"""What the remote should be told of an order, computed from its lines (design, section 4). Pure."""

from collections.abc import Iterable

from stocksync.store.order_lines import Line


def is_ready(lines: Iterable[Line]) -> bool:
    """Whether nothing holds the order up: every stock line is deducted or waived, and no operation is in doubt."""
    return not any(line.is_open or line.reserved or line.doubted for line in lines)


def order_state(lines: Iterable[Line], *, told_true: bool = False) -> bool | None:
    """True or False: what should be told. None: not ready, or nothing to say.

    Args:
        lines: all lines of the order.
        told_true: the remote may have heard True from us before; False is only ever said after that.
    """
    stock_lines = [line for line in lines if line.sku is not None]
    if not stock_lines or not is_ready(stock_lines):
        return None
    if sum(line.deducted - line.refunded for line in stock_lines) > 0:
        return True
    return False if told_true else None
