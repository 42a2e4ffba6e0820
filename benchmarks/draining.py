"""Backlogs made once and drained again and again, each time from a fresh copy, by engines in their own processes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from benchmarks.bench import ROUND_SECONDS, Bench, StubProcess
from benchmarks.shop import fill, open_runtime

TOKEN = {"ALLEGRO_MICROSERVICE_JWT_TOKEN": "bench"}


@contextmanager
def backlog(bench: Bench, kind: str, count: int, lanes: int = 1) -> Iterator[str]:
    """URL of a database with `count` due orders, to be copied, not used."""
    with bench.database(kind) as url:
        with open_runtime(url) as runtime:
            fill(runtime.database, count, lanes=lanes)
        yield url


def environment_of(url: str, stub: StubProcess, settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """For a process of ours."""
    return {"DATABASE_URL": url, "ALLEGRO_MICROSERVICE_BASE_URL": stub.url, **TOKEN, **(settings or {})}


def drain(
    bench: Bench,
    stub: StubProcess,
    kind: str,
    template: str,
    count: int,
    engines: int = 1,
    settings: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Have `engines` processes drain a copy of `template`; what they did in all, and what the stub saw.

    The clock runs from the moment that all are ready until the last has settled its last order.
    """
    with bench.database(kind, template) as url:
        stub.stats(reset=True)
        environment = environment_of(url, stub, settings)
        words = ("benchmarks.child", "drain", "--count", str(count), "--bound", str(ROUND_SECONDS))
        children = [bench.start(*words, environment=environment) for _ in range(engines)]
        for child in children:
            _await_ready(child)
        for child in children:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
        answers = [json.loads(child.communicate(timeout=2 * ROUND_SECONDS)[0]) for child in children]
        done = sum(answer["done"] for answer in answers)
        seconds = max(answer["ended"] for answer in answers) - min(answer["started"] for answer in answers)
        return {
            "done": done,
            "rate": done / seconds,
            "concurrency": max(answer["concurrency"] for answer in answers),
            "stub": stub.stats(),
        }


def _await_ready(child: subprocess.Popen[str]) -> None:
    assert child.stdout is not None
    if child.stdout.readline().strip() != "ready":
        raise RuntimeError(f"the engine did not start: exit code {child.wait(10)}")
