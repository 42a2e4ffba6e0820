"""One process's clock is hours ahead: what it wrote keeps nobody waiting for hours once a sweep has been."""

from __future__ import annotations

from datetime import timedelta

import pytest
from redis import Redis

from stocksync.delivery.answers import Answer, Verdict
from stocksync.delivery.breaker import Breaker
from tests.shop import REFUSED, SELLER, Clock, Shop, open_shop

AHEAD = timedelta(hours=5)


def sweep(shop: Shop) -> None:
    shop.runtime.periodic.sweep()


def test_an_order_recorded_by_a_caller_whose_clock_is_ahead_is_delivered_after_a_sweep(
    database_url: str,
) -> None:
    with open_shop(database_url) as shop:
        shop.clock.now += AHEAD
        shop.deduct()
        shop.clock.now -= AHEAD
        shop.drain()
        assert shop.statuses() == ["pending"]

        sweep(shop)
        assert shop.wakeups.woken[-1] == SELLER
        shop.drain()

        assert shop.statuses() == ["completed"]


def test_an_order_that_changed_while_a_worker_whose_clock_is_ahead_told_it_is_told_again_after_a_sweep(
    database_url: str,
) -> None:
    with open_shop(database_url) as shop:
        shop.deduct(line_item_id="line-1")
        shop.clock.now += AHEAD
        shop.meanwhile(lambda: shop.refund(line_item_id="line-1"))
        with shop.runtime.database.scope():
            shop.runtime.engine.deliver_now(shop.order().id, SELLER)
        shop.clock.now -= AHEAD
        assert shop.flag() is True

        sweep(shop)
        shop.drain()

        assert shop.flag() is False
        assert shop.statuses() == ["completed", "completed"]


def test_a_snooze_that_is_longer_than_any_ends_at_the_next_sweep(database_url: str) -> None:
    with open_shop(database_url) as shop:
        shop.remote.answer = lambda _: Answer(Verdict.THROTTLED, status=429, retry_after="10")
        shop.deduct()
        shop.clock.now += AHEAD
        shop.drain()
        shop.clock.now -= AHEAD
        assert shop.runtime.deliveries.state(SELLER)["snoozed_until"] > shop.clock.now + timedelta(hours=4)

        sweep(shop)

        assert shop.runtime.deliveries.state(SELLER)["snoozed_until"] is None


@pytest.mark.parametrize("behind", [timedelta(), AHEAD])
def test_a_sweep_leaves_a_retry_its_time_whatever_its_own_clock_says(
    database_url: str, behind: timedelta
) -> None:
    with open_shop(database_url) as shop:
        shop.remote.answer = lambda _: REFUSED
        shop.deduct()
        shop.drain()
        due = shop.order().due_at
        shop.clock.now -= behind

        sweep(shop)

        assert shop.order().due_at == due


def test_a_breaker_opened_by_a_worker_whose_clock_is_ahead_is_probed_by_the_others(fake_redis: Redis) -> None:
    clock, ahead = Clock(), Clock()
    ahead.now += AHEAD
    Breaker(fake_redis, "stock-sync", ahead).failed(times=5)
    ours = Breaker(fake_redis, "stock-sync", clock)

    assert [ours.admit(), ours.admit()] == ["probe", "open"]
    assert ours.served()
    assert Breaker(fake_redis, "stock-sync", ahead).admit() == "closed"


def test_an_order_claimed_by_a_process_whose_clock_is_a_day_ahead_and_that_died_is_rescued_by_the_next_sweep(
    database_url: str,
) -> None:
    with open_shop(database_url) as shop:
        shop.deduct()
        shop.clock.now += timedelta(days=1)
        with shop.runtime.database.scope():
            assert shop.runtime.deliveries.claim(SELLER, 10)  # and dies
        shop.clock.now -= timedelta(days=1)

        sweep(shop)
        shop.drain()

        assert shop.statuses() == ["completed"]


def test_a_sweep_of_a_process_whose_clock_is_hours_behind_takes_no_claim_from_a_worker(
    database_url: str,
) -> None:
    with open_shop(database_url) as shop:
        operation = shop.deduct()

        def meanwhile() -> None:
            shop.clock.now -= AHEAD
            sweep(shop)
            shop.clock.now += AHEAD

        shop.meanwhile(meanwhile)
        shop.drain()

        assert "rescued" not in shop.actions(operation)
        assert shop.statuses() == ["completed"]
