"""When a failed delivery is tried again, and when it is given up."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stocksync.delivery.retry import RetryPolicy

MICROSECOND = timedelta(microseconds=1)  # a timedelta holds no less

attempts = st.integers(1, 1000)
randomness = st.randoms(use_true_random=False)


@st.composite
def policies(draw: st.DrawFn) -> RetryPolicy:
    """Every policy that the settings allow."""
    initial = draw(st.floats(0, 86_400))
    return RetryPolicy(
        max_attempts=draw(st.integers(1, 1000)),
        initial_delay=initial,
        max_delay=draw(st.floats(initial, 604_800)),
        exponential_base=draw(st.floats(1, 100)),
        jitter=draw(st.booleans()),
    )


def test_the_plans_numbers_wait_one_minute_then_twice_as_long_up_to_an_hour() -> None:
    policy = RetryPolicy(jitter=False)

    delays = [policy.delay(failure, random.Random()) for failure in range(1, 9)]

    assert delays == [timedelta(seconds=s) for s in (60, 120, 240, 480, 960, 1920, 3600, 3600)]


@given(policies(), attempts, randomness)
def test_a_delay_is_never_negative_and_never_above_the_maximum(
    policy: RetryPolicy, attempts: int, rng: random.Random
) -> None:
    assert timedelta(0) <= policy.delay(attempts, rng) <= timedelta(seconds=policy.max_delay) + MICROSECOND


@given(policies(), attempts)
def test_a_later_failure_never_waits_for_less(policy: RetryPolicy, attempts: int) -> None:
    assert policy.longest(attempts) <= policy.longest(attempts + 1)


@given(policies(), attempts, randomness)
def test_with_jitter_a_delay_lies_between_half_and_the_whole(
    policy: RetryPolicy, attempts: int, rng: random.Random
) -> None:
    longest = timedelta(seconds=policy.longest(attempts))

    assert longest / 2 - MICROSECOND <= policy.delay(attempts, rng) <= longest + MICROSECOND


@given(policies(), st.integers(1, 60))
def test_the_longest_delay_grows_exponentially_up_to_the_maximum(policy: RetryPolicy, attempts: int) -> None:
    expected = min(policy.initial_delay * policy.exponential_base ** (attempts - 1), policy.max_delay)

    assert policy.longest(attempts) == pytest.approx(expected, rel=1e-9)


@given(attempts, st.floats(1, 86_400), randomness)
def test_without_jitter_the_delay_is_the_longest_one(
    attempts: int, initial: float, rng: random.Random
) -> None:
    policy = RetryPolicy(initial_delay=initial, max_delay=604_800, jitter=False)

    assert policy.delay(attempts, rng) == timedelta(seconds=policy.longest(attempts))


def test_jitter_spreads_orders_that_failed_together() -> None:
    rng, policy = random.Random(1), RetryPolicy()

    delays = [policy.delay(1, rng).total_seconds() for _ in range(1000)]

    assert min(delays) < 31
    assert max(delays) > 59
    assert sum(delays) / len(delays) == pytest.approx(45, abs=1)


@pytest.mark.parametrize("base", [1, 2, 100])
def test_a_thousand_failures_do_not_overflow(base: float) -> None:
    assert RetryPolicy(exponential_base=base, max_delay=3600).longest(1000) == (60 if base == 1 else 3600)


def test_no_delay_at_all_may_be_asked_for() -> None:
    assert RetryPolicy(initial_delay=0).delay(1000, random.Random()) == timedelta(0)


def test_five_failures_in_all_and_the_order_is_given_up() -> None:
    policy = RetryPolicy(max_attempts=5)

    assert [policy.gives_up(failures) for failures in (0, 1, 4, 5, 6)] == [False, False, False, True, True]


def test_one_attempt_means_that_the_first_failure_is_the_last() -> None:
    assert RetryPolicy(max_attempts=1).gives_up(1)


@pytest.mark.parametrize("attempts", [0, -1])
def test_failures_are_counted_from_one(attempts: int) -> None:
    with pytest.raises(ValueError, match="from 1"):
        RetryPolicy().longest(attempts)
