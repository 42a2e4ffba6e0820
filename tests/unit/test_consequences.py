"""What an answer costs its order, and how long a remote that asks for patience is left alone."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stocksync.delivery.answers import Answer, Verdict
from stocksync.delivery.consequences import (
    DEFAULT_SNOOZE,
    SHORT_WAIT,
    Consequence,
    consequence_of,
    snooze_seconds,
)
from stocksync.delivery.retry import RetryPolicy

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
EARLIER = NOW - timedelta(minutes=5)
POLICY = RetryPolicy()


def consequence(
    verdict: Verdict,
    *,
    attempts: int = 0,
    last_attempt_at: datetime | None = EARLIER,
    served_at: datetime | None = None,
) -> Consequence:
    return consequence_of(
        Answer(verdict, "X", "x"),
        attempts=attempts,
        last_attempt_at=last_attempt_at,
        served_at=served_at,
        policy=POLICY,
        now=NOW,
        rng=random.Random(1),
    )


def test_a_rejection_is_an_attempt_and_comes_back_after_its_delay() -> None:
    result = consequence(Verdict.REJECTED)

    assert (result.counted, result.waiting) == (True, "retry")
    assert result.next_at is not None
    assert 30 <= (result.next_at - NOW).total_seconds() <= 60


def test_the_fifth_rejection_gives_up() -> None:
    assert consequence(Verdict.REJECTED, attempts=4) == Consequence(True, None, "failed")


def test_a_refusal_for_good_gives_up_at_once() -> None:
    assert consequence(Verdict.INVALID) == Consequence(True, None, "failed")


@pytest.mark.parametrize("verdict", [Verdict.THROTTLED, Verdict.CREDENTIALS])
@pytest.mark.parametrize("attempts", [0, 4, 100])
def test_what_is_not_the_orders_fault_costs_it_nothing(verdict: Verdict, attempts: int) -> None:
    assert consequence(verdict, attempts=attempts) == Consequence(False, NOW + SHORT_WAIT, "snoozed")


@pytest.mark.parametrize("attempts", [0, 4, 100])
@pytest.mark.parametrize(
    ("last_attempt_at", "served_at"),
    [
        (None, None),
        (None, NOW),
        (EARLIER, None),
        (EARLIER, EARLIER),
        (EARLIER, EARLIER - timedelta(seconds=1)),
    ],
)
def test_no_answer_costs_nothing_while_nobody_else_was_served(
    last_attempt_at: datetime | None, served_at: datetime | None, attempts: int
) -> None:
    result = consequence(
        Verdict.UNCLEAR, attempts=attempts, last_attempt_at=last_attempt_at, served_at=served_at
    )
    assert result == Consequence(False, NOW + SHORT_WAIT, "outage")


def test_no_answer_is_an_attempt_when_others_were_served_since_the_last_try() -> None:
    result = consequence(Verdict.UNCLEAR, served_at=EARLIER + timedelta(seconds=1))
    assert (result.counted, result.waiting) == (True, "retry")


def test_an_order_that_alone_gets_no_answer_is_given_up_in_the_end() -> None:
    assert consequence(Verdict.UNCLEAR, attempts=4, served_at=NOW) == Consequence(True, None, "failed")


@given(st.sampled_from(list(Verdict)), st.integers(0, 50), st.booleans(), st.booleans())
def test_whatever_is_not_given_up_is_tried_again_later(
    verdict: Verdict, attempts: int, tried: bool, served: bool
) -> None:
    if verdict is Verdict.DELIVERED:
        return
    result = consequence(
        verdict,
        attempts=attempts,
        last_attempt_at=EARLIER if tried else None,
        served_at=NOW if served else None,
    )
    assert result.next_at is None or result.next_at > NOW
    assert (result.next_at is None) == (result.waiting == "failed")
    assert result.counted or result.next_at is not None


@pytest.mark.parametrize(("said", "seconds"), [("1", 1), ("120", 120), (" 7 ", 7), ("3600", 3600)])
def test_retry_after_in_seconds_is_taken_as_it_is(said: str, seconds: float) -> None:
    assert snooze_seconds(said, NOW) == seconds


def test_retry_after_as_a_date_is_the_time_until_then() -> None:
    assert snooze_seconds(format_datetime(NOW + timedelta(seconds=90), usegmt=True), NOW) == 90


@pytest.mark.parametrize("said", [None, "", "soon", "-5", "1.5", "٣", "Mon, 99 Foo 2026", "\x00"])
def test_what_can_not_be_read_counts_as_not_said(said: str | None) -> None:
    assert snooze_seconds(said, NOW) == DEFAULT_SNOOZE


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("0", 1),
        ("999999999999", 3600),
        ("9" * 100_000, 3600),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 1),
    ],
)
def test_absurd_values_are_bounded(said: str, seconds: float) -> None:
    assert snooze_seconds(said, NOW) == seconds


@given(st.text(max_size=40))
def test_whatever_is_said_the_lane_is_left_alone_for_a_second_to_an_hour(said: str) -> None:
    assert 1 <= snooze_seconds(said, NOW) <= 3600
