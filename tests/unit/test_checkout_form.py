"""Reading a checkout form: what is wrong with it is said field by field, all of it at once."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace as Thing
from typing import Any

import pytest
from hypothesis import given, strategies as st

from stocksync.errors import InvalidInput, InvalidOrder
from stocksync.orders.checkout_form import CheckoutForm, form_of as form_of_object, is_newer, parse_form
from stocksync.store.values import check_quantity, check_word

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def form_of(**changes: Any) -> dict[str, Any]:
    """A good form; a change to None takes the field away."""
    document = {
        "id": "order-1",
        "token_id": "seller-1",
        "status": "READY_FOR_PROCESSING",
        "lineItems": [line_of()],
        "revision": "r1",
        "updatedAt": "2026-03-01T12:00:00Z",
    } | changes
    return {name: value for name, value in document.items() if value is not None}


def line_of(**changes: Any) -> dict[str, Any]:
    line = {"id": "line-1", "quantity": 2, "offer": {"id": "1", "external": {"id": "A"}}} | changes
    return {name: value for name, value in line.items() if value is not None}


def faults_of(document: Any) -> list[str]:
    with pytest.raises(InvalidOrder) as refused:
        parse_form(document)
    return list(refused.value.faults)


def test_a_good_form_is_read_as_it_stands() -> None:
    form = parse_form(form_of())

    assert (form.id, form.token_id, form.status, form.revision) == (
        "order-1",
        "seller-1",
        "READY_FOR_PROCESSING",
        "r1",
    )
    assert form.updated_at == NOON
    assert [(line.id, line.sku, line.quantity) for line in form.line_items] == [("line-1", "A", 2)]


def test_fields_that_allegro_adds_are_no_fault() -> None:
    assert parse_form(form_of(buyer={"login": "x"}, lineItems=[line_of(price={"amount": "1"})]))


@pytest.mark.parametrize(
    "offer", [{"id": "1"}, {"id": "1", "external": None}, {"external": {}}, {"external": {"id": None}}]
)
def test_a_line_without_external_id_is_not_stock(offer: dict[str, Any]) -> None:
    assert parse_form(form_of(lineItems=[line_of(offer=offer)])).line_items[0].sku is None


def test_the_account_may_be_named_beside_the_form() -> None:
    assert parse_form(form_of(token_id=None), "seller-2").token_id == "seller-2"


def test_the_account_in_the_form_wins() -> None:
    assert parse_form(form_of(token_id="seller-1"), "seller-2").token_id == "seller-1"


@pytest.mark.parametrize(
    ("quantity", "shown"),
    [
        (10**12, "1000000000000"),
        (-1, "-1"),
        (0, "0"),
        ("2", "'2'"),
        (True, "True"),
        (2.0, "2.0"),
        (2.5, "2.5"),
        (float("nan"), "nan"),
        ([2], "[2]"),
    ],
)
def test_a_quantity_that_is_none_is_named_with_what_was_given(quantity: object, shown: str) -> None:
    (fault,) = faults_of(form_of(lineItems=[line_of(quantity=quantity)]))

    assert fault.startswith("lineItems.0.quantity: ")
    assert fault.endswith(f"got {shown}")


@pytest.mark.parametrize(
    ("sku", "said"),
    [
        ("A\x00B", "NUL"),
        ("x" * 300, "at most 200"),
        (7, "valid string"),
        ("\ud800", "unicode"),
    ],
)
def test_a_sku_that_can_not_be_kept_is_named_with_the_reason(sku: object, said: str) -> None:
    (fault,) = faults_of(form_of(lineItems=[line_of(offer={"external": {"id": sku}})]))

    assert fault.startswith("lineItems.0.offer.external.id: ")
    assert said in fault


@pytest.mark.parametrize("external", [None, {}, {"id": None}, {"id": ""}, {"id": " \t"}])
def test_a_line_without_an_external_id_or_with_an_empty_one_is_not_stock(external: object) -> None:
    (line,) = parse_form(form_of(lineItems=[line_of(offer={"external": external})])).line_items

    assert line.sku is None


@pytest.mark.parametrize(
    ("status", "fulfillment", "standing"),
    [
        ("READY_FOR_PROCESSING", {"status": "CANCELLED"}, "SELLER_CANCELLED"),
        ("READY_FOR_PROCESSING", {"status": "NEW"}, "READY_FOR_PROCESSING"),
        ("READY_FOR_PROCESSING", {"status": None}, "READY_FOR_PROCESSING"),
        ("READY_FOR_PROCESSING", None, "READY_FOR_PROCESSING"),
        ("CANCELLED", {"status": "CANCELLED"}, "CANCELLED"),
        ("BOUGHT", {"status": "CANCELLED"}, "BOUGHT"),
    ],
)
def test_the_sellers_cancellation_counts_where_allegro_says_ready(
    status: str, fulfillment: object, standing: str
) -> None:
    assert parse_form(form_of(status=status, fulfillment=fulfillment)).standing == standing


@pytest.mark.parametrize("moment", ["yesterday", "2026-03-01T12:00:00", [], {}])
def test_a_time_without_its_zone_or_that_is_none_is_named(moment: object) -> None:
    (fault,) = faults_of(form_of(updatedAt=moment))

    assert fault.startswith("updatedAt: ")


def test_a_line_id_that_appears_twice_is_named() -> None:
    assert faults_of(form_of(lineItems=[line_of(), line_of(quantity=1)])) == [
        "lineItems: id line-1 appears more than once"
    ]


def test_more_lines_than_any_order_has_are_refused() -> None:
    (fault,) = faults_of(form_of(lineItems=[line_of(id=str(number)) for number in range(5001)]))

    assert "5000" in fault


def test_every_fault_is_named_at_once_with_the_order_that_has_them() -> None:
    lines = [line_of(quantity=-1), line_of(id="line-2", offer={"external": {"id": "x" * 300}})]
    with pytest.raises(InvalidOrder) as refused:
        parse_form(form_of(token_id=None, status="", lineItems=lines))

    assert [fault.split(":")[0] for fault in refused.value.faults] == [
        "token_id",
        "status",
        "lineItems.0.quantity",
        "lineItems.1.offer.external.id",
    ]
    assert refused.value.order_id == "order-1"
    assert all(fault in str(refused.value) for fault in refused.value.faults)


def test_a_fault_quotes_only_the_beginning_of_a_very_long_value() -> None:
    (fault,) = faults_of(form_of(id="x" * 100_000))

    assert len(fault) < 200


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(form_of(), JSON)) | JSON)
def test_no_json_at_all_raises_anything_but_an_invalid_order(document: object) -> None:
    with suppress(InvalidOrder):
        parse_form(document)


def taken(**changes: Any) -> CheckoutForm:
    return parse_form(form_of(**changes))


def test_another_revision_from_a_later_time_is_newer() -> None:
    assert is_newer(taken(), "r0", NOON - timedelta(seconds=1))
    assert is_newer(taken(), None, None)
    assert not is_newer(taken(), "r0", NOON + timedelta(milliseconds=1))
    assert not is_newer(taken(updatedAt="2027-01-01T00:00:00Z"), "r1", NOON)


def test_another_revision_of_the_same_moment_changes_nothing() -> None:
    # Taken, two such forms that come again and again would undo each other each time.
    assert not is_newer(taken(), "r0", NOON)


def test_times_are_compared_across_zones() -> None:
    assert not is_newer(taken(updatedAt="2026-03-01T12:30:00+01:00"), "r0", NOON)
    assert is_newer(taken(updatedAt="2026-03-01T11:30:00-01:00"), "r0", NOON)


@pytest.mark.parametrize("known", [None, "r0", "r1"])
def test_a_form_without_revision_and_time_is_always_looked_at(known: str | None) -> None:
    assert is_newer(taken(revision=None, updatedAt=None), known, NOON)


def test_a_word_is_kept_without_the_blanks_around_it() -> None:
    assert check_word("sku", "  A 1 ") == "A 1"


def test_a_quantity_is_taken_up_to_its_bounds() -> None:
    assert [check_quantity("quantity", quantity) for quantity in (1, 1_000_000_000)] == [1, 1_000_000_000]
    with pytest.raises(InvalidInput, match=r"^quantity: must be between 1 and 1000000000"):
        check_quantity("quantity", 1_000_000_001)


# Objects shaped like the plan's AllegroOrder


def item(line: Any = "1", sku: Any = "A", **more: Any) -> Thing:
    return Thing(line_item=Thing(id=line, external_id=sku), **more)


def test_items_of_one_line_are_added_up_each_a_unit_unless_it_says_more() -> None:
    order = Thing(id=7, token_id=9, order_items=[item(), item("2", None), item(), item("3", "B", quantity=4)])
    form = form_of_object(order)

    assert (form.id, form.token_id, form.status) == ("7", "9", "READY_FOR_PROCESSING")
    assert [(line.id, line.sku, line.quantity) for line in form.line_items] == [
        ("1", "A", 2), ("2", None, 1), ("3", "B", 4)
    ]  # fmt: skip


@pytest.mark.parametrize("status", ["BOUGHT", "FILLED_IN"])
def test_an_object_that_is_not_paid_is_no_sale_yet(status: str) -> None:
    assert form_of_object(Thing(id="o", token_id="t", order_items=[item()], status=status)).status == status


def test_an_object_keeps_its_revision_time_and_cancellation() -> None:
    naive = datetime(2026, 3, 1, 12, 0)  # noqa: DTZ001
    form = form_of_object(
        Thing(id="o", order_items=[], revision="r1", updated_at=naive, status=Thing(value="CANCELLED")),
        "seller",
    )

    assert (form.token_id, form.revision, form.updated_at, form.status) == ("seller", "r1", NOON, "CANCELLED")


@pytest.mark.parametrize(
    ("items", "fault"),
    [
        ([item(quantity=0)], "order_items.0.quantity: must be between 1"),
        ([item(), item(quantity="2")], "order_items.1.quantity: a whole number"),
        ([item(None)], "order_items.0.line_item.id: a non-empty text"),
        ([Thing()], "order_items.0.line_item.id"),
        ([item(), item(sku="B")], "order_items.1: line 1 has another external_id"),
    ],
)
def test_an_item_that_can_not_be_taken_is_named(items: list[Thing], fault: str) -> None:
    with pytest.raises(InvalidOrder, match=fault):
        form_of_object(Thing(id="o", token_id="t", order_items=items))
