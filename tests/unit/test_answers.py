"""What an answer of the remote means: each row of the design's table, and each way to lie."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from stocksync.delivery.answers import Verdict, order_of, page_of, understand
from stocksync.errors import RemoteError

YES = {"success": True, "error": None}
NO = {"success": False, "error": "no such order"}

# Words that are not the contract's, under whatever status they come.
LIES: list[Any] = [
    None,  # the body was not JSON
    {},
    {"error": "no success in it"},
    {"success": None},
    {"success": "true"},
    {"success": "false"},
    {"success": 1},
    {"Success": True},
    [{"success": True}],
    [],
    "success",
    True,
    0,
]


@pytest.mark.parametrize("status", [200, 202, 404, 408, 409, 425])
def test_a_no_in_the_contracts_words_is_this_orders_failure(status: int) -> None:
    answer = understand(status, NO)

    assert answer.verdict is Verdict.REJECTED
    assert answer.error == "no such order"


@pytest.mark.parametrize("status", [400, 410, 422])
def test_an_order_that_is_wrong_for_good_is_invalid_and_keeps_the_remotes_words(status: int) -> None:
    answer = understand(status, NO)

    assert answer.verdict is Verdict.INVALID
    assert answer.error == "no such order"


@pytest.mark.parametrize("document", [NO, None, {"detail": "slow down"}])
@pytest.mark.parametrize(
    ("status", "wait"), [(429, None), (429, "7"), (503, "Wed, 21 Oct 2026 07:28:00 GMT")]
)
def test_a_remote_that_asks_to_come_later_is_nobodys_failure(
    status: int, wait: str | None, document: Any
) -> None:
    answer = understand(status, document, wait)

    assert answer.verdict is Verdict.THROTTLED
    assert answer.retry_after == wait


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_login_is_our_credentials_whatever_the_body_says(status: int) -> None:
    assert verdicts(status, YES, NO, *LIES) == {Verdict.CREDENTIALS}


@pytest.mark.parametrize("status", [500, 503, 599])
def test_a_server_error_can_not_tell_who_failed(status: int) -> None:
    assert verdicts(status, YES, NO, *LIES) == {Verdict.UNCLEAR}


@pytest.mark.parametrize("status", [200, 204, 302, 400, 404, 408, 409, 410, 422, 425])
def test_words_that_are_not_the_contracts_prove_nothing(status: int) -> None:
    assert verdicts(status, *LIES) == {Verdict.UNCLEAR}


def test_a_redirect_is_not_the_contract() -> None:
    assert verdicts(307, YES, NO) == {Verdict.UNCLEAR}


def verdicts(status: int, *documents: Any) -> set[Verdict]:
    return {understand(status, document).verdict for document in documents}


@given(
    st.integers(100, 599),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("success"), inner),
        max_leaves=5,
    ),
    st.none() | st.text(),
)
def test_only_a_2xx_with_a_true_success_ever_counts_as_delivered(
    status: int, document: Any, wait: str | None
) -> None:
    told_so = isinstance(document, dict) and document.get("success") is True

    assert understand(status, document, wait).success is (200 <= status < 300 and told_so)


@pytest.mark.parametrize("status", [302, 400, 401, 404, 429, 500])
def test_every_failure_says_why_and_has_a_word_to_count_it_by(status: int) -> None:
    answer = understand(status, None)

    assert answer.error
    assert str(status) in answer.error
    assert answer.error_class
    assert answer.status == status


def test_a_remote_that_says_very_much_is_quoted_in_part() -> None:
    assert understand(200, {"success": False, "error": "x" * 10_000}).error == "x" * 300


@pytest.mark.parametrize("said", [{"code": 7}, ["a"], 7])
def test_an_error_that_is_no_text_is_shown_as_one(said: Any) -> None:
    assert understand(200, {"success": False, "error": said}).error == str(said)


@pytest.mark.parametrize("said", ["out of\x00stock", "out of \ud800"])
def test_what_is_kept_of_the_remotes_words_can_be_stored(said: str) -> None:
    error = understand(200, {"success": False, "error": said}).error

    assert error is not None
    assert "\x00" not in error
    assert error.encode()


@pytest.mark.parametrize(("status", "delivered"), [(199, False), (200, True), (299, True), (300, False)])
def test_success_begins_at_200_and_ends_before_300(status: int, delivered: bool) -> None:
    assert understand(status, YES).success is delivered


@pytest.mark.parametrize(
    ("status", "word"), [(302, "NotTheContract"), (499, "NotTheContract"), (500, "Http500"), (501, "Http501")]
)
def test_a_strange_answer_is_counted_as_such_and_a_server_error_by_its_status(status: int, word: str) -> None:
    assert understand(status, None).error_class == word


ROWS = [{"id": "a", "is_stock_updated": True}, {"id": "b" * 255, "is_stock_updated": False}]


def test_a_page_of_the_remotes_list_is_read_to_its_last_order() -> None:
    page = page_of(ROWS, "c" * 4096, None, limit=2)

    assert [(order.id[0], order.is_stock_updated) for order in page.orders] == [("a", True), ("b", False)]
    assert page.next_cursor == "c" * 4096
    assert page_of([], None, "c", limit=2).orders == []


@pytest.mark.parametrize(
    ("rows", "following", "cursor"),
    [
        (None, None, None),
        ("ab", None, None),
        ({}, None, None),
        (["a"], None, None),
        (ROWS * 2, None, None),
        (ROWS, "", None),
        (ROWS, 7, None),
        (ROWS, "c" * 4097, None),
        (ROWS, "\x00", None),
        (ROWS, "same", "same"),
        ([], "more", None),
    ],
)
def test_a_list_that_is_not_the_contracts_is_refused(rows: Any, following: Any, cursor: str | None) -> None:
    with pytest.raises(RemoteError):
        page_of(rows, following, cursor, limit=2)


@pytest.mark.parametrize(
    ("order_id", "flag", "asked"),
    [
        ("", True, None),
        (7, True, None),
        ("a" * 256, True, None),
        ("\ud800", True, None),
        ("a", None, None),
        ("a", 1, None),
        ("a", True, "b"),
    ],
)
def test_an_order_that_is_not_the_contracts_is_refused(order_id: Any, flag: Any, asked: str | None) -> None:
    assert order_of("a", True, "a").is_stock_updated is True
    with pytest.raises(RemoteError):
        order_of(order_id, flag, asked)
