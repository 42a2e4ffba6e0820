"""Many operations at once on the page: chosen or all that match, previewed, and what was skipped is said."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from stocksync.store.operation_lists import Filter
from stocksync.web import create_app
from tests.integration.test_operator_pages import press
from tests.page_shop import fill
from tests.shop import Shop


@pytest.fixture
def operations(shop: Shop) -> dict[str, Any]:
    """An operation's id for each state."""
    return dict(fill(shop))


@pytest.fixture
def page(shop: Shop) -> FlaskClient:
    client = create_app(shop.runtime).test_client()
    client.environ_base["HTTP_ACCEPT_LANGUAGE"] = "en"
    return client


def test_the_chosen_are_retried_and_what_was_skipped_is_said(
    page: FlaskClient, shop: Shop, operations: dict[str, Any]
) -> None:
    chosen = [str(operations[name]) for name in ("failed", "completed", "cancelled", "doubt")]

    said = press(page, "/operations/bulk/retry", id=[*chosen, "nonsense"])

    assert said.startswith("good: 1 operation goes out again. Skipped: 3 (")
    assert "delivered: 1" in said
    assert "cancelled: 1" in said
    assert "in doubt: 1" in said
    assert shop.operation(operations["failed"])["status"] == "pending"


def test_the_chosen_are_cancelled_for_a_reason_and_put_back(
    page: FlaskClient, shop: Shop, operations: dict[str, Any]
) -> None:
    before = shop.on_hand("FILTR-04")
    fields = {"id": [str(operations["failed"])], "stock": "put_back"}

    assert press(page, "/operations/bulk/cancel", **fields, reason=" ").startswith(
        "bad: Please give a reason"
    )
    assert (
        press(page, "/operations/bulk/cancel", **fields, reason="sold out") == "good: 1 operation cancelled."
    )

    assert shop.on_hand("FILTR-04") == before + 2
    assert shop.operation(operations["failed"])["reason"] == "sold out"


def test_all_that_match_are_previewed_and_then_retried(
    page: FlaskClient, shop: Shop, operations: dict[str, Any]
) -> None:
    address = "/operations/all/retry?status=failed&q=FILTR-04"
    matching = page.get(address)

    assert "3 operations will be sent again." in matching.text
    assert press(page, address) == "good: 3 operations go out again."
    assert "None of these can be sent again" in page.get(address).text
    assert page.get("/operations/all/burn").status_code == 404


def test_only_what_can_be_cancelled_is_cancelled_of_all(
    page: FlaskClient, shop: Shop, operations: dict[str, Any]
) -> None:
    said = press(page, "/operations/all/cancel?q=KAWA-1KG", reason="the shop closes")

    assert said.startswith("good: ")
    assert "in doubt: 1" in said
    assert (
        not shop.runtime.operation_lists.count(Filter(status="pending", sku="KAWA-1KG"))[0] - 1
    )  # the one in doubt
