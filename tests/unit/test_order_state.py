"""What the remote should be told of an order, for every small order there can be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations_with_replacement, permutations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stocksync.orders.order_state import LineState, is_ready, order_state

POSTAGE = LineState(stock=False, quantity=1)
DEDUCTED = LineState(stock=True, quantity=2, deducted=2)
OPEN = LineState(stock=True, quantity=2)
RETURNED = LineState(stock=True, quantity=2, deducted=2, refunded=2)


def every_line() -> Iterator[LineState]:
    yield POSTAGE
    for quantity in (1, 2):
        for deducted in range(quantity + 1):
            for refunded in range(deducted + 1):
                yield LineState(True, quantity, deducted, refunded)
                yield LineState(True, quantity, deducted, refunded, waived=True)


def as_the_design_says(lines: Sequence[LineState], in_doubt: bool, told_true: bool) -> bool | None:
    """Section 4 of the design, sentence by sentence."""
    # An order without stock lines has nothing to say.
    if not any(line.stock for line in lines):
        return None
    # While a stock line is not settled, or an operation is in doubt, the order is not ready.
    for line in lines:
        if line.stock and line.deducted != line.quantity and not line.waived:
            return None
    if in_doubt:
        return None
    # Ready: True when the net deducted quantity of its lines is above zero, ...
    units_kept = 0
    for line in lines:
        units_kept = units_kept + line.deducted - line.refunded
    if units_kept:
        return True
    # ... else False (and nothing is sent if the remote was never told True).
    return False if told_true else None


def test_every_order_of_up_to_three_lines_is_told_as_the_design_says() -> None:
    for count in range(4):
        for lines in combinations_with_replacement(list(every_line()), count):
            for in_doubt, told_true in product((False, True), repeat=2):
                told = order_state(lines, in_doubt=in_doubt, told_true=told_true)
                assert told is as_the_design_says(lines, in_doubt, told_true), (lines, in_doubt, told_true)


@given(st.lists(st.sampled_from(list(every_line())), max_size=12), st.booleans(), st.booleans())
def test_a_long_order_is_told_by_the_same_rule(
    lines: list[LineState], in_doubt: bool, told_true: bool
) -> None:
    expected = as_the_design_says(lines, in_doubt, told_true)
    assert order_state(lines, in_doubt=in_doubt, told_true=told_true) is expected


@pytest.mark.parametrize("lines", [(DEDUCTED, OPEN, POSTAGE), (DEDUCTED, RETURNED, POSTAGE)])
def test_the_order_of_the_lines_does_not_matter(lines: tuple[LineState, ...]) -> None:
    assert len({order_state(turned) for turned in permutations(lines)}) == 1


def test_one_line_that_is_not_deducted_holds_the_whole_order_up() -> None:
    assert order_state([DEDUCTED, OPEN]) is None


def test_a_line_that_a_person_waived_no_longer_holds_it_up() -> None:
    assert order_state([DEDUCTED, LineState(True, 2, waived=True)]) is True


def test_an_operation_in_doubt_holds_it_up() -> None:
    assert order_state([DEDUCTED], in_doubt=True, told_true=True) is None


def test_one_unit_that_is_kept_is_enough_to_tell_true() -> None:
    assert order_state([RETURNED, LineState(True, 2, deducted=2, refunded=1)], told_true=True) is True


def test_an_order_given_back_in_full_is_told_false_only_to_who_heard_true() -> None:
    assert order_state([RETURNED], told_true=True) is False
    assert order_state([RETURNED], told_true=False) is None


def test_an_order_of_postage_alone_has_nothing_to_say() -> None:
    assert order_state([POSTAGE], told_true=True) is None


def test_postage_beside_stock_changes_nothing() -> None:
    assert order_state([DEDUCTED, POSTAGE]) is True


def test_it_is_ready_when_nothing_holds_it_up_also_with_nothing_to_say() -> None:
    assert is_ready([RETURNED, POSTAGE])
    assert is_ready([])
    assert not is_ready([DEDUCTED, OPEN])
    assert not is_ready([DEDUCTED], in_doubt=True)
