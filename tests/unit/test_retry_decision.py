"""What an answer costs its order, when the order is tried again, and how long a lane is left alone."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given, strategies as st

from stocksync.config import StockSyncConfig
from stocksync.delivery.answers import (
    DEFAULT_SNOOZE,
    SHORT_WAIT,
    Answer,
    Verdict,
    decide_retry,
    retry_delay,
    snooze_seconds,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
EARLIER = NOW - timedelta(minutes=5)
GIVEN_UP = (True, None, "failed")
MICROSECOND = timedelta(microseconds=1)  # a timedelta holds no less

failures = st.integers(1, 1000)


def settings(**retry: Any) -> StockSyncConfig:
    """The plan's settings, but for `retry`."""
    return StockSyncConfig.model_construct(**{f"retry_{name}": value for name, value in retry.items()})


@st.composite
def allowed_settings(draw: st.DrawFn) -> StockSyncConfig:
    initial = draw(st.floats(0, 86_400))
    return settings(
        initial_delay=initial,
        max_delay=draw(st.floats(initial, 604_800)),
        exponential_base=draw(st.floats(1, 100)),
        jitter=draw(st.booleans()),
    )


def longest_delay(config: StockSyncConfig, failures: int) -> timedelta:
    """The delay without jitter."""
    return retry_delay(config.model_copy(update={"retry_jitter": False}), failures, random.Random())


def decision(
    verdict: Verdict,
    *,
    attempts: int = 0,
    last_attempt_at: datetime | None = EARLIER,
    served_at: datetime | None = None,
) -> tuple[bool, datetime | None, str]:
    return decide_retry(
        Answer(verdict, "X", "x"),
        attempts=attempts,
        last_attempt_at=last_attempt_at,
        served_at=served_at,
        config=settings(),
        now=NOW,
        rng=random.Random(1),
    )


def test_a_rejection_is_an_attempt_and_comes_back_after_its_delay() -> None:
    counted, next_at, waiting = decision(Verdict.REJECTED)

    assert (counted, waiting) == (True, "retry")
    assert next_at is not None
    assert 30 <= (next_at - NOW).total_seconds() <= 60


def test_five_failures_in_all_and_the_order_is_given_up() -> None:
    given_up = [decision(Verdict.REJECTED, attempts=n) == GIVEN_UP for n in (0, 3, 4, 5)]

    assert given_up == [False, False, True, True]
    assert decision(Verdict.UNCLEAR, attempts=4, served_at=NOW) == GIVEN_UP


def test_a_refusal_for_good_gives_up_at_once() -> None:
    assert decision(Verdict.INVALID) == GIVEN_UP


@pytest.mark.parametrize("verdict", [Verdict.THROTTLED, Verdict.CREDENTIALS])
@pytest.mark.parametrize("attempts", [0, 4, 100])
def test_what_is_not_the_orders_fault_costs_it_nothing(verdict: Verdict, attempts: int) -> None:
    assert decision(verdict, attempts=attempts) == (False, NOW + SHORT_WAIT, "snoozed")


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
    result = decision(
        Verdict.UNCLEAR, attempts=attempts, last_attempt_at=last_attempt_at, served_at=served_at
    )
    assert result == (False, NOW + SHORT_WAIT, "outage")


def test_no_answer_is_an_attempt_when_others_were_served_since_the_last_try() -> None:
    counted, _, waiting = decision(Verdict.UNCLEAR, served_at=EARLIER + timedelta(seconds=1))
    assert (counted, waiting) == (True, "retry")


# Delays


def test_the_plans_numbers_wait_one_minute_then_twice_as_long_up_to_an_hour() -> None:
    delays = [retry_delay(settings(jitter=False), failure, random.Random()) for failure in range(1, 9)]

    assert delays == [timedelta(seconds=s) for s in (60, 120, 240, 480, 960, 1920, 3600, 3600)]


@given(allowed_settings(), failures, st.randoms(use_true_random=False))
def test_with_jitter_a_delay_lies_between_half_and_the_whole(
    config: StockSyncConfig, failures: int, rng: random.Random
) -> None:
    longest, delay = longest_delay(config, failures), retry_delay(config, failures, rng)

    assert (longest / 2 if config.retry_jitter else longest) - MICROSECOND <= delay <= longest + MICROSECOND


@given(allowed_settings(), st.integers(1, 60))
def test_the_longest_delay_grows_exponentially_up_to_the_maximum(
    config: StockSyncConfig, failures: int
) -> None:
    expected = config.retry_initial_delay * config.retry_exponential_base ** (failures - 1)

    seconds = longest_delay(config, failures) / timedelta(seconds=1)
    assert seconds == pytest.approx(min(expected, config.retry_max_delay), rel=1e-9, abs=1e-6)


@given(allowed_settings(), failures)
def test_a_later_failure_never_waits_for_less_nor_for_more_than_the_maximum(
    config: StockSyncConfig, failures: int
) -> None:
    longest = timedelta(seconds=config.retry_max_delay)
    assert longest_delay(config, failures) <= longest_delay(config, failures + 1) <= longest


def test_jitter_spreads_orders_that_failed_together() -> None:
    rng = random.Random(1)
    delays = [retry_delay(settings(), 1, rng).total_seconds() for _ in range(1000)]

    assert min(delays) < 31
    assert max(delays) > 59
    assert sum(delays) / len(delays) == pytest.approx(45, abs=1)


# Retry-After


@pytest.mark.parametrize(("said", "seconds"), [("1", 1), ("120", 120), (" 7 ", 7), ("3600", 3600)])
def test_retry_after_in_seconds_is_taken_as_it_is(said: str, seconds: float) -> None:
    assert snooze_seconds(said, NOW) == seconds


def test_retry_after_as_a_date_is_the_time_until_then() -> None:
    then = format_datetime(NOW + timedelta(seconds=90), usegmt=True)

    assert snooze_seconds(then, NOW) == 90
    assert snooze_seconds(then.replace("GMT", "-0000"), NOW) == 90  # which means UTC as well


@pytest.mark.parametrize("said", [None, "", "soon", "-5", "1.5", "٣", "Mon, 99 Foo 2026", "\x00"])
def test_what_can_not_be_read_counts_as_not_said(said: str | None) -> None:
    assert snooze_seconds(said, NOW) == DEFAULT_SNOOZE == 30


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
