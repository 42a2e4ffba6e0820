"""Claims of orders: leases that hold or are lost, workers that die or are told to stop, orders that somebody else holds."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest

from stocksync.delivery.answers import Answer
from stocksync.store.lanes import ClaimedOrder, Failure
from tests.shop import DELIVERED, NO_ANSWER, REFUSED, SELLER, Shop, open_shop

pytestmark = pytest.mark.pgbouncer


def claim(shop: Shop, limit: int = 10) -> list[ClaimedOrder]:
    """Take what is due as another worker would."""
    return shop.runtime.deliveries.claim(SELLER, limit)


def sent(taken: list[ClaimedOrder], failure: Failure | None = None) -> list[ClaimedOrder]:
    """As they are once the remote has accepted or refused them."""
    return [replace(order, duration_ms=5, failure=failure) for order in taken]


def test_claimed_orders_are_not_claimed_again(shop: Shop) -> None:
    shop.deduct("order-1")
    taken = claim(shop)

    assert [order.order_id for order in taken] == ["order-1"]
    assert claim(shop) == []
    assert shop.statuses() == ["processing"]


def test_an_operation_recorded_while_its_order_is_out_is_delivered_afterwards(shop: Shop) -> None:
    first = shop.deduct(sku="A")
    taken = claim(shop)
    second = shop.deduct(sku="B")
    shop.runtime.deliveries.settle(sent(taken), shop.clock.now)

    assert (shop.operation(first)["status"], shop.operation(second)["status"]) == ("completed", "pending")
    assert shop.order().due_at == shop.clock.now
    shop.drain()
    assert shop.operation(second)["status"] == "completed"


def test_no_answer_to_a_state_that_has_changed_since_is_told_again_at_once(shop: Shop) -> None:
    shop.deduct(sku="A")
    taken = claim(shop)
    shop.deduct(sku="B")
    later = shop.clock.now + timedelta(hours=1)
    failure = Failure("sync_error", "Timeout", "no answer", later)
    shop.runtime.deliveries.settle(sent(taken, failure), shop.clock.now)

    assert (shop.order().due_at, shop.order().attempts) == (shop.clock.now, 0)


def test_a_worker_that_lost_its_lease_overwrites_nothing_and_the_state_is_told_again(shop: Shop) -> None:
    shop.deduct()
    stalled = claim(shop)
    shop.clock.advance(61)
    shop.runtime.periodic.sweep()
    shop.drain()
    assert shop.order().due_at is None

    settled = shop.runtime.deliveries.settle(sent(stalled), shop.clock.now)

    assert (settled.figures["delivered"], settled.lost) == (0, {stalled[0].id})
    assert shop.order().due_at == shop.clock.now
    shop.drain()
    assert len(shop.remote.calls) == 2
    assert shop.broken_promises() == []


def test_the_sweep_returns_what_a_dead_worker_left_as_an_attempt(shop: Shop) -> None:
    operation = shop.deduct()
    claim(shop)
    shop.clock.advance(61)
    shop.wakeups.woken.clear()

    assert shop.runtime.periodic.sweep()["rescued"] == 1
    assert shop.wakeups.woken == [SELLER]
    assert (shop.order().attempts, shop.order().due_at) == (1, shop.clock.now)
    assert shop.actions(operation) == ["created", "rescued"]
    assert shop.drain().figures["delivered"] == 1


def test_a_lease_that_still_holds_is_left_alone(shop: Shop) -> None:
    shop.deduct()
    claim(shop)
    shop.clock.advance(59)

    assert shop.runtime.periodic.sweep()["rescued"] == 0
    assert shop.order().claim_id is not None


def test_an_order_that_kills_its_worker_each_time_is_found_and_ends_as_failed_alone(shop: Shop) -> None:
    operations = {name: shop.deduct(name) for name in ("innocent", "deadly", "bystander")}
    now = shop.clock

    def die(order_id: str) -> Answer:
        if order_id == "deadly":
            raise KeyboardInterrupt  # nothing that runs after it, as after SIGKILL
        return DELIVERED

    shop.remote.answer = die
    for _ in range(5):
        work_until_death(shop)
        now.advance(61)
        shop.runtime.periodic.sweep()

    assert {name: shop.operation(id)["status"] for name, id in operations.items()} == {
        "innocent": "completed",
        "deadly": "failed",
        "bystander": "completed",
    }
    assert shop.broken_promises() == []


def work_until_death(shop: Shop) -> None:
    """A worker that claims as the engine does, sends, and settles nothing if it dies on the way."""
    while taken := claim(shop) or shop.runtime.deliveries.claim(SELLER, 1, "suspect"):
        try:
            for order in taken:
                shop.remote.answer(order.order_id)
        except KeyboardInterrupt:
            return
        shop.runtime.deliveries.settle(sent(taken), shop.clock.now)


def test_an_order_at_whose_side_workers_died_goes_out_when_nothing_else_is_out(shop: Shop) -> None:
    shop.deduct("suspect")
    for _ in range(2):
        claim(shop)
        shop.clock.advance(61)
        shop.runtime.periodic.sweep()
    for name in ("one", "two"):
        shop.deduct(name)
    out: list[str] = []

    def at_once(order_id: str) -> Answer:
        out.append(order_id)
        time.sleep(0.05)
        return DELIVERED

    shop.remote.answer = at_once
    assert shop.drain().figures["delivered"] == 3
    assert out[-1] == "suspect"
    assert shop.order("suspect").attempts == 0


def test_what_is_claimed_and_not_sent_is_given_back_without_an_attempt(shop: Shop) -> None:
    operation = shop.deduct()
    taken = claim(shop)
    shop.runtime.deliveries.settle(taken, shop.clock.now)

    row = shop.operation(operation)
    assert (row["status"], row["retry_count"], shop.order().attempts) == ("pending", 0, 0)
    assert shop.drain().figures["delivered"] == 1


def test_told_to_stop_it_sends_nothing_more_and_strands_nothing(shop: Shop) -> None:
    with shop.runtime.database.transaction_scope():
        for number in range(300):
            shop.deduct(f"order-{number}")

    def slow_remote(_: str) -> Answer:
        shop.runtime.stop.set()
        time.sleep(0.1)  # the remote's latency, not a wait of ours
        return DELIVERED

    shop.remote.answer = slow_remote
    with shop.runtime.database.scope():
        report = shop.runtime.engine.drain(SELLER, shop.runtime.stop.is_set)

    assert report.figures["delivered"] + report.figures["released"] == 200
    assert report.figures["released"] > 0
    assert "processing" not in shop.statuses()
    assert shop.wakeups.woken[-1] == SELLER


def test_a_cancellation_under_way_is_not_tried_again(shop: Shop) -> None:
    operation = shop.deduct()
    taken = claim(shop)
    shop.service.cancel(operation, actor="Anna", reason="no")
    failure = Failure("sync_failed", "X", "x", shop.clock.now)
    shop.runtime.deliveries.settle(sent(taken, failure), shop.clock.now)

    assert (shop.order().due_at, shop.operation(operation)["status"]) == (None, "cancelled")
    assert shop.broken_promises() == []


def test_a_paused_lane_is_not_claimed(shop: Shop) -> None:
    shop.deduct()
    with shop.runtime.database.transaction_scope():
        shop.runtime.database.execute_sql("UPDATE stock_sync_accounts SET paused = TRUE")

    assert shop.drain().figures["delivered"] == 0
    assert shop.order().due_at is not None


def test_the_database_itself_refuses_an_order_claimed_without_a_lease(shop: Shop) -> None:
    shop.deduct()
    with pytest.raises(Exception, match=r"(?i)check"), shop.runtime.database.transaction_scope():
        shop.runtime.database.execute_sql("UPDATE stock_sync_orders SET lease_until = updated_at")


def test_an_order_held_by_a_callers_transaction_is_settled_afterwards_and_holds_up_nobody(
    postgres_url: str,
) -> None:
    with open_shop(postgres_url) as shop:
        for name in ("held", "free"):
            shop.deduct(name)
        taken = claim(shop)
        caller = psycopg.connect(postgres_url)
        caller.execute("SELECT id FROM stock_sync_orders WHERE order_id = 'held' FOR UPDATE")
        settled = shop.runtime.deliveries.settle(sent(taken), shop.clock.now)
        assert (settled.figures["delivered"], len(settled.busy), settled.lost) == (1, 1, set())
        caller.rollback()  # closing alone lets go some time later
        caller.close()

        again = shop.runtime.deliveries.settle(sent(taken), shop.clock.now)
        assert again.figures["delivered"] == 1
        assert shop.order("held").delivered_version == 1


def test_due_work_that_a_caller_holds_is_asked_for_again_in_a_second_and_not_at_once(
    postgres_url: str,
) -> None:
    with open_shop(postgres_url) as shop:
        shop.deduct("held")
        shop.wakeups.woken.clear()
        caller = psycopg.connect(postgres_url)
        caller.execute("SELECT id FROM stock_sync_orders FOR UPDATE")
        shop.drain()
        caller.rollback()  # closing alone lets go some time later
        caller.close()

        assert shop.wakeups.woken == []
        assert shop.wakeups.planned == {SELLER: shop.clock.now + timedelta(seconds=1)}
        assert shop.drain().figures["delivered"] == 1


def test_a_writer_waits_for_another_as_long_as_the_setting_says(sqlite_url: str) -> None:
    with open_shop(sqlite_url, STOCK_SYNC_DATABASE_BUSY_TIMEOUT="7") as shop, shop.runtime.database.scope():
        assert shop.runtime.database.execute_sql("PRAGMA busy_timeout").fetchone()[0] == 7000


def test_what_a_claim_hands_over_is_what_the_order_says(shop: Shop) -> None:
    shop.deduct("order-1")
    shop.remote.answer = lambda _: REFUSED
    shop.drain()
    tried_at = shop.clock.now
    shop.clock.advance(3600)

    (order,) = claim(shop)

    assert (order.token_id, order.order_id, order.is_stock_updated) == (SELLER, "order-1", True)
    assert (order.state_version, order.attempts, order.last_attempt_at) == (1, 1, tried_at)


def test_a_slice_with_nothing_to_do_counts_nothing(shop: Shop) -> None:
    report = shop.drain()

    assert report.figures.total() == 0


def test_after_an_outage_what_waited_for_it_is_due_at_once_batch_by_batch(shop: Shop) -> None:
    shop.remote.answer = lambda _: NO_ANSWER
    for number in range(3):
        shop.deduct(f"order-{number}")
    shop.drain()
    assert claim(shop) == []

    shop.runtime.deliveries.end_outage(shop.clock.now, batch=1, batches=2)
    assert len(claim(shop)) == 2
    shop.runtime.deliveries.end_outage(shop.clock.now, batch=1)
    assert len(claim(shop)) == 1
