"""Random sequences of calls, failures, crashes and clicks against a simple model: stock, orders and remote agree."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test

from stocksync import StockSyncError
from stocksync.store.cleanup import CleanUp
from stocksync.store.models import PendingStockOperation
from tests.memory import quick_folder
from tests.shop import DELIVERED, NO_ANSWER, REFUSED, SELLER
from tests.simulation.caller import CALLS, Caller


class ShopMachine(Caller):
    """The real shop and its model, side by side: workers, the remote and a person beside the calls."""

    # Workers

    @rule(answer=st.sampled_from([DELIVERED, REFUSED, NO_ANSWER]), applies=st.booleans())
    def a_worker_runs(self, answer: Any, applies: bool) -> None:
        self.shop.remote.answer = lambda _: answer
        self.shop.remote.applies_before_failing = applies
        self.shop.drain()

    @rule(limit=st.integers(1, 3))
    def a_worker_claims_and_stalls(self, limit: int) -> None:
        self.stalled.append(self.shop.runtime.deliveries.claim(SELLER, limit))

    @rule()
    def a_stalled_worker_wakes_up_and_sends(self) -> None:
        if self.stalled:
            taken = self.stalled.pop()
            for order in taken:
                self.shop.remote.flags[SELLER, order.order_id] = order.is_stock_updated
                order.duration_ms = 5
            self.shop.runtime.deliveries.settle(taken, self.shop.clock.now)

    @rule(order=CALLS, back=st.booleans())
    def a_call_comes_while_a_worker_sends(self, order: str, back: bool) -> None:
        self.the_monolith_calls(order, 1)
        self.a_worker_claims_and_stalls(3)
        if back:
            self.goods_come_back(order, "1", 1, "C")
        else:
            self.an_order_is_cancelled(order, by_form=False)
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
        self.shop.runtime.periodic.sweep()

    @rule()
    def old_operations_are_cleaned_up(self) -> None:
        """By somebody whose clock is months ahead: all that is at an end counts as old."""
        before, database = self.statuses(), self.shop.runtime.database
        now = self.shop.clock.now + timedelta(days=91)
        with database.scope():
            CleanUp(replace(self.shop.runtime.context, clock=lambda: now)).run(wait=lambda _: False)
        gone = before.keys() - self.statuses().keys()
        assert {before[operation] for operation in gone} <= {"completed", "cancelled"}
        self.operations = [operation for operation in self.operations if operation not in gone]
        self.cancelled -= gone

    def statuses(self) -> dict[UUID, str]:
        with self.shop.runtime.database.scope():
            return {row.id: row.status for row in PendingStockOperation.select()}

    # A person

    @rule(which=st.integers(0, 100))
    def somebody_retries(self, which: int) -> None:
        if self.operations:
            with contextlib.suppress(StockSyncError):
                self.shop.service.retry(self.operations[which % len(self.operations)], actor="Anna")

    @rule(which=st.integers(0, 100), put_back=st.booleans())
    def somebody_cancels(self, which: int, put_back: bool) -> None:
        if not self.operations:
            return
        operation = self.operations[which % len(self.operations)]
        try:
            self.shop.service.cancel(operation, actor="Anna", reason="no", put_back=put_back)
        except StockSyncError:
            return
        self.cancelled.add(operation)
        row = self.shop.operation(operation)
        if put_back:
            line = self.orders[row["order_id"]].lines[row["line_item_id"]]
            assert (row["operation_type"], line[0]) == ("deduction", row["sku"])
            line[2] -= row["quantity"]
            self.stock[row["sku"]] += row["quantity"]
        else:
            self.stopped.add(row["order_id"])

    # What must always hold

    @invariant()
    def no_promise_is_broken(self) -> None:
        if hasattr(self, "shop"):
            assert self.shop.broken_promises() == []
            assert {sku: self.shop.on_hand(sku) for sku in "AB"} == self.stock

    @invariant()
    def what_we_say_is_what_the_model_knows(self) -> None:
        if not hasattr(self, "shop"):
            return
        told = {order: said for (_, order), (said, _) in self.shop.runtime.queries.told().items()}
        in_doubt = {order for order, _, _ in self.doubts.values()}
        for order, model in self.orders.items():
            if order in in_doubt:
                assert order not in told
            else:
                assert bool(told.get(order)) is model.sold

    def teardown(self) -> None:
        if not hasattr(self, "shop"):
            return
        try:
            while self.doubts:
                self.a_doubt_is_settled(done=True)
            self.shop.remote.answer = lambda _: DELIVERED
            for _ in range(3):
                self.shop.clock.advance(4000)
                self.shop.runtime.periodic.sweep()
                self.shop.drain()
            for operation, status in self.statuses().items():  # a person retries what was given up
                if status == "failed":
                    self.shop.service.retry(operation, actor="Anna")
            for _ in range(30):
                self.shop.clock.advance(4000)
                self.shop.runtime.periodic.sweep()
                self.shop.drain()
            self.no_promise_is_broken()
            self.everything_is_told()
        finally:
            self.shop.close()

    def everything_is_told(self) -> None:
        statuses = {operation: self.shop.operation(operation)["status"] for operation in self.operations}
        assert {
            operation for operation, status in statuses.items() if status == "cancelled"
        } == self.cancelled
        assert set(statuses.values()) <= {"completed", "cancelled"}
        for order, model in self.orders.items():
            if order not in self.stopped:
                assert self.shop.remote.flags.get((SELLER, order), False) is model.sold, order


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


@pytest.mark.timeout(300)
def test_random_shops_on_sqlite(migrated_sqlite: Path) -> None:
    folder = quick_folder("stocksync-shops-")
    try:
        run(lambda: f"sqlite:///{shutil.copy(migrated_sqlite, folder / uuid4().hex)}", 60)
    finally:
        shutil.rmtree(folder)


@pytest.mark.timeout(300)
def test_random_shops_on_postgresql(postgres_server: Any, migrated_postgres: str) -> None:
    made: list[str] = []

    def fresh() -> str:
        made.append(postgres_server.create_database(migrated_postgres))
        return str(postgres_server.url(made[-1]))

    try:
        run(fresh, 10)
    finally:
        for name in made:
            postgres_server.drop_database(name)
