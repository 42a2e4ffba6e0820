"""Clean-up: what is long at an end goes, what is not stays, and a repeat months later is known all the same."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from stocksync import (
    InDoubt,
    InventoryManagerWithSync,
    Runtime,
    StockSyncConfig,
    UnknownOperation,
    runtime,
)
from stocksync.queue import tasks
from stocksync.sandbox import Sandbox
from stocksync.store import models
from stocksync.store.cleanup import TOO_LONG, CleanUp
from stocksync.store.database import rows_of
from tests.shop import REFUSED, SELLER, START, WAREHOUSE, Clock, Shop, form, goods, later, open_shop

DAY = 86400


@pytest.fixture
def shop(database_url: str) -> Iterator[Shop]:
    with open_shop(database_url) as opened:
        opened.stock(A=10, B=5)
        yield opened


def clean(shop: Shop, days: float = 31, *, dry_run: bool = False) -> dict[str, Any]:
    shop.clock.advance(days * DAY)
    return shop.runtime.periodic.cleanup(dry_run=dry_run)


def count(shop: Shop, model: Any) -> int:
    with shop.runtime.database.scope():
        return int(model.select().count())


def execute(shop: Shop, sql: str) -> None:
    with shop.runtime.database.transaction_scope():
        shop.runtime.database.execute_sql(sql)


def everything(shop: Shop) -> dict[str, list[Any]]:
    with shop.runtime.database.scope():
        return {model._meta.table_name: sorted(map(repr, model.select().tuples())) for model in models.MODELS}


class Silent:
    """An inventory of which nobody knows what it did."""

    def remove_as_sale(self, sku: str, warehouse: str, quantity: int) -> None:
        raise TimeoutError


def sell(shop: Shop, **more: Any) -> Any:
    """A form, taken out of our stock; answers with its operation."""
    (operation,) = shop.orders.process_order_stock_update(form(**more)).operations
    return operation


def in_doubt(shop: Shop, order: str = "order-1") -> Any:
    synced = InventoryManagerWithSync(Silent(), shop.service)
    with pytest.raises(InDoubt) as doubt:
        synced.remove_as_sale_with_sync("A", WAREHOUSE, 1, order, SELLER)
    return doubt.value.operation_id


def difference(shop: Shop, status: str, resolved_days_ago: int | None = None) -> None:
    """A difference over order-1, found by a run that ended 100 days ago."""
    now = shop.clock.now
    with shop.runtime.database.transaction_scope():
        run = models.Reconciliation.create(
            id=shop.runtime.new_id(), token_id=SELLER, status="complete", started_at=now, finished_at=now,
            since=now, buckets={}, details={},
        )  # fmt: skip
        models.Discrepancy.create(
            id=shop.runtime.new_id(), run=run, token_id=SELLER, order_id="order-1", kind="missing_remote",
            status=status, first_seen_at=now, last_seen_at=now,
            resolved_at=None if resolved_days_ago is None else now + timedelta(days=100 - resolved_days_ago),
        )  # fmt: skip


# What goes


def delivered(shop: Shop) -> None:
    sell(shop)
    shop.drain()


def delivered_and_given_back(shop: Shop) -> None:
    delivered(shop)
    shop.orders.process_return(goods())
    shop.drain()


def given_up_and_delivered_after_all(shop: Shop) -> None:
    shop.remote.answer = lambda _: REFUSED
    operation = sell(shop)
    for _ in range(5):
        shop.drain()
        shop.clock.advance(4000)
    assert shop.operation(operation)["status"] == "failed"
    shop.remote.answer = type(shop.remote)().answer
    shop.service.retry(operation, actor="Anna")
    shop.drain()


def recorded_without_our_stock(shop: Shop) -> None:
    shop.deduct(quantity=2)
    shop.drain()


def put_back(shop: Shop) -> None:
    shop.service.cancel(sell(shop), actor="Anna", reason="no", put_back=True)


def denied_by_another_inventory(shop: Shop) -> None:
    shop.service.confirm(in_doubt(shop, "order-3"), False, actor="Anna")


def cancelled_though_told(shop: Shop) -> None:
    shop.deduct(quantity=2)
    shop.drain()
    shop.service.cancel(shop.deduct(), actor="Anna", reason="no")


def adjusted_with_a_long_sku(shop: Shop) -> None:
    for order in ("order-1", None):
        if order:
            recorded_without_our_stock(shop)
        shop.service.sync_stock_adjustment(SELLER, order, "S" * 200, 1, "W" * 200, reason="r", actor="a")
    shop.drain()


def of_a_difference_long_gone(shop: Shop) -> None:
    delivered(shop)
    difference(shop, "gone", 100)


@pytest.mark.parametrize(
    "happens",
    [
        delivered,
        delivered_and_given_back,
        given_up_and_delivered_after_all,
        recorded_without_our_stock,
        put_back,
        denied_by_another_inventory,
        cancelled_though_told,
        adjusted_with_a_long_sku,
        of_a_difference_long_gone,
    ],
)
def test_what_is_at_an_end_goes_after_thirty_days_and_the_ledger_still_adds_up(
    shop: Shop, happens: Callable[[Shop], None]
) -> None:
    happens(shop)
    kept = [models.Order, models.OrderLine, models.Movement, models.Level, models.IdempotencyKey]
    before = [count(shop, model) for model in kept]
    operations, logs = len(shop.statuses()), count(shop, models.StockSynchronizationLog)

    early, report = clean(shop, 29), clean(shop, 2)

    assert (early["operations"], early["logs"]) == (0, 0)
    assert (report["operations"], report["logs"], report["more"]) == (operations, logs, False)
    assert (shop.statuses(), count(shop, models.StockSynchronizationLog)) == ([], 0)
    assert [count(shop, model) for model in kept] == before
    assert shop.broken_promises() == []


def test_what_was_pruned_is_recorded_as_its_line_counts_it(shop: Shop) -> None:
    put_back(shop)
    denied_by_another_inventory(shop)
    sell(shop, order_id="order-2", lines={"line-1": ("B", 3)})
    shop.drain()
    clean(shop)

    with shop.runtime.database.scope():
        rows = models.Pruned.select().order_by(models.Pruned.operation_id).dicts()
        written = [
            (row["line_item_id"], row["operation_type"], row["quantity"], row["moves_stock"]) for row in rows
        ]
    assert written == [("line-1", "deduction", 0, True), ("line-1", "deduction", 3, True)]


# What stays


def pending(shop: Shop) -> None:
    sell(shop)


def processing(shop: Shop) -> None:
    sell(shop)
    until = shop.clock.now + timedelta(days=60)
    shop.runtime.deliveries.claim(SELLER, 1, uuid4(), shop.clock.now, until)


def failed(shop: Shop) -> None:
    shop.remote.answer = lambda _: REFUSED
    sell(shop)
    for _ in range(5):
        shop.drain()
        shop.clock.advance(4000)


def unanswered(shop: Shop) -> None:
    in_doubt(shop)


def cancelled_of_an_order_that_was_never_told(shop: Shop) -> None:
    shop.service.cancel(sell(shop), actor="Anna", reason="no")


def of_an_order_on_its_way_again(shop: Shop) -> None:
    delivered(shop)
    shop.clock.advance(40 * DAY)
    shop.orders.process_order_stock_update(later({"line-1": ("A", 2)}))


def of_an_order_that_differs(shop: Shop) -> None:
    delivered(shop)
    execute(shop, "UPDATE stock_sync_orders SET remote_flag = FALSE")


def of_an_order_that_the_remote_alone_has(shop: Shop) -> None:
    put_back(shop)
    execute(shop, "UPDATE stock_sync_orders SET remote_flag = TRUE")


def of_an_open_difference(shop: Shop) -> None:
    delivered(shop)
    difference(shop, "open")


def delivered_after_a_long_time(shop: Shop) -> None:
    sell(shop)
    shop.clock.advance(40 * DAY)
    shop.drain()
    shop.clock.advance(-2 * DAY)


@pytest.mark.parametrize(
    "happens",
    [
        pending,
        processing,
        failed,
        unanswered,
        cancelled_of_an_order_that_was_never_told,
        of_an_order_on_its_way_again,
        of_an_order_that_differs,
        of_an_order_that_the_remote_alone_has,
        of_an_open_difference,
        delivered_after_a_long_time,
    ],
)
def test_what_is_not_at_an_end_stays_with_all_its_logs(shop: Shop, happens: Callable[[Shop], None]) -> None:
    happens(shop)
    before = everything(shop)

    report = clean(shop)

    assert (report["operations"], report["logs"], report["keys"]) == (0, 0, 0)
    assert everything(shop) == before


def test_on_postgresql_an_order_that_somebody_holds_keeps_its_operations(postgres_url: str) -> None:
    with open_shop(postgres_url) as shop:
        shop.stock(A=10)
        delivered(shop)
        with shop.runtime.database.transaction_scope(), ThreadPoolExecutor(1) as pool:
            shop.service.recorder.lock_order(SELLER, "order-1")
            held = pool.submit(clean, shop).result(30)
        free = clean(shop, 0)

        assert (held["operations"], free["operations"]) == (0, 1)


# What comes months later


def test_a_repeated_event_deducts_nothing(shop: Shop) -> None:
    first = shop.deduct("order-2", "A", 2, line_item_id="7")
    delivered(shop)
    shop.drain()
    clean(shop, 200)

    assert shop.orders.process_order_stock_update(form()).status == "already_updated"
    assert shop.orders.process_order_stock_update(form(revision="r2")).operations == ()
    assert shop.deduct("order-2", "A", 2, line_item_id="7") == first
    assert (shop.on_hand("A"), shop.statuses()) == (9, [])
    assert shop.broken_promises() == []


def test_a_repeated_call_for_a_line_that_came_back_in_full_deducts_nothing(shop: Shop) -> None:
    """Its line would have room again: the key alone stops it."""
    delivered_and_given_back(shop)
    synced = shop.runtime.inventory_with_sync
    clean(shop, 200)

    again = synced.remove_as_sale_with_sync("A", WAREHOUSE, 1, "order-1", SELLER, line_item_id="line-1")

    assert (again.success, again.status, shop.on_hand("A"), shop.statuses()) == (True, None, 10, [])


def test_a_return_half_a_year_later_finds_its_sale_once(shop: Shop) -> None:
    delivered(shop)
    clean(shop, 200)

    assert shop.orders.process_return(goods()).status == "queued"
    shop.drain()
    assert (shop.on_hand("A"), shop.flag()) == (10, False)
    clean(shop, 200)
    assert shop.orders.process_return(goods()).status == "already_returned"
    assert (shop.on_hand("A"), shop.statuses()) == (10, [])
    assert shop.broken_promises() == []


def test_keys_of_callers_outlive_their_operations_by_months_and_those_that_moved_stock_for_good(
    shop: Shop,
) -> None:
    synced = shop.runtime.inventory_with_sync
    shop.deduct("order-2", idempotency_key="recorded")
    shop.deduct("order-3", idempotency_key="never delivered")
    execute(shop, "UPDATE stock_sync_orders SET due_at = NULL WHERE order_id = 'order-3'")
    synced.remove_as_sale_with_sync("A", WAREHOUSE, 1, "order-1", SELLER, idempotency_key="ours")
    shop.drain()

    assert [clean(shop, days)["keys"] for days in (31, 58, 2)] == [0, 0, 1]
    with shop.runtime.database.scope():
        keys = sorted(row.key for row in models.IdempotencyKey.select())
    assert keys == ["call:never delivered", "call:ours"]
    assert synced.remove_as_sale_with_sync(
        "A", WAREHOUSE, 1, "order-1", SELLER, idempotency_key="ours"
    ).success
    assert shop.on_hand("A") == 9


# Reports


def test_finished_reports_alerts_and_runs_go_after_ninety_days(shop: Shop) -> None:
    now, past = shop.clock.now, shop.clock.now + timedelta(days=1)
    alert = {"details": {}, "raised_at": now, "last_seen_at": now}
    run = {"started_at": now, "result": {}}
    rows: list[tuple[Any, dict[str, Any]]] = [
        (models.Alert, alert | {"kind": "over", "resolved_at": past}),
        (models.Alert, alert | {"kind": "untold", "resolved_at": past, "owed": "resolved"}),
        (models.Alert, alert | {"kind": "raised"}),
        (models.TaskRun, run | {"task": "sweep", "status": "done", "finished_at": past}),
        (models.TaskRun, run | {"task": "sweep", "lease_until": past}),
    ]
    with shop.runtime.database.transaction_scope():
        for model, values in rows:
            model.create(id=shop.runtime.new_id(), **values)
    difference(shop, "gone", 100)
    difference(shop, "open")
    difference(shop, "fixed", 1)
    difference(shop, "left", 100)

    early, report = clean(shop, 91), clean(shop, 2)

    kinds = ("discrepancies", "reconciliations", "alerts", "task_runs")
    assert [early[kind] for kind in kinds] == [1, 1, 0, 0]
    assert [report[kind] for kind in kinds] == [0, 0, 1, 1]
    left = (models.Discrepancy, models.Reconciliation, models.Alert, models.TaskRun)
    assert [count(shop, model) for model in left] == [3, 3, 2, 1]


# Batches


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

        def trade(seller: int) -> list[str]:
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
            wrong = [fault for faults in pool.map(trade, range(3)) for fault in faults]
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
                while not rows_of(database.execute_sql(waits)):
                    assert not click.done()
                for table, column in (
                    ("stock_synchronization_logs", "operation_id"),
                    ("pending_stock_operations", "id"),
                ):
                    database.execute_sql(f"DELETE FROM {table} WHERE {column} = '{operation}'")
            with pytest.raises(UnknownOperation):
                click.result(30)
