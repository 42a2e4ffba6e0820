"""What teams use today for such work. The modules here run in the peers' own processes."""

from __future__ import annotations

from dataclasses import dataclass

POSTGRESQL = ("PostgreSQL",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One library: its package, our module for it, how its worker is started, in which form.

    Args:
        words: `python -m words` starts one worker process; `{n}` stands for the jobs that it may have at once.
        many: the same for many jobs at once where `words` allow a fixed number; empty when one process takes only
            one job at a time.
        at_once: jobs at once without latency, as the library's documentation has it. Its HTTP client has as many
            connections.
        databases: where the library can work.
        polls: seconds between two looks at the queue; 0 when a new job is announced.
    """

    name: str
    package: str
    module: str
    words: tuple[str, ...]
    form: str
    many: tuple[str, ...] = ()
    at_once: int = 1
    databases: tuple[str, ...] = ("SQLite", *POSTGRESQL)
    polls: float = 0.0

    def command(self, at_once: int = 0) -> list[str]:
        """What `python -m` gets; with `at_once` for that many jobs at once."""
        words = self.many if at_once else self.words
        return [word.format(n=at_once or self.at_once) for word in words]


_CELERY = ("celery", "-A", "benchmarks.peers.celery_app", "worker", "--loglevel", "WARNING",
           "--without-gossip", "--without-mingle", "--without-heartbeat", "--concurrency", "{n}", "--pool")  # fmt: skip
_DRAMATIQ = ("dramatiq", "benchmarks.peers.dramatiq_app", "--processes", "1", "--threads", "{n}")
_HUEY = (
    "huey.bin.huey_consumer",
    "benchmarks.peers.huey_app.huey",
    "--no-periodic",
    "--quiet",
    "--workers",
    "{n}",
)
_SAQ = ("saq", "benchmarks.peers.saq_app.settings")
_PGQUEUER = ("benchmarks.peers.pgqueuer_app",)
_PROCRASTINATE = ("procrastinate", "--app", "benchmarks.peers.procrastinate_app.app", "--log-level", "warning",
                  "worker", "--delete-jobs", "successful", "--concurrency", "{n}")  # fmt: skip
_DBOS = ("benchmarks.peers.dbos_app",)

PEERS = (
    Peer(
        name="RQ",
        package="rq",
        module="benchmarks.peers.rq_simple",
        words=("benchmarks.peers.rq_simple",),
        form="a job per operation, SimpleWorker, results not kept",
    ),
    Peer(
        name="Celery",
        package="celery",
        module="benchmarks.peers.celery_app",
        words=(*_CELERY, "prefork"),
        many=(*_CELERY, "threads"),
        form="Redis broker, prefork with one process (with latency: threads), results ignored, no gossip, mingle or "
        "heartbeat",
    ),
    Peer(
        name="Dramatiq",
        package="dramatiq",
        module="benchmarks.peers.dramatiq_app",
        words=_DRAMATIQ,
        many=_DRAMATIQ,
        at_once=8,
        form="Redis broker, one process with its 8 threads",
    ),
    Peer(
        name="Huey",
        package="huey",
        module="benchmarks.peers.huey_app",
        words=_HUEY,
        many=_HUEY,
        form="RedisHuey, one worker thread, no results",
    ),
    Peer(
        name="SAQ",
        package="saq",
        module="benchmarks.peers.saq_app",
        words=_SAQ,
        many=_SAQ,
        at_once=10,
        form="Redis with hiredis, its 10 jobs at once, results not kept; the work with aiohttp and asyncpg or aiosqlite",
    ),
    Peer(
        name="PgQueuer",
        package="pgqueuer",
        module="benchmarks.peers.pgqueuer_app",
        words=_PGQUEUER,
        many=_PGQUEUER,
        at_once=50,
        databases=POSTGRESQL,
        form="asyncpg pool, uvloop, batches of 50, no limit of jobs at once but that of aiohttp's connections, its "
        "autovacuum settings; the work with aiohttp and asyncpg",
    ),
    Peer(
        name="procrastinate",
        package="procrastinate",
        module="benchmarks.peers.procrastinate_app",
        words=_PROCRASTINATE,
        many=_PROCRASTINATE,
        at_once=30,
        databases=POSTGRESQL,
        form="psycopg pool, 30 jobs at once, done jobs deleted; the work with aiohttp and psycopg",
    ),
    Peer(
        name="DBOS",
        package="dbos",
        module="benchmarks.peers.dbos_app",
        words=_DBOS,
        many=_DBOS,
        at_once=50,
        databases=POSTGRESQL,
        polls=1.0,
        form="one asynchronous step per operation, a queue as it is by default (no limit, looked at each second); the "
        "work with aiohttp and asyncpg",
    ),
)
