"""Cleaning up, and what is there to be cleaned up, to test with."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from stocksync.store import models
from tests.shop import SELLER, Shop, form, goods

DAY = 86400


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


def sell(shop: Shop, **more: Any) -> Any:
    """A form, taken out of our stock; answers with its operation."""
    (operation,) = shop.orders.process_order_stock_update(form(**more)).operations
    return operation


def difference(shop: Shop, status: str, resolved_days_ago: int | None = None) -> None:
    """A difference over order-1, found by a run that ended 100 days ago."""
    now = shop.clock.now
    with shop.runtime.database.transaction_scope():
        run = models.Reconciliation.create(
            id=shop.runtime.new_id(), token_id=SELLER, status="complete", started_at=now, finished_at=now,
            since=now, buckets={}, details={},
        )  # fmt: skip
        models.Discrepancy.create(
            id=shop.runtime.new_id(), run_id=run, token_id=SELLER, order_id="order-1", kind="missing_remote",
            status=status, first_seen_at=now, last_seen_at=now,
            resolved_at=None if resolved_days_ago is None else now + timedelta(days=100 - resolved_days_ago),
        )  # fmt: skip


def delivered(shop: Shop) -> None:
    sell(shop)
    shop.drain()


def delivered_and_given_back(shop: Shop) -> None:
    delivered(shop)
    shop.orders.process_return(goods())
    shop.drain()
