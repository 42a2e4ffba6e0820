"""The same beside peers with a remote that takes 50 ms, with more and more jobs at once."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

from benchmarks.bench import Bench
from benchmarks.draining import backlog
from benchmarks.latency import LATENCY
from benchmarks.peer_rounds import on, present, round_of
from benchmarks.peers import Peer
from benchmarks.report import Figure, Goal, Result
from benchmarks.workers import Round, round_of_workers

OURS = ((64, 1), (128, 1), (128, 2))
"""Connections in all, worker processes."""
PEERS_CONNECTIONS = (32, 64, 128)
WANTED = {(64, 1): 0.9, (128, 2): 0.9}
"""Which of ours is to reach what share of the ideal."""


def measure(bench: Bench) -> Result:
    """Orders a second, and their share of connections / (the latency measured at the stub)."""
    _ = bench.redis
    count, ours = bench.count(1600, 400), bench.count(100, 25)
    result = Result("peers-latency", f"remote with 50 ms, {count} jobs each, ours {ours} orders a connection")
    peers = present(bench, result)
    alone = [peer.name for peer in peers if not peer.many]
    if alone:
        result.skipped.append(f"{', '.join(alone)}: one process takes one job at a time")
    peers = [peer for peer in peers if peer.many]
    for kind, missing in bench.databases().items():
        if missing:
            result.skipped.append(f"{kind}: {missing}")
        else:
            _measure(bench, kind, on(kind, peers, result), count, ours, result)
    result.notes.append("one worker process each but where two are named; timed as in `peers`")
    return result


def _measure(bench: Bench, kind: str, peers: list[Peer], count: int, ours: int, result: Result) -> None:
    """`ours`: orders a connection, so that rounds of few and of many connections take the same time."""
    shares: dict[str, list[float]] = {}
    with ExitStack() as made:
        stub = made.enter_context(bench.stub(LATENCY))
        few = made.enter_context(backlog(bench, kind, count))
        many = {
            connections: made.enter_context(backlog(bench, kind, ours * connections))
            for connections in dict(OURS)
        }

        def kept(name: str, connections: int, one: Round) -> float:
            share = one.rate * one.stub["mean_latency"] / connections
            shares.setdefault(name, []).append(share)
            return one.rate

        def by_us(name: str, connections: int, workers: int) -> float:
            settings = {"STOCK_SYNC_DELIVERY_CONCURRENCY": str(connections // workers)}
            orders = ours * connections
            one = round_of_workers(
                bench, stub, kind, many[connections], orders, workers=workers, settings=settings
            )
            return kept(name, connections, one)

        def by(name: str, connections: int, peer: Peer) -> float:
            return kept(name, connections, round_of(bench, stub, kind, few, count, peer, connections))

        contenders = {}
        goals: dict[str, float] = {}
        for connections, workers in OURS:
            name = _name("ours" if workers == 1 else f"ours, {workers} workers", connections, kind)
            contenders[name] = partial(by_us, name, connections, workers)
            if (connections, workers) in WANTED:
                goals[name] = WANTED[connections, workers]
        for peer in peers:
            for connections in PEERS_CONNECTIONS:
                name = _name(peer.name, connections, kind)
                contenders[name] = partial(by, name, connections, peer)
        figures = bench.in_turn("a second", contenders, result.skipped)
    result.figures += figures.values()
    for name in figures:
        figure = Figure(f"share of the ideal: {name}", "x", shares[name])
        if name in goals:
            result.goals.append(Goal(figure, at_least=goals[name]))
        else:
            result.figures.append(figure)


def _name(who: str, connections: int, kind: str) -> str:
    return f"{who}, {connections} connections, {kind}"
