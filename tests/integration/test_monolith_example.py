"""The example monolith, run for real: sold over HTTP, delivered by a worker, and the README says what it does.

What needs no process of its own is in the example's own tests, `examples/monolith/test_app.py`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from examples.monolith.app import app
from stocksync import runtime
from stocksync.errors import SchemaBehind
from stocksync.sandbox import Sandbox
from tests.processes import Processes
from tests.servers import wait_until
from tests.shop import form

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "monolith"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(token="sandbox") as running:
        yield running


@pytest.fixture
def processes(
    tmp_path: Path, database_url: str, redis_url: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Processes]:
    """What the Procfile starts beside the web process; the web process of the test has their settings."""
    with Processes(tmp_path, database_url, redis_url, sandbox) as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        yield running


@pytest.fixture
def shop(processes: Processes) -> Iterator[TestClient]:
    with TestClient(app) as client:
        client.put("/stock/A", params={"quantity": 10})
        client.put("/stock/B", params={"quantity": 1})
        yield client


def sell(shop: TestClient, order_id: str, lines: dict[str, tuple[str | None, int]]) -> Any:
    return shop.post("/api/v1/orders/process", json=form(order_id, lines))


def stock(sku: str) -> int:
    database = runtime.current().database
    with database.scope():
        quantity = database.execute_sql(f"SELECT quantity FROM stock WHERE sku = '{sku}'").fetchone()
    return int(quantity[0])


def test_what_is_sold_reaches_the_microservice(
    shop: TestClient, processes: Processes, sandbox: Sandbox
) -> None:
    processes.start("jobs.worker")
    sold = sell(shop, "order-1", {"1": ("A", 3), "2": ("A", 1), "post": (None, 1)})

    assert (sold.status_code, sold.json()["status"]) == (200, "queued")
    assert shop.get("/orders/order-1").json()["is_stock_updated"] is True
    wait_until(sandbox.orders, timeout=30, message=processes.logs)
    processes.wait_for_rest()
    assert [(row["order_id"], row["is_stock_updated"]) for row in sandbox.orders()] == [("order-1", True)]
    assert sandbox.stats()["applied"] == 1
    assert stock("A") == 6
    status = shop.get("/api/v1/stock-sync/status").json()
    assert (status["status"], status["statistics"]["completed_today"]) == ("healthy", 2)
    assert processes.command("audit")["findings"] == []


def test_an_order_that_comes_many_times_at_once_is_sold_once(shop: TestClient) -> None:
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: sell(shop, "order-1", {"1": ("A", 3)}), range(6)))

    assert sorted({answer.status_code for answer in answers}) in ([200], [200, 409])
    assert [answer.json().get("status") for answer in answers].count("queued") == 1
    assert stock("A") == 7


def test_it_sells_while_redis_is_away(
    shop: TestClient, processes: Processes, monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    runtime.use(None)  # the one of `shop` has another Redis
    with TestClient(app) as alone:
        assert sell(alone, "order-1", {"1": ("A", 3)}).json()["status"] == "queued"

    processes.command("deliver")
    assert [row["is_stock_updated"] for row in sandbox.orders()] == [True]


def test_it_does_not_start_on_a_database_that_was_not_migrated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'new'}")
    with pytest.raises(SchemaBehind, match="python -m stocksync migrate"), TestClient(app):
        pass


def test_the_example_imports_nothing_but_what_its_requirements_name() -> None:
    listing = "import sys, examples.monolith.app; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", listing], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60,
        env={"PATH": os.environ["PATH"]},
    ).stdout.split()  # fmt: skip

    assert {"fastapi", "sqlmodel", "stocksync"} <= set(loaded)
    assert not {"pytest", "httpx2", "flask"} & set(loaded)
