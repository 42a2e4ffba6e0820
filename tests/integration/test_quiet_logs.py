"""What processes log while Redis, the database or the remote is away: a line when that begins, a line when it ends."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from redis import Redis

from stocksync.queue.wakeups import TASKS, make_queue
from stocksync.sandbox import Sandbox
from tests.processes import Processes
from tests.servers import PostgresServer, RedisServer, wait_until
from tests.shop import form

SETTINGS = {
    "STOCK_SYNC_SWEEP_INTERVAL_SECONDS": "1",
    "STOCK_SYNC_CALLER_REDIS_PAUSE": "1",
    "STOCK_SYNC_MICROSERVICE_TIMEOUT": "2",
    "STOCK_SYNC_DELIVERY_LEASE_SECONDS": "4",
}
BEGIN = {
    "Redis": "Redis does not answer",
    "database": "the database does not answer",
    "remote": "the remote does not serve us",
}
END = {
    "Redis": "Redis answers again",
    "database": "the database answers again",
    "remote": "the remote answers again",
}
# Every line that may stand in the log of a process that nothing is wrong with.
ORDINARY = re.compile(
    r"(worker|scheduler) (started|stopped)$"
    r"|periodic task periodic-\w+ is scheduled: "
    r"|\d+ delivered, \d+ to retry, \d+ failed in "
    r"|sweep: \d+ orders rescued, \d+ lanes woken$"
    r"|reconciliation \w+: "
    r"|not delivered \("
    # RQ's
    r"|Worker \w+: started with PID |Worker \w+: (un)?subscribing (to|from) channel |\*\*\* Listening on stock-sync\.\.\.$"
    r"|Worker \w+: cleaning (group )?registries|Worker \w+ \[PID \d+\]: warm shut down requested$"
    r"|Worker \w+: stopping on request$"
    r"|Worker \w+: stock-sync: .+ \(\S+\)$|Successfully completed .+ job in "
)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(token="sandbox") as running:
        yield running


@contextmanager
def refusing_postgres(server: PostgresServer, url: str) -> Iterator[None]:
    """A server that ends every connection to the database, and takes no more."""
    name = url.rpartition("/")[2]
    with psycopg.connect(server.url("postgres"), autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        try:
            yield
        finally:
            admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


@contextmanager
def stocked(folder: Path, database_url: str, redis_url: str, sandbox: Sandbox) -> Iterator[Processes]:
    with Processes(folder, database_url, redis_url, sandbox, **SETTINGS) as shop:
        shop.command("stock", "import", "-", text="sku,warehouse,quantity\nA,Ирина,1000\n")
        yield shop


def fail_by_ourselves(redis_url: str) -> None:
    """A job that can't run: that is no outage."""
    queue = make_queue(Redis.from_url(redis_url), "stock-sync")
    queue.enqueue(f"{TASKS}deliver_lane", description="a lane without its name")


def take_orders(shop: Processes, numbers: range) -> None:
    """As a caller does, who must not mind that Redis is away."""
    forms = "\n".join(json.dumps(form(f"order-{number}")) for number in numbers)
    assert shop.command("orders", "process", "-", text=forms)["queued"] == len(numbers)


def said(log: Path, word: str) -> int:
    return log.read_text(errors="replace").count(word)


def wait_for(log: Path, words: str, times: int = 1) -> None:
    wait_until(
        lambda: said(log, words) >= times, timeout=20, message=lambda: f"{words} in\n{log.read_text()}"
    )


def wait_for_both(log: Path, other: Path, words: str, times: int = 1) -> None:
    wait_for(log, words, times)
    wait_for(other, words, times)


def notable(log: Path) -> list[str]:
    """What a log says but for its ordinary lines, without times and levels."""
    lines = [line.split(maxsplit=2)[2] for line in log.read_text(errors="replace").splitlines()]
    return [line for line in lines if not ORDINARY.match(line)]


def assert_each_is_two_lines(lines: list[str], outages: list[str]) -> None:
    """Those of the outages say what they should, and one line comes after them: our own fault, with its traceback."""
    expected = [words[thing] for thing in outages for words in (BEGIN, END)]
    assert [line[: len(start)] for line, start in zip(lines, expected, strict=False)] == expected, lines
    (fault,) = lines[len(expected) :]
    assert "deliver_lane() missing 1 required positional argument" in fault
    assert fault.count("Traceback") == 1
    for line in lines[: len(expected) : 2]:
        assert "nothing is lost" in line
    for line in lines[1 : len(expected) : 2]:
        assert re.search(r", after \d+:\d\d:\d\d \(since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\)$", line)


def test_each_outage_is_a_line_at_its_begin_and_one_at_its_end_and_only_a_fault_of_ours_has_a_traceback(
    tmp_path: Path,
    redis_server: RedisServer,
    redis_url: str,
    postgres_server: PostgresServer,
    postgres_url: str,
    sandbox: Sandbox,
) -> None:
    with stocked(tmp_path, postgres_url, redis_url, sandbox) as shop:
        worker, scheduler = shop.start("jobs.worker"), shop.start("jobs.scheduler")
        log, scheduled = tmp_path / "jobs.worker-0.log", tmp_path / "jobs.scheduler-1.log"
        wait_for(log, "Listening")

        sandbox.set_faults(latency_ms=100)
        take_orders(shop, range(60))
        wait_until(sandbox.orders, message="the first delivery")
        redis_server.kill()  # in the middle of a job
        wait_for_both(log, scheduled, BEGIN["Redis"])
        take_orders(shop, range(60, 70))
        redis_server.start()
        sandbox.set_faults(latency_ms=0)
        wait_for_both(log, scheduled, END["Redis"])
        shop.wait_for_rest()

        redis_server.stop()  # while nothing is to be done
        wait_for_both(log, scheduled, BEGIN["Redis"], 2)
        time.sleep(1)
        redis_server.start()
        wait_for(log, END["Redis"], 2)

        with refusing_postgres(postgres_server, postgres_url):
            wait_for(log, BEGIN["database"])
            time.sleep(2)  # a sweep a second fails meanwhile
        wait_for(log, END["database"])

        sandbox.refuse()
        take_orders(shop, range(70, 80))
        wait_for(log, BEGIN["remote"])
        sandbox.accept()
        wait_for(log, END["remote"])
        shop.wait_for_rest()

        fail_by_ourselves(redis_url)
        wait_for(log, "Traceback")
        assert [shop.end(worker), shop.end(scheduler)] == [0, 0]

    assert_each_is_two_lines(notable(log), ["Redis", "Redis", "database", "remote"])
    assert said(log, "Traceback") == 1
    told = notable(scheduled)
    assert [line[:15] for line in told] == ["Redis does not ", "Redis answers a"] * 2
