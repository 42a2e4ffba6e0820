"""What the remote should be told of an order, for every small order there can be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations_with_replacement

from stocksync.orders.recording import is_ready, order_state
from stocksync.store.order_lines import Line
from tests.shop import WAREHOUSE

POSTAGE = Line("post", None, None, 1)
DEDUCTED = Line("a", "A", WAREHOUSE, 2, deducted=2)
OPEN = Line("a", "A", WAREHOUSE, 2)
RETURNED = Line("a", "A", WAREHOUSE, 2, deducted=2, refunded=2)


def every_line() -> Iterator[Line]:
    yield POSTAGE
    for quantity in (1, 2):
        for deducted in range(quantity + 1):
            for refunded in range(deducted + 1):
                line = Line("a", "A", WAREHOUSE, quantity, deducted, refunded)
                yield from (line, replace(line, waived=True))
    yield from (
        replace(DEDUCTED, reserved=1),
        replace(OPEN, doubted=2),
        replace(OPEN, doubted=2, waived=True),
    )


def as_the_design_says(lines: Sequence[Line], ever_told_true: bool) -> bool | None:
    """Section 4 of the design, sentence by sentence."""
    # An order without stock lines has nothing to say.
    if not any(line.sku for line in lines):
        return None
    # While a stock line is not settled, or an operation is in doubt, the order is not ready.
    for line in lines:
        if line.sku and line.deducted != line.quantity and not line.waived:
            return None
        if line.reserved or line.doubted:
            return None
    # Ready: True when the net deducted quantity of its lines is above zero, ...
    units_kept = 0
    for line in lines:
        units_kept = units_kept + line.deducted - line.refunded
    if units_kept:
        return True
    # ... else False (and nothing is sent if the remote was never told True).
    return False if ever_told_true else None


def test_every_order_of_up_to_three_lines_is_told_as_the_design_says() -> None:
    for count in range(4):
        for lines in combinations_with_replacement(list(every_line()), count):
            for ever_told_true in (False, True):
                told = order_state(lines, ever_told_true=ever_told_true)
                assert told is as_the_design_says(lines, ever_told_true), (lines, ever_told_true)
                assert order_state(lines[::-1], ever_told_true=ever_told_true) is told, (
                    lines,
                    ever_told_true,
                )


def test_it_is_ready_when_nothing_holds_it_up_also_with_nothing_to_say() -> None:
    assert is_ready([RETURNED, POSTAGE])
    assert is_ready([])
    assert not is_ready([DEDUCTED, OPEN])
    assert not is_ready([DEDUCTED, replace(RETURNED, reserved=1)])
    assert not is_ready([DEDUCTED, replace(OPEN, doubted=2, waived=True)])
