"""The breaker's memory in Redis: what one worker finds out all know, and one of them probes."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, strategies as st
from redis import Redis
from redis.exceptions import OutOfMemoryError

from stocksync.delivery.breaker import Breaker, LocalMemory
from tests.shop import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breakers(fake_redis: Redis, clock: Clock) -> list[Breaker]:
    """As two workers have them."""
    return [Breaker(fake_redis, "stock-sync", clock) for _ in range(2)]


def test_what_one_worker_finds_out_the_other_knows(breakers: list[Breaker], clock: Clock) -> None:
    one, other = breakers
    assert [one.failed() for _ in range(5)] == [False, False, False, False, True]

    assert other.admit() == "open"
    assert other.open_until() == clock.now + timedelta(seconds=5)


def test_one_probe_at_a_time_across_workers(breakers: list[Breaker], clock: Clock) -> None:
    one, other = breakers
    one.failed(times=5)
    clock.advance(5)

    assert [one.admit(), other.admit(), one.admit()] == ["probe", "open", "open"]


def test_probes_that_fail_come_further_apart_up_to_half_a_minute(
    breakers: list[Breaker], clock: Clock
) -> None:
    one, _ = breakers
    one.failed(times=5)
    waits = []
    for _ in range(5):
        assert one.admit() == "open"
        until = one.open_until()
        assert until is not None
        waits.append((until - clock.now).total_seconds())
        clock.now = until
        assert one.admit() == "probe"
        one.failed(probing=True)

    assert waits == [5, 10, 20, 30, 30]


def test_a_probe_that_is_served_closes_it_for_all(breakers: list[Breaker], clock: Clock) -> None:
    one, other = breakers
    one.failed(times=5)
    clock.advance(5)
    one.admit()

    assert one.served()
    assert other.admit() == "closed"
    assert other.served_at() == clock.now


def test_an_outage_that_follows_at_once_is_probed_like_the_first(
    breakers: list[Breaker], clock: Clock
) -> None:
    one, other = breakers
    for _ in range(2):
        one.failed(times=5)
        clock.advance(5)
        assert [one.admit(), other.admit()] == ["probe", "open"]
        one.served()


def test_each_worker_says_once_that_it_began_and_once_that_it_ended(
    breakers: list[Breaker], clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = breakers
    one.failed(times=5)
    for _ in range(3):
        clock.advance(5)
        for breaker in breakers:
            if breaker.admit() == "probe":
                breaker.failed(probing=True)
    one.served()
    one.served()
    other.admit()
    other.admit()

    began, ended = "the remote does not serve us", "the remote answers again, after 0:00:15"
    assert [line.split(" (")[0] for line in caplog.messages] == [began, began, ended, ended]


def test_a_redis_that_takes_no_writes_lets_a_probe_through_and_not_a_backlog(
    breakers: list[Breaker], fake_redis: Redis, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OutOfMemoryError("OOM command not allowed when used memory > 'maxmemory'.")

    one, _ = breakers
    one.failed(times=5)
    clock.advance(5)
    monkeypatch.setattr(fake_redis, "set", full)

    assert one.admit() == "probe"


def test_a_breaker_that_redis_forgot_does_not_count_as_an_end(
    breakers: list[Breaker], fake_redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    one, _ = breakers
    one.failed(times=5)
    fake_redis.flushall()
    one.admit()
    one.failed(times=5)

    assert len(caplog.messages) == 1


def test_a_success_between_starts_the_count_anew(breakers: list[Breaker]) -> None:
    one, other = breakers
    one.failed(times=4)
    other.served()

    assert not one.failed(times=4)


@given(
    st.lists(
        st.tuples(st.sampled_from([0, 0.4, 1, 7, 29, 31]), st.integers(0, 15), st.integers(0, 15)),
        max_size=40,
    )
)
def test_half_of_at_least_twenty_answers_of_half_a_minute_must_fail(
    answers: list[tuple[float, int, int]],
) -> None:
    clock = Clock()
    breaker = Breaker(LocalMemory(), "stock-sync", clock)
    heard: list[tuple[int, int, int]] = []
    for seconds, served, failed in answers:
        clock.advance(seconds)
        second = int(clock.now.timestamp())
        heard = [row for row in (*heard, (second, served, failed)) if second - row[0] <= 30]
        failures = sum(row[2] for row in heard)
        total = failures + sum(row[1] for row in heard)

        assert breaker.tally(served, failed) is (total >= 20 and failures * 2 >= total)


def test_what_the_breaker_remembers_does_not_grow_with_the_answers() -> None:
    clock = Clock()
    breaker = Breaker(LocalMemory(), "stock-sync", clock)
    for _ in range(5000):
        clock.advance(0.02)
        breaker.tally(1, 1)

    assert len(breaker._window) <= 2 * 31
