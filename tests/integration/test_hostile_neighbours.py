"""Whoever can write to our Redis: real processes go on, nothing of theirs is run, and nobody is asked for them."""

from __future__ import annotations

import json
import os
import pickle
import socket
import zlib
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from stocksync.sandbox import Sandbox
from tests.processes import Processes
from tests.quick_processes import flagged, take_orders
from tests.servers import wait_until

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
QUEUE, SCHEDULED = "rq:queue:stock-sync", "stock-sync:scheduler:scheduled_jobs"
DELIVER = "stocksync.queue.tasks.deliver_lane"


class Dropper:
    """Unpickled, it makes the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


INTRUDER = "import pathlib\npathlib.Path(__file__).with_name('canary').mkdir(exist_ok=True)\ndef come_in(*_, **__): pass\n"
"""A module that the processes can import: whoever does leaves the canary."""


def hostile_jobs(canary: Path, address: str) -> dict[str, dict[Any, Any]]:
    """Id -> the fields of a job's hash. `address`: where nobody may ask."""

    def calls(function: str, *args: Any, **fields: Any) -> dict[Any, Any]:
        return {"data": json.dumps([function, None, list(args), {}]), **fields}

    kinds = ("success_callback_name", "failure_callback_name", "stopped_callback_name")
    callbacks = dict.fromkeys(kinds, "intruder.come_in")
    webhooks = json.dumps(
        [{"url": address, "job_status": status, "method": "POST"} for status in ("finished", "failed")]
    )
    return {
        "pickled": {"data": pickle.dumps(Dropper(canary))},
        "pickled-as-rq-does": {"data": pickle.dumps(("os.mkdir", None, (str(canary),), {}))},
        "pickled-beside": calls(DELIVER, "a", meta=pickle.dumps(Dropper(canary)), result=pickle.dumps(Dropper(canary))),
        "another": calls("os.mkdir", str(canary)),
        "a-module-of-theirs": calls("intruder.come_in"),
        "dotted": calls("stocksync.queue.tasks.Runtime.__init__.__globals__.os.mkdir", str(canary)),
        "dotted-formerly": calls("jobs.periodic.os.mkdir", str(canary)),
        "of-the-module": calls("stocksync.queue.tasks.current"),
        "without-end": calls(DELIVER, "x" * 1_000_000),
        "of-another-type": calls(DELIVER, {"lane": ["a"]}),
        "with-more": calls(DELIVER, "a", "b", 3),
        "with-nothing": calls(DELIVER),
        "no-json": {"data": b"\x80\xff\x00 no job"},
        "no-list": {"data": '"text"'},
        "blown-up": {"data": zlib.compress(b"[" * 64_000_000)},
        "of-an-instance": {"data": json.dumps(["mkdir", "os", [str(canary)], {}])},
        "calls-back": calls(DELIVER, "a", **callbacks),
        "calls-back-in-failure": calls("os.mkdir", str(canary), **callbacks),
        "asks-around": calls(DELIVER, "a", webhooks=webhooks),
        "asks-around-in-failure": calls("os.mkdir", str(canary), webhooks=webhooks),
        "again-and-again": calls(DELIVER, retries_left="1000000", enqueue_at_front_on_retry="1", repeats_left="1000000"),
        "of-another-queue": calls(DELIVER, "a", origin="elsewhere"),
        "waits-for-others": calls(DELIVER, "a", dependency_ids='["../x"]', allow_dependency_failures="x"),
        "empty": {"origin": "elsewhere"},
        "a-thousand-years": calls(DELIVER, "a", timeout="99999999999", result_ttl="-1"),
        "no-time-at-all": calls(DELIVER, "a", timeout="for ever"),
        "no-date": calls(DELIVER, "a", created_at="yesterday"),
        "no-status": calls(DELIVER, "a", status="invincible"),
        "undecodable": {"data": b"\xff", b"\xff\xfe": b"\xff", "description": b"\xff", "origin": b"\xff"},
    }  # fmt: skip


def plant(redis: Any, jobs: dict[str, dict[Any, Any]]) -> None:
    """Have each wait in the queue, stand among the scheduler's entries, and be what a dead worker had begun."""
    for number, (id, fields) in enumerate(jobs.items()):
        about = {"created_at": "2026-01-01T00:00:00.000000Z", "origin": "stock-sync", "status": "queued"}
        redis.hset(f"rq:job:{id}", mapping=about | fields)
        redis.hset(f"rq:job:entry-{id}", mapping=about | fields)
        redis.hset(f"rq:job:begun-{id}", mapping=about | {"status": "started"} | fields)
        redis.rpush(QUEUE, id)
        redis.zadd(SCHEDULED, {f"entry-{id}": number})
        redis.zadd("rq:wip:stock-sync", {f"begun-{id}:of-nobody": 1})
    for id in ("text", "entry-text"):
        redis.set(f"rq:job:{id}", "no hash at all")
    redis.rpush(QUEUE, "of-nobody", "text", b"\xff\xfe")
    redis.zadd(SCHEDULED, {b"\xff\xfe": 1, "../of-nobody": 2, "entry-text": 3})


def test_hostile_jobs_and_entries_run_nothing_and_stop_nobody(
    quick_shop: Processes, sandbox: Sandbox, redis_url: str, tmp_path: Path
) -> None:
    redis: Any = Redis.from_url(redis_url)
    canary = tmp_path / "canary"
    (tmp_path / "intruder.py").write_text(INTRUDER)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        plant(redis, hostile_jobs(canary, f"http://127.0.0.1:{listener.getsockname()[1]}/"))
        processes = [quick_shop.start("jobs.worker"), quick_shop.start("jobs.scheduler")]
        take_orders(quick_shop, range(3))

        wait_until(lambda: len(flagged(sandbox)) == 3, timeout=90, message="the orders behind all that")
        wait_until(lambda: not redis.llen(QUEUE), timeout=60, message="an empty queue")
        with pytest.raises(TimeoutError):  # nobody asked
            listener.accept()
    assert not canary.exists()
    assert [process.poll() for process in processes] == [None, None]
    assert [quick_shop.end(process) for process in processes] == [0, 0]
