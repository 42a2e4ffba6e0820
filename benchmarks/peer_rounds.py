"""Which peers are measured, and one round of one of them."""

from __future__ import annotations

import importlib.util

from benchmarks.bench import Bench, StubProcess
from benchmarks.draining import environment_of
from benchmarks.peers import PEERS, Peer
from benchmarks.report import Figure, Goal, Result, ratio
from benchmarks.workers import Round, round_of_peer

WANTED = {"PgQueuer": 2.5}
"""Name of a peer -> how many times its rate ours is to be on PostgreSQL."""
WANTED_OF_OTHERS = 4.5


def present(bench: Bench, result: Result) -> list[Peer]:
    """Those that are asked for and installed; the result says of the rest that they are skipped."""
    asked = {name.lower() for name in bench.peers}
    unknown = asked - {peer.name.lower() for peer in PEERS}
    if unknown:
        raise ValueError(f"no such peer: {', '.join(sorted(unknown))}")
    found = []
    for peer in PEERS:
        if asked and peer.name.lower() not in asked:
            continue
        if importlib.util.find_spec(peer.package):
            found.append(peer)
        else:
            result.skipped.append(f"{peer.name}: not installed (pip install -r benchmarks/requirements.txt)")
    result.notes += [f"{peer.name}: {peer.form}" for peer in found]
    return found


def on(kind: str, peers: list[Peer], result: Result) -> list[Peer]:
    """Those that can work there; the result says of the rest that they can't."""
    left_out = [peer.name for peer in peers if kind not in peer.databases]
    if left_out:
        result.skipped.append(f"{kind}: {', '.join(left_out)} can work on PostgreSQL only")
    return [peer for peer in peers if kind in peer.databases]


def environment_of_peer(
    bench: Bench, url: str, stub: StubProcess, peer: Peer, at_once: int = 0
) -> dict[str, str]:
    """For its worker and for who enqueues."""
    settings = {"REDIS_URL": bench.redis.url, "PEER_CONNECTIONS": str(at_once or peer.at_once)}
    return environment_of(url, stub, settings)


def round_of(
    bench: Bench, stub: StubProcess, kind: str, template: str, count: int, peer: Peer, at_once: int = 0
) -> Round:
    """One worker process of the peer delivers a copy of the backlog; `at_once` as for `Peer.command`."""
    with bench.database(kind, template) as url:
        bench.redis.flush()
        environment = environment_of_peer(bench, url, stub, peer, at_once)
        bench.run("benchmarks.peers.enqueue", peer.module, "at-once", environment=environment)
        return round_of_peer(bench, stub, url, kind, count, peer.command(at_once), environment)


def compare(result: Result, kind: str, mine: Figure, others: dict[str, Figure]) -> None:
    """Add how many times each peer's rate ours is (name -> figure); what is wanted of that, as goals."""
    if kind == "PostgreSQL":
        wanted = {name: WANTED.get(name, WANTED_OF_OTHERS) for name in others}
    else:
        wanted = {max(others, key=lambda name: others[name].median): 4.0} if others else {}
    for name, other in others.items():
        times = ratio(f"ours / {other.name}", mine, other)
        if name in wanted:
            result.goals.append(Goal(times, at_least=wanted[name]))
        else:
            result.figures.append(times)
