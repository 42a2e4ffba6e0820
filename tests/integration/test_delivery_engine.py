"""The engine: claim, send, settle. What failed is tried again, what changed on the way is told again."""

from __future__ import annotations

import pytest

from stocksync.delivery.answers import Answer, Verdict
from tests.shop import DELIVERED, NO_ANSWER, REFUSED, SELLER, Shop, form, open_shop

pytestmark = pytest.mark.pgbouncer


def test_a_delivery_completes_every_operation_of_its_order(shop: Shop) -> None:
    shop.stock(A=5, B=5)
    operations = shop.orders.process_order_stock_update(form(lines={"1": ("A", 1), "2": ("B", 2)})).operations
    report = shop.drain()

    assert (report.figures["delivered"], report.figures["operations_completed"]) == (1, 2)
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
    assert shop.drain().figures["delivered"] == 0


def test_what_each_order_of_a_batch_was_told_is_kept(shop: Shop) -> None:
    shop.deduct("sold")
    shop.deduct("returned")
    shop.drain()
    shop.refund("returned")
    shop.deduct("new")
    assert shop.drain().figures["delivered"] == 2

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


def test_the_log_says_what_the_remote_said_and_at_which_attempt(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    operation = shop.deduct()
    shop.remote.answer = lambda _: REFUSED
    shop.drain()
    shop.clock.advance(60)
    with caplog.at_level("INFO", "stocksync"):
        shop.drain()

    entries = [one for one in shop.operation(operation)["log"] if one["action"] == "sync_failed"]
    assert [one["details"] for one in entries] == [{"class": "NotSuccessful", "message": "not today"}] * 2
    (said,) = (record for record in caplog.records if "not delivered" in record.message)
    assert said.__dict__["attempt"] == 2


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
    assert (report.figures["delivered"], report.figures["retrying"]) == (1, 1)
    assert shop.operation(fine)["status"] == "completed"


def test_many_orders_go_out_in_one_drain(shop: Shop) -> None:
    with shop.runtime.database.transaction_scope():
        for number in range(450):
            shop.deduct(f"order-{number}")

    assert shop.drain().figures["delivered"] == 450
    assert len(set(shop.remote.calls)) == len(shop.remote.calls) == 450
    assert shop.broken_promises() == []


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (Answer(Verdict.INVALID, "Http422", "no", 422), [("created", "pending"), ("sync_failed", "failed")]),
        (
            REFUSED,
            [("created", "pending"), ("sync_failed", "processing"), ("max_retries", "failed")],
        ),
    ],
)
def test_the_log_says_how_an_operation_was_given_up(
    database_url: str, answer: Answer, told: list[tuple[str, str]]
) -> None:
    with open_shop(database_url, STOCK_SYNC_RETRY_MAX_ATTEMPTS="1") as shop:
        operation = shop.deduct("order-1")
        shop.remote.answer = lambda _: answer
        shop.drain()

        log = shop.runtime.queries.operation(operation)["log"]
        assert [(entry["action"], entry["status"]) for entry in log] == told
