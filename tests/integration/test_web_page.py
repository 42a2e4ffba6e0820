"""The operator's page: what it shows, what its buttons do, and whom it lets in."""

from __future__ import annotations

import re
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.shop import REFUSED, SELLER, Shop

UNKNOWN = "01a20a68-a1b1-7459-a326-d85c4cd3d65e"
HOSTILE = "<script>alert('x')</script>\"'&{{7*7}}\u202egpj.exe"

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
on_postgres = pytest.mark.parametrize("database_url", ["postgres"], indirect=True)


def give_up(shop: Shop) -> Any:
    """The id of an operation whose every attempt was refused."""
    operation = shop.deduct("given-up")
    shop.remote.answer = lambda _: REFUSED
    for _ in range(5):
        shop.drain()
        shop.clock.advance(3600)
    assert shop.operation(operation)["status"] == "failed"
    return operation


@pytest.fixture
def failed(shop: Shop) -> Any:
    """The id of an operation that was given up."""
    return give_up(shop)


@pytest.fixture
def completed(shop: Shop) -> Any:
    """The id of an operation that was delivered."""
    operation = shop.deduct("delivered")
    shop.drain()
    assert shop.operation(operation)["status"] == "completed"
    return operation


def press(page: FlaskClient, path: str, /, **fields: str) -> TestResponse:
    """Send a form as the page itself would."""
    token = re.search(r'name="csrf" value="([^"]+)"', page.get("/").text)
    assert token, "the page shows no form"
    return page.post(path, data={"csrf": token[1], **fields})


def shown(response: TestResponse) -> str:
    """The words of a page, without its tags."""
    assert "Traceback" not in response.text
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", response.text))


# What it shows


def test_the_overview_counts_operations_and_says_that_all_is_well(
    page: FlaskClient, shop: Shop, completed: Any
) -> None:
    shop.deduct("waiting", sku="SKU-7", quantity=3)

    answer = page.get("/")

    assert answer.status_code == 200
    assert "All is well: nothing is overdue by more than a minute." in shown(answer)
    assert "1 waiting 0 being sent 1 delivered 0 not delivered 0 cancelled" in shown(answer)


def test_an_operation_that_was_given_up_is_said_at_the_top_and_leads_to_what_the_remote_said(
    page: FlaskClient, failed: Any
) -> None:
    answer = page.get("/")

    assert "1 operation was not delivered and waits for a person." in shown(answer)
    assert "not delivered 5/5 refused not today" in shown(page.get("/operations?status=failed"))
    assert 'href="/operations?status=failed"' in answer.text


def test_an_order_is_found_by_its_id(page: FlaskClient, shop: Shop) -> None:
    shop.deduct("one")
    shop.deduct("two", sku="B")

    answer = shown(page.get("/operations?q=two"))

    assert "two seller-1 Deduction 1 × B" in answer
    assert "one seller-1" not in answer


def test_a_status_that_does_not_exist_is_said_to_be_wrong(page: FlaskClient) -> None:
    answer = page.get("/operations?status=lost")

    assert answer.status_code == 400
    assert "status: one of pending, processing, completed, failed, cancelled is needed" in shown(answer)


def test_more_operations_than_a_page_holds_are_turned_over(page: FlaskClient, shop: Shop) -> None:
    for number in range(51):
        shop.deduct(f"order-{number}")

    first, second = page.get("/operations"), page.get("/operations?page=2")

    assert "51 operations" in shown(first)
    assert "page 1 of 2" in shown(first)
    assert first.text.count('<tr id="row-') == 50
    assert "<bdi>order-0<" in second.text
    assert second.text.count('<tr id="row-') == 1


@on_sqlite
def test_an_address_that_somebody_made_up_is_no_error(page: FlaskClient, completed: Any) -> None:
    for number in ("0", "-1", "two", "99999999999999999999"):
        assert page.get(f"/operations?page={number}").status_code in (200, 302)
    for path in ("/?endpoint=x", f"/operations/{completed}?operation_id=x", "/lanes?_scheme=javascript"):
        answer = page.get(path)
        assert answer.status_code == 200
        assert "javascript:" not in answer.text


