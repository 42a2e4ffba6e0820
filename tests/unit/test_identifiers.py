"""Ids are UUIDs of version 7: ordered by time, and strictly rising whatever the clock does."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from threading import Barrier, BrokenBarrierError
from uuid import RFC_4122, UUID

from hypothesis import given, strategies as st

from stocksync.store.identifiers import IdFactory, joined, stored_key
from tests.shop import Clock

seeds = st.integers(0, 2**32)
moments = st.datetimes(datetime(2000, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


def is_version_7(value: UUID) -> bool:
    return value.version == 7 and value.variant == RFC_4122


def milliseconds(value: UUID) -> int:
    return value.int >> 80


class HighestDraw(random.Random):
    """Randomness at the end of its range."""

    def getrandbits(self, k: int, /) -> int:
        return (1 << k) - 1


@given(moments, seeds)
def test_an_id_begins_with_its_moment(moment: datetime, seed: int) -> None:
    made = IdFactory(lambda: moment, random.Random(seed))()

    assert is_version_7(made)
    assert milliseconds(made) == int(moment.timestamp() * 1000)


@given(st.lists(moments, min_size=2, max_size=50), seeds)
def test_ids_rise_strictly_though_the_clock_goes_back(times: list[datetime], seed: int) -> None:
    clock = Clock()
    new_id = IdFactory(clock, random.Random(seed))
    made = []
    for clock.now in times:
        made.append(new_id())

    assert all(earlier < later for earlier, later in pairwise(made))


def test_many_ids_of_one_moment_rise_and_stay_in_it() -> None:
    new_id = IdFactory(Clock(), random.Random(7))

    made = [new_id() for _ in range(10_000)]

    assert all(earlier < later for earlier, later in pairwise(made))
    assert {milliseconds(value) for value in made} == {milliseconds(made[0])}
    assert all(map(is_version_7, made))


def test_ids_of_two_factories_are_ordered_by_their_time() -> None:
    clock = Clock()
    here, there = IdFactory(clock, random.Random(1)), IdFactory(clock, random.Random(2))
    made = []
    for factory in (here, there, here, there):
        made.append(factory())
        clock.now += timedelta(milliseconds=1)

    assert made == sorted(made)


def test_two_processes_of_one_moment_make_different_ids() -> None:
    clock = Clock()

    assert IdFactory(clock, random.Random(1))() != IdFactory(clock, random.Random(2))()


class MeetingDraw(random.Random):
    """Randomness for which two threads wait for each other, where both can come at once."""

    meeting = Barrier(2, timeout=0.2)

    def getrandbits(self, k: int, /) -> int:
        with suppress(BrokenBarrierError):
            self.meeting.wait()
        return 0


def test_threads_that_share_a_factory_never_get_the_same_id() -> None:
    new_id = IdFactory(Clock(), MeetingDraw())
    with ThreadPoolExecutor(2) as threads:
        made = [thread.result() for thread in [threads.submit(new_id) for _ in range(20)]]

    assert len(set(made)) == 20


def test_at_the_end_of_its_random_bits_an_id_is_still_one_of_version_7() -> None:
    new_id = IdFactory(Clock(), HighestDraw())

    assert all(is_version_7(new_id()) for _ in range(3))


def test_a_key_is_stored_as_it_is_until_it_is_too_long_for_its_column() -> None:
    assert stored_key("deduct", "a:b", "c") == joined("deduct", "a:b", "c")
    long, other = stored_key("deduct", ":" * 400), stored_key("deduct", ":" * 401)
    assert long != other
    assert long.startswith("deduct:")
    assert len(long) < 100
