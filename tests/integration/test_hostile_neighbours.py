"""Whoever can write to our Redis, and whoever reaches the page's socket: real processes go on, and nothing of theirs is run."""

from __future__ import annotations

import json
import os
import pickle
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from redis import Redis

from stocksync.sandbox import Sandbox
from tests.processes import Processes
from tests.quick_processes import QUICK, flagged, take_orders
from tests.servers import free_port, wait_until

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
QUEUE, SCHEDULED = "rq:queue:stock-sync", "stock-sync:scheduler:scheduled_jobs"
DELIVER = "stocksync.queue.tasks.deliver_lane"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(token="sandbox") as running:
        yield running


@pytest.fixture
def shop(tmp_path: Path, database_url: str, redis_url: str, sandbox: Sandbox) -> Iterator[Processes]:
    with Processes(tmp_path, database_url, redis_url, sandbox, **QUICK) as processes:
        processes.command("stock", "import", "-", text="sku,warehouse,quantity\nA,Ирина,100000\n")
        yield processes


class Dropper:
    """Unpickled, it makes the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def hostile_jobs(canary: Path) -> dict[str, dict[str, Any]]:
    """Id -> the fields of a job's hash."""

    def calls(function: str, *args: Any) -> dict[str, Any]:
        return {"data": json.dumps([function, None, list(args), {}])}

    return {
        "pickled": {"data": pickle.dumps(Dropper(canary))},
        "pickled-as-rq-does": {"data": pickle.dumps(("os.mkdir", None, (str(canary),), {}))},
        "another": calls("os.mkdir", str(canary)),
        "dotted": calls("stocksync.queue.tasks.Runtime.__init__.__globals__.os.mkdir", str(canary)),
        "of-the-module": calls("stocksync.queue.tasks.current"),
        "without-end": calls(DELIVER, "x" * 1_000_000),
        "of-another-type": calls(DELIVER, {"lane": ["a"]}),
        "with-more": calls(DELIVER, "a", "b", 3),
        "with-nothing": calls(DELIVER),
        "no-json": {"data": b"\x80\xff\x00 no job"},
        "no-list": {"data": '"text"'},
        "of-an-instance": {"data": json.dumps(["mkdir", "os", [str(canary)], {}])},
        "callback": {**calls(DELIVER, "a"), "success_callback_name": "os.mkdir", "failure_callback_name": "os.mkdir"},
        "empty": {"origin": "elsewhere"},
        "a-thousand-years": {**calls(DELIVER, "a"), "timeout": "99999999999", "result_ttl": "-1"},
    }  # fmt: skip


def test_hostile_jobs_and_entries_run_nothing_and_stop_nobody(
    shop: Processes, sandbox: Sandbox, redis_url: str, tmp_path: Path
) -> None:
    redis: Any = Redis.from_url(redis_url)
    canary = tmp_path / "canary"
    about = {
        "created_at": "2026-01-01T00:00:00.000000Z",
        "origin": "stock-sync",
        "status": "queued",
        "timeout": 180,
    }
    for number, (id, fields) in enumerate(hostile_jobs(canary).items()):
        redis.hset(f"rq:job:{id}", mapping={**about, **fields})
        redis.hset(f"rq:job:entry-{id}", mapping={**about, **fields})
        redis.rpush(QUEUE, id)
        redis.zadd(SCHEDULED, {f"entry-{id}": number})
    redis.rpush(QUEUE, "of-nobody", b"\xff\xfe")
    redis.zadd(SCHEDULED, {b"\xff\xfe": 1, "../of-nobody": 2})
    processes = [shop.start("jobs.worker"), shop.start("jobs.scheduler")]
    take_orders(shop, range(3))

    wait_until(lambda: len(flagged(sandbox)) == 3, timeout=60, message="the orders behind all that")
    wait_until(lambda: not redis.llen(QUEUE), timeout=60, message="an empty queue")
    assert not canary.exists()
    assert [process.poll() for process in processes] == [None, None]
    assert [shop.end(process) for process in processes] == [0, 0]


def answers(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_clients_that_stall_or_flood_keep_no_other_from_the_page(shop: Processes, sandbox: Sandbox) -> None:
    del sandbox
    port = free_port()
    page = shop.start("stocksync", "web", "--port", str(port))
    wait_until(lambda: answers(port), timeout=30, message="the page")
    with ExitStack() as open_:

        def connected(*sent: bytes) -> socket.socket:
            client = open_.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
            for part in sent:
                client.sendall(part)
            return client

        head = b"POST /login HTTP/1.1\r\nHost: localhost\r\n"
        for _ in range(3):
            connected()  # says nothing
            connected(head)  # and no more
            connected(head + b"Content-Length: 1000\r\n\r\nname=")  # and no more
        started = time.monotonic()
        assert all(answers(port) for _ in range(5))
        assert time.monotonic() - started < 10
        assert page.poll() is None
