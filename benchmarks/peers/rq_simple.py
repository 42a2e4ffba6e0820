"""RQ: a job per operation. Run as a program: a SimpleWorker, which does not fork."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from redis import Redis
from rq.queue import Queue
from rq.worker import SimpleWorker

from benchmarks.peers.work import deliver, redis_url


def enqueue(ids: Sequence[str]) -> None:
    """One job an operation, in one go."""
    queue = Queue("peer", connection=Redis.from_url(redis_url()))
    jobs = [Queue.prepare_data(deliver, args=(operation_id,), result_ttl=0) for operation_id in ids]
    queue.enqueue_many(jobs)


if __name__ == "__main__":
    worker = SimpleWorker(["peer"], connection=Redis.from_url(redis_url()))
    worker.log_job_description = False
    logging.getLogger("rq.worker").setLevel(logging.WARNING)
    worker.work(logging_level="WARNING")
