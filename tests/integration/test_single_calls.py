"""What the monolith calls line by line: recorded once, woken after the commit, retried and cancelled by people."""

from __future__ import annotations

from typing import Any

import pytest

from stocksync import IdempotencyConflict, StockSyncError, TransitionRefused, UnknownOperation
from stocksync.errors import OrderHasForm
from tests.shop import DELIVERED, REFUSED, SELLER, Shop, form


def test_a_deduction_is_recorded_pending_with_its_first_log_row(shop: Shop) -> None:
    result = shop.service.sync_stock_deduction(SELLER, "order-1", "A", 2)

    row = shop.operation(result.operation_id)
    assert (result.success, result.status, row["status"]) == (True, "pending", "pending")
    assert (row["sku"], row["quantity"], row["warehouse"], row["token_id"]) == ("A", 2, "Ирина", SELLER)
    assert shop.actions(result.operation_id) == ["created"]


def test_it_never_moves_stock(shop: Shop) -> None:
    shop.stock(A=10)
    shop.deduct(sku="A", quantity=4)
    shop.refund(sku="A", quantity=1)

    assert shop.on_hand("A") == 10
    assert shop.broken_promises() == []


def test_a_call_without_line_or_key_is_a_new_operation_each_time(shop: Shop) -> None:
    assert shop.deduct() != shop.deduct()
    assert shop.runtime.queries.order(SELLER, "order-1")["lines"][0]["deducted"] == 2
    assert shop.broken_promises() == []


@pytest.mark.parametrize(
    "how", [{"line_item_id": "L"}, {"idempotency_key": "K"}, {"line_item_id": "L", "idempotency_key": "K"}]
)
def test_a_repeated_call_answers_with_the_first_operation(shop: Shop, how: dict[str, Any]) -> None:
    assert shop.deduct(**how) == shop.deduct(**how)
    assert len(shop.statuses()) == 1


def test_a_repeat_long_after_delivery_answers_with_its_status(shop: Shop) -> None:
    shop.deduct(line_item_id="L")
    shop.drain()

    assert (
        shop.service.sync_stock_deduction(SELLER, "order-1", "A", 1, line_item_id="L").status == "completed"
    )


def test_a_line_never_deducts_twice_under_another_key(shop: Shop) -> None:
    first = shop.deduct(line_item_id="L", idempotency_key="K1")

    assert shop.deduct(line_item_id="L", idempotency_key="K2") == first


def test_the_same_key_with_other_content_is_a_conflict(shop: Shop) -> None:
    first = shop.deduct(line_item_id="L", quantity=1)

    with pytest.raises(IdempotencyConflict) as conflict:
        shop.deduct(line_item_id="L", quantity=2)
    assert conflict.value.operation_id == first
    assert len(shop.statuses()) == 1


def test_a_call_for_a_line_that_its_form_deducted_answers_with_that_operation(shop: Shop) -> None:
    shop.stock(A=5)
    operations = shop.orders.process_order_stock_update(form(lines={"L": ("A", 2)})).operations

    assert shop.deduct(sku="A", quantity=2, line_item_id="L") == operations[0]


def test_an_order_with_a_form_refuses_calls_that_name_no_line(shop: Shop) -> None:
    shop.stock(A=5)
    shop.orders.process_order_stock_update(form())

    with pytest.raises(OrderHasForm):
        shop.deduct()


def test_the_lane_is_woken_only_after_the_callers_transaction_has_committed(shop: Shop) -> None:
    with shop.runtime.database.transaction_scope():
        shop.deduct()
        assert shop.wakeups.woken == []
    assert shop.wakeups.woken == [SELLER]


def test_a_rolled_back_transaction_leaves_neither_row_nor_wake_up(shop: Shop) -> None:
    def fails() -> None:
        with shop.runtime.database.transaction_scope():
            shop.deduct()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert (shop.statuses(), shop.wakeups.woken) == ([], [])


