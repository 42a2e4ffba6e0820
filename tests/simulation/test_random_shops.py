"""Random sequences of calls, failures, crashes and clicks: no promise ever breaks, and the remote ends up right."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from stocksync import StockSyncError
from stocksync.store.deliveries import Claim, Delivered
from tests.shop import DELIVERED, NO_ANSWER, REFUSED, SELLER, Shop, form

ORDERS = st.sampled_from([f"order-{number}" for number in range(4)])
ON_HAND = 40


class ShopMachine(RuleBasedStateMachine):
    """The model: units deducted through forms, operations recorded and cancelled."""

    url: str
    fresh_url: Any

    @initialize()
    def open(self) -> None:
        self.shop = Shop(type(self).fresh_url())
        self.shop.stock(A=ON_HAND)
        self.deducted: dict[str, int] = {}
        self.operations: list[UUID] = []
        self.cancelled: set[UUID] = set()
        self.stalled: list[Claim] = []

    @rule(order=ORDERS, quantity=st.integers(1, 3))
    def a_form_comes_in(self, order: str, quantity: int) -> None:
        result = self.shop.orders.process_order_stock_update(form(f"form-{order}", {"L": ("A", quantity)}))
        if result.status == "queued":
            assert f"form-{order}" not in self.deducted
            self.deducted[f"form-{order}"] = quantity
            self.operations += result.operations

    @rule(order=ORDERS, quantity=st.integers(1, 3))
    def the_monolith_calls(self, order: str, quantity: int) -> None:
        self.operations.append(self.shop.deduct(order, quantity=quantity))

    @rule(answer=st.sampled_from([DELIVERED, REFUSED, NO_ANSWER]), applies=st.booleans())
    def a_worker_runs(self, answer: Any, applies: bool) -> None:
        self.shop.remote.answer = lambda _: answer
        self.shop.remote.applies_before_failing = applies
        self.shop.drain()

    @rule(limit=st.integers(1, 3))
    def a_worker_claims_and_stalls(self, limit: int) -> None:
        now = self.shop.clock.now
        claim = self.shop.runtime.deliveries.claim(SELLER, limit, uuid4(), now, now + timedelta(seconds=60))
        self.stalled.append(claim)

    @rule()
    def a_stalled_worker_wakes_up_and_sends(self) -> None:
        if self.stalled:
            claim = self.stalled.pop()
            for order in claim.orders:
                self.shop.remote.flags[SELLER, order.order_id] = order.is_stock_updated
            done = [Delivered(order, 5) for order in claim.orders]
            self.shop.runtime.deliveries.settle(claim.id, done, [], self.shop.clock.now)

    @rule(order=ORDERS, in_between=st.booleans())
    def a_call_comes_while_a_worker_sends(self, order: str, in_between: bool) -> None:
        self.operations.append(self.shop.deduct(order))
        self.a_worker_claims_and_stalls(3)
        if in_between:
            self.operations.append(self.shop.deduct(order))
        self.a_stalled_worker_wakes_up_and_sends()

    @rule()
    def a_stalled_worker_is_killed(self) -> None:
        if self.stalled:
            self.stalled.pop()

    @rule(seconds=st.sampled_from([1, 61, 600, 4000]))
    def time_passes(self, seconds: int) -> None:
        self.shop.clock.advance(seconds)

    @rule()
    def the_sweep_runs(self) -> None:
        self.shop.runtime.sweep()

    @rule(which=st.integers(0, 100))
    def somebody_retries(self, which: int) -> None:
        if self.operations:
            with contextlib.suppress(StockSyncError):
                self.shop.service.retry(self.operations[which % len(self.operations)], actor="Anna")

    @rule(which=st.integers(0, 100))
    def somebody_cancels(self, which: int) -> None:
        if self.operations:
            operation = self.operations[which % len(self.operations)]
            try:
                self.shop.service.cancel(operation, actor="Anna", reason="no")
                self.cancelled.add(operation)
            except StockSyncError:
                pass

    @invariant()
    def no_promise_is_broken(self) -> None:
        if hasattr(self, "shop"):
            assert self.shop.broken_promises() == []
            assert self.shop.on_hand("A") == ON_HAND - sum(self.deducted.values())

    def teardown(self) -> None:
        if not hasattr(self, "shop"):
            return
        try:
            self.shop.remote.answer = lambda _: DELIVERED
            for _ in range(30):
                self.shop.clock.advance(4000)
                self.shop.runtime.sweep()
                self.shop.drain()
            self.everything_is_told()
        finally:
            self.shop.close()

    def everything_is_told(self) -> None:
        statuses = {operation: self.shop.operation(operation)["status"] for operation in self.operations}
        assert {
            operation for operation, status in statuses.items() if status == "cancelled"
        } == self.cancelled
        assert not {"pending", "processing"} & set(statuses.values())
        for (seller, order_id), (said, accepted) in self.shop.runtime.queries.told().items():
            if accepted is not None:
                assert accepted == said == self.shop.remote.flags[seller, order_id]
        for operation, status in statuses.items():
            if status == "completed":
                assert self.shop.remote.flags[SELLER, self.shop.operation(operation)["order_id"]] is True


def run(fresh_url: Any, examples: int) -> None:
    machine = type("Machine", (ShopMachine,), {"fresh_url": staticmethod(fresh_url)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
        ),
    )


@pytest.mark.timeout(240)
def test_random_shops_on_sqlite(tmp_path_factory: pytest.TempPathFactory) -> None:
    run(lambda: f"sqlite:///{tmp_path_factory.mktemp('shop') / 'shop.db'}", 120)


@pytest.mark.timeout(240)
def test_random_shops_on_postgresql(postgres_server: Any) -> None:
    made: list[str] = []

    def fresh() -> str:
        made.append(postgres_server.create_database())
        return str(postgres_server.url(made[-1]))

    try:
        run(fresh, 40)
    finally:
        for name in made:
            postgres_server.drop_database(name)
