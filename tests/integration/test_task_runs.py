"""Periodic tasks: recorded, one at a time, and not kept from running by the crash of an earlier run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from tests.shop import START, Shop


def run(shop: Shop, act: Any, lease: float = 60) -> dict[str, Any]:
    return shop.runtime.periodic.runs.run("test", act, lease)


def runs(shop: Shop) -> list[dict[str, Any]]:
    return shop.runtime.periodic.runs.latest("test", 50)


def test_a_run_is_kept_with_its_report(shop: Shop) -> None:
    assert run(shop, lambda: {"rescued": 3}) == {"rescued": 3}

    (kept,) = runs(shop)
    assert (kept["status"], kept["result"], kept["error"]) == ("done", {"rescued": 3}, None)
    assert (kept["started_at"], kept["finished_at"]) == (START, START)


def test_a_run_that_fails_is_kept_and_its_error_goes_on(shop: Shop) -> None:
    def fail() -> dict[str, Any]:
        raise ValueError("no such thing")

    with pytest.raises(ValueError, match="no such thing"):
        run(shop, fail)
    (kept,) = runs(shop)
    assert (kept["status"], kept["error"]) == ("failed", "ValueError: no such thing")


def test_no_run_begins_inside_another(shop: Shop) -> None:
    inner: list[dict[str, Any]] = []

    def act() -> dict[str, Any]:
        inner.append(run(shop, lambda: {"done": 1}))
        return {}

    run(shop, act)

    assert inner == [{"skipped": "another run is under way"}]
    assert [kept["status"] for kept in runs(shop)] == ["done"]


def test_of_many_that_begin_at_once_one_does(shop: Shop) -> None:
    def begin(_: int) -> Any:
        with shop.runtime.database.scope():
            return shop.runtime.periodic.runs.begin("test", 60)

    with ThreadPoolExecutor(8) as threads:
        begun = [run for run in threads.map(begin, range(8)) if run is not None]

    assert len(begun) == 1


def test_a_crashed_run_keeps_others_out_for_its_lease_only(shop: Shop) -> None:
    crashed = shop.runtime.periodic.runs.begin("test", 60)
    assert crashed is not None
    shop.clock.advance(59)
    assert "skipped" in run(shop, dict)
    shop.clock.advance(2)
    assert run(shop, dict) == {}

    assert [kept["status"] for kept in runs(shop)] == ["done", "interrupted"]
    shop.runtime.periodic.runs.finish(crashed, {"late": True})
    assert [kept["status"] for kept in runs(shop)] == ["done", "interrupted"]


def test_a_run_of_a_process_whose_clock_is_hours_ahead_keeps_nobody_out_for_hours(shop: Shop) -> None:
    shop.clock.now += timedelta(hours=5)
    with shop.runtime.database.scope():
        assert shop.runtime.periodic.runs.begin("test", 60)  # and dies
    shop.clock.now -= timedelta(hours=5)

    assert run(shop, lambda: {"rescued": 3}) == {"rescued": 3}
