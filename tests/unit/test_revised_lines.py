"""What a form changes in an order, line by line, for every small change there can be."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import pytest

from stocksync.orders.checkout_form import FormLine, parse_form
from stocksync.orders.revisions import LineChange, changes


@dataclass
class Known:
    """A stored line."""

    sku: str | None
    quantity: int
    left: int


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


def test_every_line_of_a_first_form_is_new_and_goes_out_unless_it_is_not_stock() -> None:
    assert list(changes(lines(a=("A", 2), post=(None, 1)), {})) == [
        LineChange("a", "A", 2, out=2),
        LineChange("post", None, 1),
    ]


def test_a_line_that_stays_as_it_is_changes_nothing() -> None:
    known = {"a": Known("A", 2, 0), "post": Known(None, 1, 0)}

    assert list(changes(lines(a=("A", 2), post=(None, 1)), known)) == []
    assert list(changes(lines(a=("A", 2)), known | {"post": Known(None, 0, 0)})) == []


@pytest.mark.parametrize(
    ("known", "form", "change"),
    [
        (Known("A", 2, 2), ("A", 5), LineChange("a", "A", 5, out=3)),
        (Known("A", 5, 5), ("A", 2), LineChange("a", "A", 2, back=3)),
        (Known("A", 5, 1), ("A", 2), LineChange("a", "A", 2, back=1)),
        (Known("A", 2, 1), ("B", 3), LineChange("a", "B", 3, back=1, out=3)),
        (Known("A", 2, 1), (None, 2), LineChange("a", "A", 0, back=1)),
        (Known(None, 2, 0), ("A", 3), LineChange("a", "A", 3, out=3)),
        (Known("A", 0, 0), ("A", 3), LineChange("a", "A", 3, out=3)),
        (Known("A", 2, 1), None, LineChange("a", "A", 0, back=1)),
        (Known("A", 0, 0), None, None),
    ],
)
def test_a_changed_line(known: Known, form: tuple[str | None, int] | None, change: LineChange | None) -> None:
    given = lines() if form is None else lines(a=form)

    assert list(changes(given, {"a": known})) == ([] if change is None else [change])


def test_what_is_deducted_never_exceeds_what_is_ordered() -> None:
    for ordered, left, wanted in product(range(5), range(5), range(1, 6)):
        if left <= ordered:
            for change in changes(lines(a=("A", wanted)), {"a": Known("A", ordered, left)}):
                assert 0 <= left - change.back + change.out <= change.quantity == wanted
