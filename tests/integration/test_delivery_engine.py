"""The engine: claim, send, settle. What failed is tried again, what changed on the way is told again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import psycopg
import pytest

from stocksync.delivery.answers import Answer
from stocksync.store.lanes import ClaimedOrder, Failure
from tests.shop import DELIVERED, NO_ANSWER, REFUSED, SELLER, Shop, form, open_shop

pytestmark = pytest.mark.pgbouncer


@pytest.fixture
def shop(database_url: str) -> Iterator[Shop]:
    with open_shop(database_url) as opened:
        yield opened


def claim(shop: Shop, limit: int = 10) -> list[ClaimedOrder]:
    """Take what is due as another worker would."""
    now = shop.clock.now
    return shop.runtime.deliveries.claim(SELLER, limit, uuid4(), now, now + timedelta(seconds=60))


def sent(taken: list[ClaimedOrder], failure: Failure | None = None) -> list[ClaimedOrder]:
    """As they are once the remote has accepted or refused them."""
    return [replace(order, duration_ms=5, failure=failure) for order in taken]


def test_a_delivery_completes_every_operation_of_its_order(shop: Shop) -> None:
    shop.stock(A=5, B=5)
    operations = shop.orders.process_order_stock_update(form(lines={"1": ("A", 1), "2": ("B", 2)})).operations
    report = shop.drain()

    assert (report.delivered, report.operations_completed) == (1, 2)
    assert shop.statuses() == ["completed", "completed"]
    assert [shop.actions(operation) for operation in operations] == [
        ["created", "sync_success", "completed"]
    ] * 2
    assert shop.remote.flags == {(SELLER, "order-1"): True}
    assert shop.broken_promises() == []


def test_one_order_is_one_request_under_the_key_of_its_state_version(shop: Shop) -> None:
    shop.deduct(sku="A")
    shop.deduct(sku="B")
    shop.drain()

    assert shop.remote.calls == [("order-1", True, f"{SELLER}:order-1:2")]


def test_a_delivered_order_is_at_rest(shop: Shop) -> None:
    shop.deduct()
    shop.drain()

    order = shop.order()
    assert (order.due_at, order.claim_id, order.attempts, order.waiting) == (None, None, 0, None)
    assert (order.remote_flag, order.delivered_version) == (True, order.state_version)
    assert shop.drain().delivered == 0


def test_what_each_order_of_a_batch_was_told_is_kept(shop: Shop) -> None:
    shop.deduct("sold")
    shop.deduct("returned")
    shop.drain()
    shop.refund("returned")
    shop.deduct("new")
    assert shop.drain().delivered == 2

    assert [shop.order(name).remote_flag for name in ("sold", "returned", "new")] == [True, False, True]


def test_a_failure_waits_between_half_and_the_whole_delay(shop: Shop) -> None:
    shop.remote.answer = lambda _: REFUSED
    operation = shop.deduct()
    shop.drain()

    row = shop.operation(operation)
    wait = (row["next_retry_at"] - shop.clock.now).total_seconds()
    assert (row["status"], row["retry_count"], row["error_class"]) == ("pending", 1, "NotSuccessful")
    assert row["error_message"] == "not today"
    assert 30 <= wait <= 60
    assert row["next_retry_at"] == shop.order().due_at


def test_the_lane_is_planned_for_its_next_due_time(shop: Shop) -> None:
    shop.remote.answer = lambda _: REFUSED
    shop.deduct()
    shop.drain()

    assert shop.wakeups.planned == {SELLER: shop.order().due_at}


def test_nothing_is_sent_before_its_time(shop: Shop) -> None:
    shop.remote.answer = lambda _: REFUSED
    shop.deduct()
    shop.drain()
    shop.clock.advance(29)
    shop.drain()

    assert len(shop.remote.calls) == 1


def test_the_log_tells_each_attempt(shop: Shop) -> None:
    answers = iter([REFUSED, NO_ANSWER, DELIVERED])
    shop.remote.answer = lambda _: next(answers)
    operation = shop.deduct()
    for _ in range(3):
        shop.drain()
        shop.clock.advance(3600)

    assert shop.actions(operation) == [
        "created",
        *("sync_failed", "retry_failed"),
        *("retry", "sync_error", "snoozed"),
        *("retry", "sync_success", "completed"),
    ]
    assert shop.operation(operation)["retry_count"] == 1


def test_five_failures_in_all_end_as_failed(shop: Shop) -> None:
    shop.remote.answer = lambda _: REFUSED
    operation = shop.deduct()
    for _ in range(9):
        shop.drain()
        shop.clock.advance(3600)

    assert len(shop.remote.calls) == 5
    assert (shop.operation(operation)["status"], shop.order().due_at) == ("failed", None)
    assert shop.actions(operation)[-1] == "max_retries"
    assert shop.broken_promises() == []


def test_a_retry_by_hand_has_all_attempts_before_it(shop: Shop) -> None:
    shop.remote.answer = lambda _: REFUSED
    operation = shop.deduct()
    for _ in range(5):
        shop.drain()
        shop.clock.advance(3600)
    shop.service.retry(operation, actor="Anna")
    for _ in range(9):
        shop.drain()
        shop.clock.advance(3600)

    assert len(shop.remote.calls) == 10


def test_a_later_operation_that_is_delivered_completes_the_failed_one(shop: Shop) -> None:
    shop.remote.answer = lambda _: REFUSED
    failed = shop.deduct(sku="A")
    for _ in range(5):
        shop.drain()
        shop.clock.advance(3600)
    shop.remote.answer = lambda _: DELIVERED
    shop.deduct(sku="B")
    shop.drain()

    assert shop.operation(failed)["status"] == "completed"


def test_one_orders_failure_does_not_hold_up_another(shop: Shop) -> None:
    shop.remote.answer = lambda order_id: REFUSED if order_id == "order-1" else DELIVERED
    shop.deduct("order-1")
    fine = shop.deduct("order-2")

    report = shop.drain()
    assert (report.delivered, report.retrying) == (1, 1)
    assert shop.operation(fine)["status"] == "completed"


def test_many_orders_go_out_in_one_drain(shop: Shop) -> None:
    with shop.runtime.database.transaction_scope():
        for number in range(450):
            shop.deduct(f"order-{number}")

    assert shop.drain().delivered == 450
    assert len(set(shop.remote.calls)) == len(shop.remote.calls) == 450
    assert shop.broken_promises() == []


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
    assert shop.drain().delivered == 1


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
    deliveries, now = shop.runtime.deliveries, shop.clock.now
    while taken := (
        claim(shop) or deliveries.claim(SELLER, 1, uuid4(), now, now + timedelta(seconds=60), "suspect")
    ):
        try:
            for order in taken:
                shop.remote.answer(order.order_id)
        except KeyboardInterrupt:
            return
        deliveries.settle(sent(taken), now)


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
    assert shop.drain().delivered == 3
    assert out[-1] == "suspect"
    assert shop.order("suspect").attempts == 0


def test_what_is_claimed_and_not_sent_is_given_back_without_an_attempt(shop: Shop) -> None:
    operation = shop.deduct()
    taken = claim(shop)
    shop.runtime.deliveries.settle(taken, shop.clock.now)

    row = shop.operation(operation)
    assert (row["status"], row["retry_count"], shop.order().attempts) == ("pending", 0, 0)
    assert shop.drain().delivered == 1


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

    assert report.delivered + report.released == 200
    assert report.released > 0
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

    assert shop.drain().delivered == 0
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
        assert shop.drain().delivered == 1


def test_a_writer_waits_for_another_as_long_as_the_setting_says(sqlite_url: str) -> None:
    with open_shop(sqlite_url, STOCK_SYNC_DATABASE_BUSY_TIMEOUT="7") as shop, shop.runtime.database.scope():
        assert shop.runtime.database.execute_sql("PRAGMA busy_timeout").fetchone()[0] == 7000