def test_an_operation_is_shown_with_its_story(page: FlaskClient, failed: Any) -> None:
    answer = page.get(f"/operations/{failed}")

    assert answer.status_code == 200
    for words in (
        "Deduction: 1 × A",
        "Seller seller-1",
        "Attempts 5 of 5",
        "The orders service refused — refused not today To be tried again next try",
        "Given up: a person has to look",
    ):
        assert words in shown(answer)


@on_postgres
def test_a_search_that_no_order_can_match_finds_nothing(page: FlaskClient) -> None:
    assert page.get("/operations?q=a%00b").status_code in (200, 400)


def test_a_link_can_not_make_the_page_report_what_never_happened(page: FlaskClient) -> None:
    assert 'class="toast good"' not in page.get("/?done=retried").text


# Its buttons


def test_retry_puts_an_operation_that_was_given_up_back_to_pending(
    page: FlaskClient, shop: Shop, failed: Any
) -> None:
    shop.wakeups.woken.clear()

    answer = press(page, f"/operations/{failed}/retry")
    row = shop.operation(failed)

    assert answer.status_code == 303
    assert "It will be sent again at once." in shown(page.get(answer.location))
    assert (row["status"], row["retry_count"], row["next_retry_at"]) == ("pending", 0, shop.clock.now)
    assert row["log"][-1]["details"]["actor"] == "not logged in"
    assert shop.wakeups.woken == [SELLER]


def test_cancel_stops_an_operation_and_keeps_the_reason(page: FlaskClient, shop: Shop, failed: Any) -> None:
    answer = press(page, f"/operations/{failed}/cancel", reason="told by phone")

    assert answer.status_code == 303
    assert "Cancelled; the stock stays as it is." in shown(page.get(answer.location))
    assert "Reason told by phone ( an operator at the page, not logged in )" in shown(
        page.get(f"/operations/{failed}")
    )
    assert shop.operation(failed)["status"] == "cancelled"


@on_sqlite
def test_cancel_needs_a_reason_of_a_sensible_length(page: FlaskClient, shop: Shop, failed: Any) -> None:
    for reason in ({}, {"reason": ""}, {"reason": "  "}, {"reason": "x" * 201}):
        answer = press(page, f"/operations/{failed}/cancel", **reason)
        assert answer.status_code == 400
        assert "Please give a reason" in shown(answer)

    assert shop.operation(failed)["status"] == "failed"


@pytest.mark.parametrize("action", ["cancel", "retry"])
def test_what_is_delivered_can_be_neither_cancelled_nor_retried(
    page: FlaskClient, shop: Shop, completed: Any, action: str
) -> None:
    answer = press(page, f"/operations/{completed}/{action}", reason="too late")

    assert answer.status_code == 400
    assert "It is already “delivered”: nothing was changed." in shown(answer)
    assert shop.operation(completed)["status"] == "completed"


def test_an_operation_has_only_the_buttons_that_work(page: FlaskClient, completed: Any) -> None:
    assert 'action="/operations/' not in page.get(f"/operations/{completed}").text


def test_an_unknown_operation_is_not_found(page: FlaskClient, shop: Shop) -> None:
    shop.deduct()

    for unknown in (UNKNOWN, "nope", "%00", HOSTILE.replace("/", "")):
        for answer in (
            page.get(f"/operations/{unknown}"),
            press(page, f"/operations/{unknown}/retry"),
            press(page, f"/operations/{unknown}/cancel", reason="late"),
        ):
            assert answer.status_code == 404
            assert "There is no such operation." in shown(answer)
            assert "alert('x')" not in answer.text


@on_sqlite
def test_after_a_button_the_page_is_the_one_before_and_no_other_site(page: FlaskClient, failed: Any) -> None:
    before = "/operations?status=failed&q=given-up&page=1"
    for back, where in (
        (before, before),
        ("https://elsewhere.example/", "/"),
        ("//elsewhere.example/", "/"),
        ("/\\elsewhere.example", "/"),
        ("/\t/elsewhere.example", "/"),
        ("/a\r\nSet-Cookie: x=y", "/"),
    ):
        assert press(page, f"/operations/{failed}/retry", back=back).location == where
