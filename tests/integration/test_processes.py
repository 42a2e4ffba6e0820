"""Worker and scheduler as processes: they stop cleanly, and killing them loses and doubles nothing."""

from __future__ import annotations

import json
import signal
import time
from datetime import datetime
from pathlib import Path

import pytest
from redis import Redis

from benchmarks.shop import LANE, fill
from stocksync.queue.wakeups import StockSyncJob
from stocksync.sandbox import Sandbox
from stocksync.store.database import open_database
from tests.processes import Processes
from tests.quick_processes import QUICK, flagged, take_orders
from tests.servers import wait_until
from tests.shop import SELLER, form


def test_an_order_is_delivered_within_moments_of_being_taken(quick_shop: Processes, sandbox: Sandbox) -> None:
    quick_shop.start("jobs.worker")
    take_orders(quick_shop, range(1))

    wait_until(lambda: flagged(sandbox) == {"order-0"}, message="the order's flag")


def test_a_failure_comes_back_through_the_scheduler(
    tmp_path: Path, sqlite_url: str, redis_url: str, sandbox: Sandbox
) -> None:
    settings = QUICK | {"STOCK_SYNC_SWEEP_INTERVAL_SECONDS": "300"}  # so that it is not the sweep's doing
    with Processes(tmp_path, sqlite_url, redis_url, sandbox, **settings) as shop:
        shop.command("stock", "import", "-", text="sku,warehouse,quantity\nA,Ирина,100\n")
        shop.start("jobs.worker")
        shop.start("jobs.scheduler")
        wait_until(lambda: "periodic task" in shop.logs(), message="the scheduler")
        sandbox.set_faults(not_success_share=1.0)
        take_orders(shop, range(1))
        wait_until(lambda: sandbox.stats()["requests"].get("PUT", 0) >= 2, timeout=20, message="a retry")
        sandbox.set_faults(not_success_share=0.0)
        shop.wait_for_rest()

        (operation,) = shop.command("operations", "list")["operations"]
        assert (operation["status"], operation["retry_count"] >= 1) == ("completed", True)


@pytest.mark.pgbouncer
def test_killed_in_mid_delivery_it_loses_and_doubles_nothing(quick_shop: Processes, sandbox: Sandbox) -> None:
    sandbox.set_faults(latency_ms=60)
    take_orders(quick_shop, range(150))
    worker = quick_shop.start("jobs.worker")
    wait_until(lambda: len(flagged(sandbox)) >= 40, message="some deliveries")
    quick_shop.end(worker, signal.SIGKILL)
    left = len(flagged(sandbox))
    assert left < 150

    sandbox.set_faults(latency_ms=0)
    quick_shop.start("jobs.worker")
    quick_shop.start("jobs.scheduler")
    quick_shop.wait_for_rest()

    assert flagged(sandbox) == {f"order-{number}" for number in range(150)}
    assert all(row["history"] == [True] for row in sandbox.orders())
    assert quick_shop.command("operations", "list", "--status", "completed")["total"] == 150
    assert quick_shop.command("stock", "show", "A")["units"] == 100000 - 150
    assert quick_shop.command("audit")["findings"] == []


def test_sigterm_ends_the_worker_in_time_and_strands_nothing(quick_shop: Processes, sandbox: Sandbox) -> None:
    sandbox.set_faults(latency_ms=100)
    take_orders(quick_shop, range(200))
    worker = quick_shop.start("jobs.worker")
    wait_until(lambda: len(flagged(sandbox)) >= 20, message="some deliveries")
    started = time.monotonic()

    assert quick_shop.end(worker) == 0
    assert time.monotonic() - started < 10
    assert quick_shop.command("status")["operations"]["processing"] == 0
    assert quick_shop.command("audit")["ok"]
    assert len(flagged(sandbox)) == quick_shop.command("status")["operations"]["completed"] < 200


@pytest.mark.parametrize("module", ["jobs.worker", "jobs.scheduler"])
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_an_idle_process_stops_at_once_on_sigterm(quick_shop: Processes, redis_url: str, module: str) -> None:
    process = quick_shop.start(module)
    words = {"jobs.worker": "Listening", "jobs.scheduler": "periodic task"}
    wait_until(lambda: words[module] in quick_shop.logs(), message="the process")

    assert quick_shop.end(process) == 0
    assert "Traceback" not in quick_shop.logs()


