"""A monolith to test with: its own tables and sessions of SQLAlchemy beside our shop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import sqlmodel
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from stocksync import SyncResult
from stocksync.contrib.sqlalchemy import SessionSync, with_session
from tests.shop import SELLER, Shop

DRIVERS = ("sqlite+pysqlite", "postgresql+psycopg", "postgresql+psycopg2")
BEHIND_PGBOUNCER = "pgbouncer+psycopg"


class Sale(sqlmodel.SQLModel, table=True):
    """A row of the caller's own."""

    id: int | None = sqlmodel.Field(default=None, primary_key=True)
    order_id: str = sqlmodel.Field(unique=True)


@dataclass
class Monolith:
    """Somebody's program with its own engine on the shop's database."""

    shop: Shop
    engine: Engine
    session_class: type[Session]

    def open(self) -> Session:
        return self.session_class(self.engine)

    def sync(self, session: Session) -> SessionSync:
        return with_session(session, self.shop.runtime)

    def deduct(self, session: Session, order_id: str = "order-1", **given: Any) -> SyncResult:
        call: dict[str, Any] = {"sku": "A", "quantity": 1, "line_item_id": "line-1"} | given
        return self.sync(session).service.sync_stock_deduction(SELLER, order_id, **call)

    def sold(self) -> list[str]:
        """The orders of its own rows, as others see them."""
        with self.open() as session:
            return list(session.execute(text("SELECT order_id FROM sale ORDER BY order_id")).scalars())

    def seen(self) -> tuple[list[str], list[str], list[str]]:
        """(its own rows, statuses of operations, lanes woken), after the fact."""
        return self.sold(), self.shop.statuses(), self.shop.wakeups.woken


NOTHING: tuple[list[str], list[str], list[str]] = ([], [], [])
ALL_OF_ONE = (["order-1"], ["pending"], [SELLER])


def url_of(request: pytest.FixtureRequest, driver: str) -> str:
    """The URL of a new, empty database, without a driver."""
    kind = driver.split("+", maxsplit=1)[0].replace("postgresql", "postgres")
    url: str = request.getfixturevalue(f"{kind}_url")
    return url