def test_a_wake_up_that_raises_does_not_fail_the_caller(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(lane: str) -> bool:
        raise RuntimeError(lane)

    monkeypatch.setattr(shop.wakeups, "wake", broken)
    assert shop.operation(shop.deduct())["status"] == "pending"


def test_immediate_delivers_in_the_call(shop: Shop) -> None:
    result = shop.service.sync_stock_deduction(SELLER, "order-1", "A", 1, immediate=True)

    assert (result.success, result.status) == (True, "completed")
    assert shop.remote.flags == {(SELLER, "order-1"): True}


def test_immediate_that_fails_is_queued_for_retry(shop: Shop) -> None:
    shop.remote.answer = lambda _: REFUSED
    result = shop.service.sync_stock_deduction(SELLER, "order-1", "A", 1, immediate=True)

    assert (result.success, result.status) == (False, "pending")
    assert "queued for retry" in (result.error or "")
    assert shop.order().due_at > shop.clock.now


@pytest.mark.parametrize("reason", ["breaker", "paused"])
def test_immediate_sends_nothing_while_the_remote_or_the_lane_is_left_alone(shop: Shop, reason: str) -> None:
    shop.deduct("order-0")
    shop.drain()
    sent = len(shop.remote.calls)
    if reason == "breaker":
        shop.runtime.breaker.failed(times=5)
    else:
        shop.runtime.deliveries.pause(SELLER, "a person looks at it")

    result = shop.service.sync_stock_deduction(SELLER, "order-1", "A", 1, immediate=True)

    assert (result.success, result.status, len(shop.remote.calls)) == (False, "pending", sent)


def test_immediate_inside_a_transaction_is_only_queued(shop: Shop) -> None:
    with shop.runtime.database.transaction_scope():
        result = shop.service.sync_stock_deduction(SELLER, "order-1", "A", 1, immediate=True)
        assert shop.remote.calls == []
    assert (result.success, result.status) == (True, "pending")


def test_process_pending_operations_counts_operations_as_in_the_plan(shop: Shop) -> None:
    shop.deduct("order-1")
    shop.deduct("order-2")
    shop.remote.answer = lambda order_id: REFUSED if order_id == "order-2" else DELIVERED

    figures = shop.service.process_pending_operations()
    assert figures == {"processed": 2, "succeeded": 1, "failed": 1, "max_retries_reached": 0}


def test_a_retried_operation_starts_over_at_once_and_says_who_asked(shop: Shop) -> None:
    shop.remote.answer = lambda _: REFUSED
    operation = shop.deduct()
    shop.drain()
    shop.service.retry(operation, actor="Anna", reason="mended")

    row = shop.operation(operation)
    assert (row["status"], row["retry_count"], row["next_retry_at"]) == ("pending", 0, shop.clock.now)
    assert row["log"][-1]["details"] == {"actor": "Anna", "reason": "mended", "operation": str(operation)}
    assert shop.order().due_at == shop.clock.now


def test_what_is_done_can_be_neither_retried_nor_cancelled(shop: Shop) -> None:
    operation = shop.deduct()
    shop.drain()

    with pytest.raises(TransitionRefused, match="completed"):
        shop.service.cancel(operation, actor="Anna", reason="late")
    with pytest.raises(TransitionRefused, match="completed"):
        shop.service.retry(operation, actor="Anna")


@pytest.mark.parametrize("unknown", ["01a20a57-05dc-7852-95f9-03f17a4526a1", "nonsense", ""])
def test_an_unknown_operation_is_said_to_be_unknown(shop: Shop, unknown: str) -> None:
    for act in (shop.service.retry, lambda id, actor: shop.service.cancel(id, actor=actor, reason="x")):
        with pytest.raises(UnknownOperation):
            act(unknown, actor="Anna")


def test_a_cancellation_needs_a_reason(shop: Shop) -> None:
    with pytest.raises(StockSyncError, match="reason"):
        shop.service.cancel(shop.deduct(), actor="Anna", reason=" ")
