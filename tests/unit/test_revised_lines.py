"""What a form changes in an order, line by line, for every small change there can be."""

from __future__ import annotations

from itertools import product

import pytest

from stocksync.orders.checkout_form import FormLine, parse_form
from stocksync.orders.revisions import LineChange, changes
from stocksync.store.order_lines import Line
from tests.shop import WAREHOUSE


def known_line(sku: str | None, quantity: int, left: int) -> Line:
    """A stored line of which `left` units are out."""
    return Line("a", sku, sku and WAREHOUSE, quantity, deducted=left)


def lines(**given: tuple[str | None, int]) -> tuple[FormLine, ...]:
    return parse_form(
        {
            "id": "o",
            "token_id": "t",
            "status": "READY_FOR_PROCESSING",
            "lineItems": [
                {"id": line, "quantity": quantity, "offer": {"external": {"id": sku} if sku else None}}
                for line, (sku, quantity) in given.items()
            ],
        }
    ).line_items


@pytest.mark.parametrize(
    ("known", "form", "change"),
    [
        (None, ("A", 2), LineChange("a", "A", 2, out=2)),
        (None, (None, 1), LineChange("a", None, 1)),
        (known_line("A", 2, 0), ("A", 2), None),
        (known_line(None, 1, 0), (None, 1), None),
        (known_line(None, 0, 0), None, None),
        (known_line("A", 2, 2), ("A", 5), LineChange("a", "A", 5, out=3)),
        (known_line("A", 5, 5), ("A", 2), LineChange("a", "A", 2, back=3)),
        (known_line("A", 5, 1), ("A", 2), LineChange("a", "A", 2, back=1)),
        (known_line("A", 2, 1), ("B", 3), LineChange("a", "B", 3, back=1, out=3)),
        (known_line("A", 2, 1), (None, 2), LineChange("a", "A", 0, back=1)),
        (known_line(None, 2, 0), ("A", 3), LineChange("a", "A", 3, out=3)),
        (known_line("A", 0, 0), ("A", 3), LineChange("a", "A", 3, out=3)),
        (known_line("A", 2, 1), None, LineChange("a", "A", 0, back=1)),
        (known_line("A", 0, 0), None, None),
    ],
)
def test_a_changed_line(
    known: Line | None, form: tuple[str | None, int] | None, change: LineChange | None
) -> None:
    given = lines() if form is None else lines(a=form)

    assert list(changes(given, {"a": known} if known else {})) == ([] if change is None else [change])


def test_what_is_deducted_never_exceeds_what_is_ordered() -> None:
    for ordered, left, wanted in product(range(5), range(5), range(1, 6)):
        if left <= ordered:
            for change in changes(lines(a=("A", wanted)), {"a": known_line("A", ordered, left)}):
                assert 0 <= left - change.back + change.out <= change.quantity == wanted
