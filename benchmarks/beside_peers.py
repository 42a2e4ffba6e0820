"""The same work through what teams use today, each in its recommended form, one worker process each."""

from __future__ import annotations

import importlib.util
from contextlib import ExitStack
from functools import partial

from benchmarks.bench import Bench, StubProcess
from benchmarks.draining import backlog, environment_of
from benchmarks.peers import PEERS, Peer
from benchmarks.report import Figure, Goal, Result, ratio
from benchmarks.workers import rate_of_peer, rate_of_workers


def measure(bench: Bench) -> Result:
    """Orders a second of one process without latency, on both databases."""
    _ = bench.redis
    count, ours = (300, 1500) if bench.quick else (1000, 6000)
    result = Result("peers", f"one process, without latency, {count} jobs each, ours {ours} orders")
    present = []
    for peer in PEERS:
        if importlib.util.find_spec(peer.package):
            present.append(peer)
        else:
            result.skipped.append(f"{peer.name}: not installed (pip install -r benchmarks/requirements.txt)")
    for kind, missing in bench.databases().items():
        if missing:
            result.skipped.append(f"{kind}: {missing}")
            continue
        with ExitStack() as made:
            stub = made.enter_context(bench.stub())
            few = made.enter_context(backlog(bench, kind, count))
            many = made.enter_context(backlog(bench, kind, ours))

            def by_peer(peer: Peer, kind: str = kind, template: str = few, stub: StubProcess = stub) -> float:
                with bench.database(kind, template) as url:
                    bench.redis.flush()
                    environment = environment_of(url, stub, {"REDIS_URL": bench.redis.url})
                    bench.run("benchmarks.peers.enqueue", peer.module, environment=environment)
                    return rate_of_peer(bench, stub, url, kind, count, peer.words, environment)

            figures = bench.in_turn(
                "a second",
                {f"ours, jobs.worker, {kind}": partial(rate_of_workers, bench, stub, kind, many, ours)}
                | {f"{peer.name}, {kind}": partial(by_peer, peer) for peer in present},
            )
        mine, *others = figures.values()
        result.figures += [mine, *others]
        if others:
            best = max(others, key=lambda figure: figure.median)
            result.goals.append(Goal(ratio(f"ours / {best.name}", mine, best), at_least=4))
            result.figures += [_beside(other, mine) for other in others if other is not best]
    result.notes = [f"{peer.name}: {peer.form}" for peer in present]
    result.notes.append(
        "peers are timed from their first request, ours from the wake-up; enqueuing and starts don't count"
    )
    return result


def _beside(other: Figure, mine: Figure) -> Figure:
    return ratio(f"ours / {other.name}", mine, other)
