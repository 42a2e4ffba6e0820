"""A clean-up beside everything else: in batches that rest, in slices, while orders come and go."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from stocksync import Runtime, StockSyncConfig, UnknownOperation, runtime
from stocksync.queue import tasks
from stocksync.sandbox import Sandbox
from stocksync.store.cleanup import TOO_LONG, CleanUp
from tests.cleaning import DAY, clean, everything, execute, sell
from tests.shop import SELLER, START, Clock, Shop, goods, open_shop


@pytest.fixture
def shop(database_url: str) -> Iterator[Shop]:
    with open_shop(database_url) as opened:
        opened.stock(A=10, B=5)
        yield opened


def test_a_dry_run_counts_what_would_go_and_writes_nothing(shop: Shop) -> None:
    for number in range(70):
        shop.deduct(str(number))
    shop.drain()
    shop.deduct("pending", idempotency_key="x")
    before = everything(shop)

    would = clean(shop, dry_run=True)

    assert everything(shop) == before
    went = clean(shop, 0)
    assert (would["operations"], would["logs"], would["dry_run"]) == (70, 210, True)
    assert {**went, "dry_run": True, "batches": 0, "longest_batch_ms": 0} == {
        **would,
        "batches": 0,
        "longest_batch_ms": 0,
    }


def many(shop: Shop, number: int) -> None:
    """Delivered orders, and between them some that may not go."""
    for order in range(number):
        shop.deduct(str(order))
    shop.drain()
    execute(
        shop,
        "UPDATE stock_sync_orders SET remote_flag = FALSE WHERE substr(order_id, length(order_id)) = '1'",
    )
    shop.clock.advance(31 * DAY)


def batches(shop: Shop, took: float, **more: Any) -> tuple[dict[str, Any], list[float]]:
    """A clean-up whose every batch takes `took` seconds; answers with its report and its pauses."""
    pauses: list[float] = []
    time = iter(took * number for number in range(10_000))

    def wait(seconds: float) -> bool:
        pauses.append(seconds)
        return False

    database = shop.runtime.database
    with database.scope():
        report = CleanUp(shop.runtime.context).run(**{"wait": wait, "monotonic": lambda: next(time), **more})
    return report, pauses


def test_slow_batches_become_small_and_rest_as_long_as_they_took(shop: Shop) -> None:
    many(shop, 150)
    quick, _ = batches(shop, 0.0, dry_run=True)
    slow, pauses = batches(shop, 4 * TOO_LONG)

    assert quick["operations"] == slow["operations"] == 135
    assert slow["batches"] > 2 * quick["batches"]
    assert pauses == pytest.approx([4 * TOO_LONG] * slow["batches"])
    assert (slow["longest_batch_ms"], slow["more"]) == (4000 * TOO_LONG, False)
    assert shop.broken_promises() == []


def test_a_stopped_clean_up_says_that_there_is_more_and_goes_on_where_it_was(shop: Shop) -> None:
    many(shop, 150)
    at_once, _ = batches(shop, 0.0, wait=lambda _: True)
    out_of_time, _ = batches(shop, 1.0, seconds=3.5)

    assert (at_once["more"], at_once["batches"], at_once["operations"]) == (True, 1, 45)
    assert out_of_time["more"]
    rest, _ = batches(shop, 0.0)
    assert rest["more"] is False
    reports = (at_once, out_of_time, rest)
    assert [sum(report[kind] for report in reports) for kind in ("operations", "logs")] == [135, 405]
    others = ("keys", "discrepancies", "reconciliations", "alerts", "task_runs")
    assert all(report[kind] == 0 for report in reports for kind in others)


@pytest.mark.pgbouncer
def test_the_job_does_one_slice_and_queues_the_next(database_url: str, redis_url: str) -> None:
    with open_shop(database_url) as shop:
        many(shop, 120)
    settings = {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "STOCK_SYNC_DELIVERY_SLICE_SECONDS": "0.000001",
    }
    clock = Clock(START + timedelta(days=31))
    at = Runtime(StockSyncConfig.load(settings), clock=clock)
    runtime.use(at)
    try:
        assert tasks.cleanup()["more"]
        assert [job.func_name for job in at.queue().jobs] == ["stocksync.queue.tasks.cleanup"]
        assert "cleanup" in {task["task"] for task in at.periodic.latest()}
    finally:
        runtime.use(None)
        at.close()


# Beside everything else


def trade(shop: Shop, seller: int) -> list[str]:
    """Sell, deliver, take back and cancel; answers with what went wrong."""
    wrong = []
    for step in range(40):
        order = f"{seller}-{step % 20}"
        try:
            if step < 20:
                sell(shop, order_id=order)
            elif step % 4 == 0:
                shop.orders.cancel_order(order, SELLER)
            else:
                shop.orders.process_return(goods(f"return-{order}", order=order))
            shop.drain()
        except Exception as error:
            wrong.append(f"{step}: {type(error).__name__}: {error}")
    return wrong


@pytest.mark.pgbouncer
@pytest.mark.timeout(180)
def test_beside_running_deliveries_and_reconciliation_nothing_is_lost(database_url: str) -> None:
    """Sales, returns, cancellations, deliveries and reconciliation, while all that is at an end is cleaned up at once."""
    with (
        Sandbox(token="sandbox", clock=lambda: START) as remote,
        open_shop(
            database_url,
            ALLEGRO_MICROSERVICE_BASE_URL=remote.url,
            ALLEGRO_MICROSERVICE_JWT_TOKEN="sandbox",
        ) as shop,
    ):
        del shop.runtime.__dict__["sender"]
        shop.stock(A=1000)
        _ = shop.runtime.engine, shop.runtime.reconciliation
        done, database = threading.Event(), shop.runtime.database

        def until_done(act: Callable[[], int]) -> int:
            total = 0
            while True:
                last = done.is_set()
                with database.scope():
                    total += act()
                if last:
                    return total

        def tidy() -> int:
            ahead = replace(shop.runtime.context, clock=lambda: START + timedelta(days=100))
            return int(CleanUp(ahead).run(wait=lambda _: False)["operations"])

        def reconcile() -> int:
            return int(shop.runtime.reconciliation.run(SELLER)["checked"])

        with ThreadPoolExecutor(6) as pool:
            beside = [pool.submit(until_done, act) for act in (tidy, tidy, reconcile)]
            wrong = [fault for faults in pool.map(partial(trade, shop), range(3)) for fault in faults]
            for _ in range(3):
                shop.clock.advance(61)
                shop.runtime.periodic.sweep()
                shop.drain()
            done.set()
            gone, more, compared = (task.result() for task in beside)
        gone += more + tidy()

        assert wrong == []
        assert compared > 0
        assert shop.broken_promises() == []
        assert (gone, shop.statuses(), shop.runtime.tallies.completed()) == (120, [], 0)
        assert shop.on_hand("A") == 1000
        told = {order: bool(ours) for (_, order), (ours, _) in shop.runtime.queries.told().items()}
        assert told == {row["order_id"]: row["is_stock_updated"] for row in remote.orders()}
        assert set(told.values()) == {False}


def test_an_operation_cleaned_up_while_a_person_waits_for_its_order_is_unknown(postgres_url: str) -> None:
    with open_shop(postgres_url) as shop:
        operation = shop.deduct()
        database = shop.runtime.database
        with ThreadPoolExecutor(1) as pool:
            with database.transaction_scope():
                shop.service.recorder.lock_order(SELLER, "order-1")
                click = pool.submit(shop.service.retry, operation, actor="Anna")
                waits = "SELECT 1 FROM pg_locks WHERE NOT granted"
                while not database.execute_sql(waits).fetchall():
                    assert not click.done()
                for table, column in (
                    ("stock_synchronization_logs", "operation_id"),
                    ("pending_stock_operations", "id"),
                ):
                    database.execute_sql(f"DELETE FROM {table} WHERE {column} = '{operation}'")
            with pytest.raises(UnknownOperation):
                click.result(30)
