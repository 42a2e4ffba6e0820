"""Many callers at once on the same SKUs and orders: no deadlock reaches them, and every promise holds."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from stocksync import StockSyncError
from tests.shop import SELLER, WAREHOUSE, Shop, form, goods, listed, open_shop

pytestmark = pytest.mark.pgbouncer

SKUS = [f"S{number}" for number in range(6)]


@pytest.fixture
def shop(database_url: str) -> Iterator[Shop]:
    with open_shop(database_url) as opened:
        for warehouse in (WAREHOUSE, "Lublin"):
            opened.runtime.inventory.set_on_hand(dict.fromkeys(SKUS, 1000), warehouse)
        yield opened


def one_of_everything(shop: Shop, seed: int) -> list[str]:
    """Forms, revisions, returns, cancellations, put-backs, counts and deliveries in random order; what went wrong."""
    rng, wrong = random.Random(seed), []
    for step in range(25):
        order = f"order-{rng.randrange(6)}"
        lines: dict[str, tuple[str | None, int]] = {
            str(number): (rng.choice(SKUS), rng.randint(1, 3)) for number in range(rng.randint(1, 4))
        }
        time = f"2026-03-01T{step:02}:{seed:02}:00Z"
        revision = form(order, lines, revision=f"{seed}-{step}", updated_at=time)
        act = rng.choice("FFFRCPNAD")
        try:
            if act == "F":
                shop.orders.process_order_stock_update(revision, rng.choice([WAREHOUSE, "Lublin"]))
            elif act == "R":
                shop.orders.process_return(goods(f"{seed}-{step}", "0", rng.choice(SKUS), 1, order))
            elif act == "C" and step > 15:
                shop.orders.cancel_order(order, SELLER)
            elif act == "P":
                rows = listed(shop.runtime, order_id=order, status="pending")[:1]
                for row in rows:
                    shop.service.cancel(row["id"], actor="Anna", reason="no", put_back=True)
            elif act == "N":
                shop.runtime.inventory.set_on_hand({rng.choice(SKUS): 900 + step}, WAREHOUSE)
            elif act == "A":
                shop.service.sync_stock_adjustment(SELLER, order, "S0", 1, reason="r", actor="a")
            else:
                shop.drain()
        except StockSyncError:
            pass  # refused in words
        except Exception as error:
            wrong.append(f"{act}: {type(error).__name__}: {error}")
        finally:
            if not shop.runtime.database.is_closed():
                shop.runtime.database.close()
    return wrong


@pytest.mark.timeout(180)
def test_no_deadlock_reaches_any_of_many_callers(shop: Shop) -> None:
    with ThreadPoolExecutor(8) as pool:
        wrong = [
            fault
            for faults in pool.map(lambda seed: one_of_everything(shop, seed), range(8))
            for fault in faults
        ]

    assert wrong == []
    assert shop.broken_promises() == []
