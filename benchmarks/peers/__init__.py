"""What teams use today for such work. The modules here run in the peers' own processes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Peer:
    """One library: its package, our module for it, how its worker is started (`python -m words`), in which form."""

    name: str
    package: str
    module: str
    words: tuple[str, ...]
    form: str


PEERS = (
    Peer(
        "RQ",
        "rq",
        "benchmarks.peers.rq_simple",
        ("benchmarks.peers.rq_simple",),
        "a job per operation, SimpleWorker, results not kept",
    ),
    Peer(
        "Celery",
        "celery",
        "benchmarks.peers.celery_app",
        ("celery", "-A", "benchmarks.peers.celery_app", "worker", "--pool", "prefork", "--concurrency", "1",
         "--loglevel", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat"),
        "Redis broker, prefork with one process, results ignored, no gossip, mingle or heartbeat",
    ),
    Peer(
        "Dramatiq",
        "dramatiq",
        "benchmarks.peers.dramatiq_app",
        ("dramatiq", "benchmarks.peers.dramatiq_app", "--processes", "1", "--threads", "8"),
        "Redis broker, one process with its 8 threads",
    ),
    Peer(
        "Huey",
        "huey",
        "benchmarks.peers.huey_app",
        ("huey.bin.huey_consumer", "benchmarks.peers.huey_app.huey", "--workers", "1", "--no-periodic", "--quiet"),
        "RedisHuey, one worker thread, no results",
    ),
)  # fmt: skip
