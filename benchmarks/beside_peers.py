"""The same work through what teams use today, each in its recommended form, one worker process each."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

from benchmarks.bench import Bench
from benchmarks.draining import backlog
from benchmarks.peer_rounds import compare, on, present, round_of
from benchmarks.peers import Peer
from benchmarks.report import Figure, Result
from benchmarks.workers import Round, round_of_workers


def measure(bench: Bench) -> Result:
    """Orders a second of one process without latency and CPU time a delivery, on both databases."""
    _ = bench.redis
    count, ours = bench.count(1000, 300), bench.count(6000, 1500)
    result = Result("peers", f"one process, without latency, {count} jobs each, ours {ours} orders")
    peers = present(bench, result)
    for kind, missing in bench.databases().items():
        if missing:
            result.skipped.append(f"{kind}: {missing}")
        else:
            _measure(bench, kind, on(kind, peers, result), count, ours, result)
    result.notes += [
        "peers are timed from their first request, ours from the wake-up; enqueuing and starts don't count",
        "CPU: of PostgreSQL all its processes; SQLite's is the worker's; what spends less than 0.01 ms is left out",
    ]
    return result


def _measure(bench: Bench, kind: str, peers: list[Peer], count: int, ours: int, result: Result) -> None:
    mine = f"ours, jobs.worker, {kind}"
    rounds: dict[str, list[Round]] = {}
    with ExitStack() as made:
        stub = made.enter_context(bench.stub())
        few = made.enter_context(backlog(bench, kind, count))
        many = made.enter_context(backlog(bench, kind, ours))

        def kept(name: str, one: Round) -> float:
            rounds.setdefault(name, []).append(one)
            return one.rate

        def by_us() -> float:
            return kept(mine, round_of_workers(bench, stub, kind, many, ours))

        def by(peer: Peer) -> float:
            return kept(f"{peer.name}, {kind}", round_of(bench, stub, kind, few, count, peer))

        contenders = {mine: by_us} | {f"{peer.name}, {kind}": partial(by, peer) for peer in peers}
        figures = bench.in_turn("a second", contenders, result.skipped)
    result.figures += figures.values()
    for name in figures:
        measured = rounds[name]
        for who in measured[0].cpu:
            figure = Figure(f"{name}: CPU of {who}", "ms a delivery", [one.cpu[who] for one in measured])
            if figure.median >= 0.01:
                result.figures.append(figure)
    others = {peer.name: figures.get(f"{peer.name}, {kind}") for peer in peers}
    compare(result, kind, figures[mine], {name: figure for name, figure in others.items() if figure})
