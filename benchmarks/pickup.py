"""How soon an idle worker sends: from the return of the call (or of enqueuing) until the request is at the remote."""

from __future__ import annotations

import statistics
from contextlib import ExitStack
from functools import partial

from benchmarks.bench import Bench, StubProcess, wait_for
from benchmarks.draining import backlog, environment_of
from benchmarks.peer_rounds import environment_of_peer, on, present
from benchmarks.peers import Peer
from benchmarks.report import Figure, Result
from benchmarks.shop import LANE, fill, open_runtime
from benchmarks.spaced import call_one_by_one
from benchmarks.workers import running, wakeups

ERA = "c"
NOTED = f"{ERA}order-"
"""How the ids of the orders begin that are called for."""
WARM_UP = 3
"""Calls that don't count."""
OTHERS = 10_000
"""Orders that wait in another seller's lane."""
MOST_MEANWHILE = 30
"""Calls that surely end before that backlog."""
CALLER = "seller-2"


def measure(bench: Bench) -> Result:
    """Median and 95th percentile of each round, ours also while another seller's lane is full."""
    _ = bench.redis
    calls = bench.count(100, 30)
    result = Result("pickup", f"from a call's return to the request at the remote, {calls} calls a round")
    peers = present(bench, result)
    for kind, missing in bench.databases().items():
        if missing:
            result.skipped.append(f"{kind}: {missing}")
        else:
            _measure(bench, kind, on(kind, peers, result), calls, result)
    result.notes += [
        "each call comes when the one before has been settled (while others wait: each 50 ms or so); "
        "below 0: the request came before the call returned",
        "peers: enqueuing a job for a row that is there already; ours: recording the operation",
    ]
    return result


def _measure(bench: Bench, kind: str, peers: list[Peer], calls: int, result: Result) -> None:
    slow: dict[str, list[float]] = {}
    with ExitStack() as made:
        stub = made.enter_context(bench.stub(note=NOTED))
        empty = made.enter_context(backlog(bench, kind, 0))
        full = made.enter_context(backlog(bench, kind, OTHERS))
        rows = made.enter_context(bench.database(kind))
        with open_runtime(rows) as runtime:
            fill(runtime.database, calls + WARM_UP, era=ERA)

        def kept(name: str, times: list[float]) -> float:
            milliseconds = sorted(seconds * 1000 for seconds in times[WARM_UP:])
            slow.setdefault(name, []).append(statistics.quantiles(milliseconds, n=20)[-1])
            return statistics.median(milliseconds)

        def ours(name: str, template: str, made: int, *, busy: bool) -> float:
            return kept(name, _of_ours(bench, stub, kind, template, made, result, busy=busy))

        def by(peer: Peer, name: str) -> float:
            return kept(name, _of_peer(bench, stub, kind, rows, peer))

        idle, busy = f"ours, {kind}", f"ours, {OTHERS:,} wait in another lane, {kind}"
        contenders = {
            idle: partial(ours, idle, empty, calls, busy=False),
            busy: partial(ours, busy, full, min(calls, MOST_MEANWHILE), busy=True),
        }
        for peer in peers:
            name = f"{peer.name}, {kind}"
            contenders[name] = partial(by, peer, name)
        figures = bench.in_turn("ms", contenders, result.skipped)
    for name, figure in figures.items():
        result.figures.append(Figure(f"{name}: p50", "ms", figure.values))
        result.figures.append(Figure(f"{name}: p95", "ms", slow[name]))


def _of_ours(
    bench: Bench, stub: StubProcess, kind: str, template: str, calls: int, result: Result, *, busy: bool
) -> list[float]:
    """Seconds of each call, in order. `busy`: all are made while LANE's backlog is being delivered."""
    with bench.database(kind, template) as url:
        bench.redis.flush()
        stub.stats(reset=True)
        lane_wakeups = wakeups(bench)
        environment = environment_of(url, stub, {"REDIS_URL": bench.redis.url})
        with (
            running(bench, [("jobs.worker",)], environment, says="Listening on"),
            open_runtime(url, lane_wakeups) as runtime,
        ):
            deduct = runtime.service.sync_stock_deduction
            deduct(CALLER, "first", "A", 1)
            wait_for(lambda: stub.stats()["requests"] > 0)
            if busy:
                lane_wakeups.wake(LANE)
                wait_for(lambda: stub.stats()["requests"] > 1)
            returned = call_one_by_one(
                [f"{NOTED}{number:04}" for number in range(calls + WARM_UP)],
                lambda order_id: deduct(CALLER, order_id, "A", 1),
                lambda order_id: busy or order_id in stub.arrivals(),
            )
            if busy:
                left = max(OTHERS - stub.stats()["requests"], 0)
                result.notes.append(f"{kind}: {left:,} of {OTHERS:,} waited still after the last call")
            wait_for(lambda: len(stub.arrivals()) == len(returned))
        return _seconds(stub, returned)


def _of_peer(bench: Bench, stub: StubProcess, kind: str, template: str, peer: Peer) -> list[float]:
    with bench.database(kind, template) as url:
        bench.redis.flush()
        stub.stats(reset=True)
        environment = environment_of_peer(bench, url, stub, peer)
        words = ("benchmarks.peers.enqueue", peer.module)
        bench.run(*words, "nothing", environment=environment)
        with running(bench, [peer.command()], environment):
            returned = bench.run(*words, "one-by-one", "--pause", str(peer.polls), environment=environment)
        return _seconds(stub, returned)


def _seconds(stub: StubProcess, returned: dict[str, float]) -> list[float]:
    arrivals = stub.arrivals()
    return [arrivals[order_id] - moment for order_id, moment in returned.items()]
