"""The monitor: each condition is raised once, repeated after a while and resolved once; no messenger loses or harms anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stocksync.delivery.breaker import OUTAGE
from stocksync.store.models import Discrepancy, Reconciliation
from stocksync.store.tallies import Counts
from stocksync.upkeep import periodic
from stocksync.upkeep.alert_texts import KINDS, message, title
from tests.shop import DELIVERED, REFUSED, SELLER, START, Shop, listed, open_shop
from tests.watching import HOUR, Watched, execute, many, rows


@pytest.fixture
def at(database_url: str) -> Iterator[Watched]:
    with open_shop(
        database_url, STOCK_SYNC_ALERT_LANGUAGE="en", STOCK_SYNC_MONITORING_MAX_PENDING_OPERATIONS="3"
    ) as shop:
        yield Watched(shop)


def failing(shop: Shop) -> None:
    with shop.runtime.database.transaction_scope():
        shop.runtime.tallies.add(Counts(delivered=7, failed=3), shop.clock())


def give_up(shop: Shop) -> None:
    shop.remote.answer = lambda _: REFUSED
    shop.deduct()
    for _ in range(5):
        shop.drain()
        shop.clock.advance(4000)


def doubtful(shop: Shop) -> None:
    shop.deduct()
    shop.drain()
    execute(shop, "UPDATE pending_stock_operations SET applied = 'unknown'")
    shop.clock.advance(601)


def differing(shop: Shop) -> None:
    with shop.runtime.database.transaction_scope():
        run = Reconciliation.create(
            id=new_id(shop), token_id=SELLER, status="complete", started_at=shop.clock(), finished_at=shop.clock(),
            since=START, buckets={}, details={},
        )  # fmt: skip
        Discrepancy.create(
            id=new_id(shop), run_id=run, token_id=SELLER, order_id="o", kind="extra_remote", remote=True,
            first_seen_at=shop.clock(), last_seen_at=shop.clock(),
        )  # fmt: skip


def suspicious(shop: Shop) -> None:
    with shop.runtime.database.transaction_scope():
        Reconciliation.create(
            id=new_id(shop), token_id=SELLER, status="suspicious", started_at=shop.clock(), finished_at=shop.clock(),
            since=START, buckets={}, details={"reason": "12 of 20 orders differ"},
        )  # fmt: skip


def waiting(seconds: float) -> Callable[[Shop], None]:
    def wait(shop: Shop) -> None:
        shop.deduct()
        shop.clock.advance(seconds)

    return wait


def new_id(shop: Shop) -> Any:
    return shop.runtime.service.context.new_id()


def outage(shop: Shop) -> None:
    for _ in range(5):
        shop.runtime.breaker.failed(OUTAGE)
    shop.clock.advance(601)


def unbalanced(shop: Shop) -> None:
    shop.stock(A=5)
    execute(shop, "UPDATE stock_sync_levels SET on_hand = 7")
    shop.clock.advance(HOUR)  # the audit is run once an hour for this


def balanced(shop: Shop) -> None:
    execute(shop, "UPDATE stock_sync_levels SET on_hand = 5")
    shop.clock.advance(HOUR)


def deliver(shop: Shop) -> None:
    shop.remote.answer = lambda _: DELIVERED
    for row in listed(shop.runtime, status="failed"):
        shop.service.retry(row["id"], actor="Anna")
    shop.drain()


Played = dict[str, tuple[Callable[[Shop], Any], Callable[[Shop], Any]]]
PLAYED: Played = {
    "pending": (many, deliver),
    "failure_rate": (failing, lambda shop: shop.clock.advance(HOUR + 60)),
    "stale": (waiting(6 * HOUR + 1), deliver),
    "failed": (give_up, deliver),
    "breaker": (outage, lambda shop: shop.runtime.breaker.served()),
    "lane_paused": (
        lambda shop: (shop.deduct(), shop.drain(), shop.runtime.deliveries.pause(SELLER, "20 refusals")),
        lambda shop: shop.runtime.deliveries.resume(SELLER),
    ),
    "unclaimed": (waiting(601), deliver),
    "audit": (unbalanced, balanced),
    "differences": (
        differing,
        lambda shop: execute(
            shop, f"UPDATE stock_sync_discrepancies SET status = 'gone', resolved_at = '{START.isoformat()}'"
        ),
    ),
    "reconciliation": (suspicious, lambda shop: shop.clock.advance(25 * HOUR)),
    "in_doubt": (doubtful, lambda shop: execute(shop, "UPDATE pending_stock_operations SET applied = 'yes'")),
}
BY_PROCESSES: dict[str, dict[str, bool] | None] = {
    "worker_silent": {"worker": False, "scheduler": True},
    "scheduler_silent": {"worker": True, "scheduler": False},
    "redis_away": None,
}


def test_an_audit_that_takes_too_long_stops_one_run_an_hour_and_settles_nothing(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    unbalanced(shop)
    shop.runtime.periodic.run("monitor")
    audits: list[int] = []

    def too_long(_: Any) -> list[Any]:
        audits.append(1)
        raise TimeoutError("the job took longer than it may")

    monkeypatch.setattr(periodic, "audit", too_long)
    shop.clock.advance(HOUR)
    with pytest.raises(TimeoutError):
        shop.runtime.periodic.run("monitor")
    for _ in range(3):
        shop.clock.advance(60)
        assert shop.runtime.periodic.run("monitor")["open"]["audit"] == 1  # nobody says that it is mended
    assert audits == [1]


def test_every_kind_is_played_here() -> None:
    assert {*PLAYED, *BY_PROCESSES} == set(KINDS)


@pytest.mark.parametrize("kind", PLAYED)
def test_a_condition_is_raised_once_and_resolved_once(at: Watched, kind: str) -> None:
    begin, end = PLAYED[kind]
    assert at.run()["open"] == {}
    at.shop.clock.advance(1)
    begin(at.shop)
    for _ in range(3):
        assert kind in at.run()["open"]
        at.shop.clock.advance(1)

    (alert,) = rows(at, kind)
    assert (alert["resolved_at"], alert["pending_notification"]) == (None, None)
    end(at.shop)
    for _ in range(3):
        assert kind not in at.run()["open"]
        at.shop.clock.advance(1)
    (alert,) = rows(at, kind)
    assert alert["resolved_at"] is not None
    said = [text for text in at.told.texts if title(kind, "en") in text]
    assert sum(f"✅ Over: {title(kind, 'en')}" in text for text in said) == 1
    once = message(kind, alert["subject"], alert["details"], "raised", "en").splitlines()[-1]
    assert sum(once in text for text in at.told.texts) == 1


@pytest.mark.parametrize("kind", BY_PROCESSES)
def test_silent_processes_are_raised_once_and_resolved_once(at: Watched, kind: str) -> None:
    at.heard = BY_PROCESSES[kind]
    for _ in range(3):
        assert list(at.run()["open"]) == [kind]
        at.shop.clock.advance(1)
    at.heard = {"worker": True, "scheduler": True}
    for _ in range(2):
        assert at.run()["open"] == {}
        at.shop.clock.advance(1)

    (alert,) = rows(at, kind)
    assert alert["resolved_at"] is not None
    assert len(at.told.texts) == 2


def test_without_redis_it_is_not_concluded_that_a_worker_is_back(at: Watched) -> None:
    at.heard = {"worker": False, "scheduler": True}
    at.run()
    at.shop.clock.advance(1)
    at.heard = None

    assert at.run()["open"] == {"worker_silent": 1, "redis_away": 1}
