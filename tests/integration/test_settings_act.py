"""Each setting acts: what a person sets is what happens. (`test_config` holds how settings are read.)"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from stocksync.testing import Harness, harness

SELLER = "seller-1"


def sell(shop: Harness, *orders: str) -> None:
    for order in orders or ("order-1",):
        shop.runtime.service.sync_stock_deduction(SELLER, order, "A", 1, line_item_id=f"line-{order}")


def waits(shop: Harness) -> list[float]:
    """Seconds until each retry of an order that is refused, until it is given up."""
    sell(shop)
    shop.remote.fail(404, "unknown")
    found = []
    while not shop.deliver_now()["max_retries_reached"]:
        (operation,) = shop.operations()
        found.append((operation["next_retry_at"] - shop.clock()).total_seconds())
        shop.clock.now = operation["next_retry_at"]
    return found


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [60, 120, 240, 480]),
        ({"retry_max_attempts": 2}, [60]),
        ({"retry_initial_delay": 10}, [10, 20, 40, 80]),
        ({"retry_exponential_base": 3}, [60, 180, 540, 1620]),
        ({"retry_max_delay": 100}, [60, 100, 100, 100]),
    ],
)
def test_retries_come_as_the_settings_say(settings: dict[str, Any], expected: list[float]) -> None:
    with harness(**settings) as shop:
        assert waits(shop) == expected


def test_jitter_is_on_unless_it_is_turned_off() -> None:
    with harness(retry_jitter=True) as shop:
        found = waits(shop)

    assert found != [60, 120, 240, 480]
    assert all(
        longest / 2 <= wait <= longest for wait, longest in zip(found, (60, 120, 240, 480), strict=True)
    )


def cleaned(shop: Harness, kind: str) -> Callable[[], bool]:
    return lambda: shop.runtime.periodic.cleanup()[kind] > 0


@pytest.mark.parametrize(
    ("setting", "kind"),
    [("cleanup_after_days", "operations"), ("cleanup_reports_after_days", "reconciliations")],
)
def test_old_rows_go_after_as_many_days_as_the_setting_says(setting: str, kind: str) -> None:
    settings: dict[str, Any] = {setting: 3}
    with harness(**settings) as shop:
        sell(shop)
        shop.deliver_now()
        shop.runtime.reconciliation.run(SELLER)
        shop.clock.advance(days=2.9)
        assert not cleaned(shop, kind)()
        shop.clock.advance(days=0.2)
        assert cleaned(shop, kind)()


def test_keys_go_after_as_many_days_as_the_setting_says() -> None:
    with harness(cleanup_after_days=3, cleanup_keys_after_days=5) as shop:
        shop.runtime.service.sync_stock_deduction(SELLER, "order-1", "A", 1, idempotency_key="k")
        shop.deliver_now()
        shop.clock.advance(days=4.9)
        shop.runtime.periodic.cleanup()
        repeat = shop.runtime.service.sync_stock_deduction(SELLER, "order-1", "A", 1, idempotency_key="k")
        assert repeat.status is None, "the key still answers with the first operation, which was pruned"
        shop.clock.advance(days=0.2)
        shop.runtime.periodic.cleanup()
        shop.runtime.service.sync_stock_deduction(SELLER, "order-1", "A", 1, idempotency_key="k")
        assert len(shop.operations()) == 1


def raised(shop: Harness) -> set[str]:
    """Kinds of alerts that the monitor sees, without those of processes that no test runs."""
    return set(shop.runtime.periodic.monitor()["open"]) - {"redis_away", "worker_silent", "scheduler_silent"}


@contextmanager
def failing(share: int, of: int, **settings: Any) -> Iterator[Harness]:
    """A shop of whose deliveries `share` of `of` have failed."""
    with harness(**settings) as shop:
        shop.remote.fail(404, "unknown", times=share)
        sell(shop, *(f"order-{number}" for number in range(of)))
        shop.deliver_now()
        yield shop


@pytest.mark.parametrize(
    ("settings", "alerts"),
    [
        ({"monitoring_max_pending_operations": 2}, True),
        ({"monitoring_max_pending_operations": 3}, False),
    ],
)
def test_many_pending_operations_raise_an_alert_above_the_setting(
    settings: dict[str, Any], alerts: bool
) -> None:
    with harness(**settings) as shop:
        sell(shop, "a", "b", "c")
        assert ("pending" in raised(shop)) is alerts


@pytest.mark.parametrize(
    ("setting", "kind"), [("stale_operation_hours", "stale"), ("unclaimed_minutes", "unclaimed")]
)
def test_work_that_waits_raises_an_alert_after_as_long_as_the_setting_says(setting: str, kind: str) -> None:
    unit = timedelta(hours=1) if setting.endswith("hours") else timedelta(minutes=1)
    settings: dict[str, Any] = {f"monitoring_{setting}": 3}
    with harness(**settings) as shop:
        sell(shop)
        shop.clock.now += 2.9 * unit
        assert kind not in raised(shop)
        shop.clock.now += 0.2 * unit
        assert kind in raised(shop)


@pytest.mark.parametrize(
    ("settings", "alerts"),
    [
        ({}, True),
        ({"monitoring_failure_share": 0.6}, False),
        ({"monitoring_failure_deliveries": 11}, False),
        ({"monitoring_failure_deliveries": 10}, True),
    ],
)
def test_failures_raise_an_alert_above_the_share_and_number_of_the_settings(
    settings: dict[str, Any], alerts: bool
) -> None:
    with failing(5, 10, **settings) as shop:
        assert ("failure_rate" in raised(shop)) is alerts


def test_failures_count_within_the_window_of_the_setting() -> None:
    with failing(5, 10, monitoring_failure_window_minutes=5, retry_initial_delay=3600) as shop:
        shop.clock.advance(minutes=7)
        assert "failure_rate" not in raised(shop)


@pytest.mark.parametrize("wanted", [True, False])
def test_given_up_operations_raise_an_alert_unless_it_is_turned_off(wanted: bool) -> None:
    with failing(1, 1, retry_max_attempts=1, monitoring_alert_on_failed_retries=wanted) as shop:
        assert ("failed" in raised(shop)) is wanted


def differing(shop: Harness, differ: int, of: int) -> dict[str, Any]:
    """A comparison after the remote has forgotten `differ` of `of` orders that it was told of."""
    orders = [f"order-{number:02}" for number in range(of)]
    sell(shop, *orders)
    shop.deliver_now()
    shop.clock.advance(minutes=5)
    for order in orders[:differ]:
        shop.remote.told[SELLER, order] = False
    return shop.runtime.reconciliation.run(SELLER)


@pytest.mark.parametrize(
    ("settings", "status"),
    [
        ({}, "complete"),
        ({"reconciliation_suspicious_share": 0.1, "reconciliation_suspicious_orders": 1}, "suspicious"),
        ({"reconciliation_suspicious_share": 0.1, "reconciliation_suspicious_orders": 2}, "complete"),
        ({"reconciliation_suspicious_share": 0.5, "reconciliation_suspicious_orders": 1}, "complete"),
    ],
)
def test_a_comparison_is_suspicious_above_the_share_and_number_of_the_settings(
    settings: dict[str, Any], status: str
) -> None:
    with harness(**settings) as shop:
        assert differing(shop, 2, 8)["status"] == status


@pytest.mark.parametrize(("hours", "fixed"), [(1, 0), (3, 1)])
def test_what_was_completed_longer_ago_than_the_setting_waits_for_a_person(hours: int, fixed: int) -> None:
    with harness(reconciliation_auto_fix_threshold_hours=hours) as shop:
        sell(shop)
        shop.deliver_now()
        shop.clock.advance(hours=2)
        shop.remote.told[SELLER, "order-1"] = False
        assert shop.runtime.reconciliation.run(SELLER)["fixed"] == fixed


@pytest.mark.parametrize(("seconds", "fixed"), [(1, 1), (3600, 0)])
def test_what_changed_within_the_grace_time_counts_as_in_flight(seconds: int, fixed: int) -> None:
    with harness(reconciliation_grace_seconds=seconds) as shop:
        assert differing(shop, 1, 8)["fixed"] == fixed


def test_pages_are_as_large_as_the_setting_says() -> None:
    with harness(reconciliation_batch_size=3) as shop:
        assert differing(shop, 0, 8)["pages"] == 3


def test_orders_outside_the_window_are_not_compared() -> None:
    with harness(reconciliation_window_days=1) as shop:
        sell(shop)
        shop.deliver_now()
        shop.clock.advance(days=2)
        shop.remote.told.clear()
        assert shop.runtime.reconciliation.run(SELLER)["checked"] == 0


def test_so_many_orders_are_asked_for_one_by_one_as_the_setting_says() -> None:
    with harness(reconciliation_lookup_cap=2) as shop:
        sell(shop, "a", "b", "c")
        shop.deliver_now()
        shop.clock.advance(minutes=5)
        shop.remote.told.clear()
        run = shop.runtime.reconciliation.run(SELLER)
        assert (run["checked"], run["complete"]) == (2, False)


def test_alerts_are_repeated_after_as_long_as_the_setting_says() -> None:
    with failing(1, 1, retry_max_attempts=1, alert_repeat_hours=2) as shop:
        told: list[str] = []

        def take(text: str) -> bool:
            told.append(text)
            return True

        shop.runtime.messenger = take
        for hours in (0, 1.9, 0.2):
            shop.clock.advance(hours=hours)
            shop.runtime.periodic.monitor()
        assert len(told) == 2


def test_an_outage_raises_an_alert_after_as_long_as_the_setting_says() -> None:
    with harness(monitoring_breaker_minutes=3, monitoring_unclaimed_minutes=60) as shop:
        shop.remote.fail()
        sell(shop, *(f"order-{number}" for number in range(10)))
        shop.deliver_now()
        shop.clock.advance(minutes=2.9)
        assert "breaker" not in raised(shop)
        shop.clock.advance(minutes=0.2)
        assert "breaker" in raised(shop)
