"""What an answer of the remote means: each row of the design's table, and each way to lie."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stocksync.delivery.answers import Verdict, understand

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