def test_two_workers_share_a_lane_and_tell_each_order_once(quick_shop: Processes, sandbox: Sandbox) -> None:
    sandbox.set_faults(latency_ms=40)
    take_orders(quick_shop, range(200))
    quick_shop.start("jobs.worker")
    quick_shop.start("jobs.worker")
    quick_shop.command("sweep")
    quick_shop.command("sweep")
    quick_shop.wait_for_rest()

    assert {row["order_id"]: row["history"] for row in sandbox.orders()} == {
        f"order-{number}": [True] for number in range(200)
    }
    assert sandbox.stats()["requests"]["PUT"] == 200


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_plain_rq_worker_runs_the_jobs_too(quick_shop: Processes, sandbox: Sandbox) -> None:
    import subprocess
    import sys

    take_orders(quick_shop, range(10))
    done = subprocess.run(
        [sys.executable, "-m", "rq.cli", "worker", "--serializer", "json", "--burst", "--url",
         quick_shop.environment["REDIS_URL"], "stock-sync"],
        env=quick_shop.environment, cwd=quick_shop.folder, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    assert len(flagged(sandbox)) == 10


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_job_tells_what_it_did(quick_shop: Processes, sandbox: Sandbox, redis_url: str) -> None:
    quick_shop.start("jobs.worker")
    take_orders(quick_shop, range(4))
    redis = Redis.from_url(redis_url)
    wait_until(lambda: redis.zcard("rq:finished:stock-sync") >= 1, message="a finished job")
    quick_shop.wait_for_rest()
    ids: list[bytes] = redis.zrange("rq:finished:stock-sync", 0, -1)  # type: ignore[assignment]
    found = [StockSyncJob.fetch(job_id.decode(), connection=redis) for job_id in ids]

    assert all(SELLER in (job.description or "") for job in found)
    assert sum((job.return_value() or {})["delivered"] for job in found) == 4


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux's account of memory")
def test_an_idle_worker_stays_under_sixty_megabytes(quick_shop: Processes) -> None:
    worker = quick_shop.start("jobs.worker")
    wait_until(lambda: "Listening" in quick_shop.logs(), message="the worker")
    rollup = Path(f"/proc/{worker.pid}/smaps_rollup").read_text()

    proportional = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    assert proportional < 60 * 1024


def test_a_large_seller_delays_a_small_one_by_no_more_than_two_slices(
    tmp_path: Path, sqlite_url: str, redis_url: str, sandbox: Sandbox
) -> None:
    sandbox.set_faults(latency_ms=10)
    settings = QUICK | {"STOCK_SYNC_DELIVERY_SLICE_SECONDS": "1", "STOCK_SYNC_SWEEP_INTERVAL_SECONDS": "300"}
    with Processes(tmp_path, sqlite_url, redis_url, sandbox, **settings) as shop:
        shop.command("stock", "import", "-", text="sku,warehouse,quantity\nA,Ирина,100000\n")
        database = open_database(sqlite_url)
        fill(database, 10_000)
        database.close_all()
        shop.command("sweep")
        shop.start("jobs.worker")
        wait_until(lambda: flagged(sandbox), message="the large seller's first delivery")
        shop.command("orders", "process", "-", text=json.dumps(form("small", token_id="small")))
        wait_until(lambda: "small" in flagged(sandbox), timeout=30, message="the small seller's delivery")
        # Orders told while the small one waited, by the remote's own clock; a slice by the job's own account.
        listed = shop.command("operations", "list", "--order", "small")
        told = {row["order_id"]: datetime.fromisoformat(row["updated_at"]) for row in sandbox.orders()}
        recorded = datetime.fromisoformat(listed["operations"][0]["created_at"])
        before = sum(recorded <= moment < told["small"] for moment in told.values())
        redis = Redis.from_url(redis_url)
        ids: list[bytes] = redis.zrange("rq:finished:stock-sync", 0, -1)  # type: ignore[assignment]
        reports = [StockSyncJob.fetch(raw.decode(), connection=redis).return_value() or {} for raw in ids]
    a_slice = max(report["delivered"] for report in reports if report.get("lane") == LANE)

    assert 1 < a_slice < 10_000
    assert recorded < told["small"]
    assert before <= 2.5 * a_slice  # one under way, one that was queued already, and what was on its way


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_every_periodic_task_runs_by_itself_and_is_recorded(quick_shop: Processes, sandbox: Sandbox) -> None:
    quick_shop.start("jobs.worker")
    quick_shop.start("jobs.scheduler")

    def done() -> bool:
        tasks = quick_shop.command("status")["tasks"]
        return all(task["last"] and task["last"]["status"] == "done" for task in tasks)

    wait_until(done, timeout=30, message="a run of every task")
    names = {task["task"] for task in quick_shop.command("status")["tasks"]}
    assert names == {"sweep", "reconcile", "monitor", "cleanup"}
    assert quick_shop.command("alerts", "list")["alerts"] == []
