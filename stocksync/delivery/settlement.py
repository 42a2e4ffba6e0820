"""Writing what came of claims, with patience: what can't be written now is kept and written later.

A caller's open transaction may hold an order, a database may be away for a while. An answer that is known is not
thrown away for it: the lease would run out, and a delivered order would count as a failed attempt.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from uuid import UUID

from stocksync.delivery.outcomes import Judged, Outcomes
from stocksync.delivery.sender_pool import Sent
from stocksync.store.context import Context, Part
from stocksync.store.deliveries import Deliveries, Settled

log = logging.getLogger(__name__)


@dataclass(slots=True)
class DrainReport:
    """What one slice did to a lane, in orders; `operations_*` count the operations that mirror them."""

    lane: str
    delivered: int = 0
    retrying: int = 0
    failed: int = 0
    lost: int = 0
    released: int = 0
    operations_completed: int = 0
    operations_retrying: int = 0
    operations_failed: int = 0
    concurrency: int = 1
    seconds: float = 0.0
    next_due: datetime | None = None
    held_back: str | None = None
    """Why nothing (more) was sent though work is due: `outage`, `snoozed`, `paused`, or `turn`: another lane's
    turn came first. None: nothing held it back."""

    @property
    def progressed(self) -> bool:
        """Whether anything was claimed, whatever became of it."""
        return self.delivered + self.retrying + self.failed + self.lost + self.released > 0

    def add(self, settled: Settled) -> None:
        """Count what one settlement came to."""
        for figure, count in asdict(settled).items():
            if figure not in ("lost", "busy"):
                setattr(self, figure, getattr(self, figure) + count)
        self.lost += len(settled.lost)

    def as_dict(self) -> dict[str, object]:
        """For JSON: results of jobs and commands."""
        next_due = self.next_due.isoformat() if self.next_due else None
        return asdict(self) | {"next_due": next_due, "seconds": round(self.seconds, 3)}


@dataclass(slots=True)
class _Results:
    """Results of one claim on their way into the database; `judged` None: nobody looked at them yet."""

    claim_id: UUID
    sent: list[Sent] = field(default_factory=list)
    judged: Judged | None = None

    @property
    def lane(self) -> str:
        return self.sent[0].order.token_id


@dataclass(slots=True)
class Written:
    """What one round of writing showed: the lanes that were written, those to be left alone now, and whether the
    breaker closed."""

    lanes: set[str] = field(default_factory=set)
    halted: set[str] = field(default_factory=set)
    recovered: bool = False


class Settlements(Part):
    """Results by claim, from the answer to the committed row. Used by one thread at a time."""

    def __init__(self, context: Context, outcomes: Outcomes) -> None:
        super().__init__(context)
        self._deliveries = Deliveries(context)
        self._outcomes = outcomes
        self._waiting: list[_Results] = []

    def holds(self, lane: str) -> bool:
        """Whether results of the lane are still to be written."""
        return any(results.lane == lane for results in self._waiting)

    def add(self, sent: Sequence[Sent]) -> int:
        """Take results, say how many; an order that was not sent (answer None) is given back."""
        open_claims = {results.claim_id: results for results in self._waiting if results.judged is None}
        for one in sent:
            results = open_claims.get(one.claim_id)
            if results is None:
                results = open_claims[one.claim_id] = _Results(one.claim_id)
                self._waiting.append(results)
            results.sent.append(one)
        return len(sent)

    def write(self, report: DrainReport, *, probing: bool = False) -> Written:
        """Write all that can be written now, a transaction a claim; what somebody else holds is kept.

        Args:
            probing: the results answer the one order that was let through an open breaker.

        Raises:
            DatabaseUnavailable: nothing is lost, the next call goes on with it.
        """
        written = Written()
        for results in tuple(self._waiting):
            lane, now = results.lane, self._clock()
            if results.judged is None:
                results.judged = self._outcomes.judge(lane, results.sent, now, probing=probing)
                written.recovered |= results.judged.recovered
                if results.judged.halt:
                    written.halted.add(lane)
            judged = results.judged
            what = (judged.delivered, judged.failures, now, judged.unsent)
            settled = self._deliveries.settle(results.claim_id, *what)
            report.add(settled)
            written.lanes.add(lane)
            _tell(lane, judged, settled)
            if settled.busy:
                judged.keep(settled.busy)
            else:
                self._waiting = [others for others in self._waiting if others is not results]
        return written


def _tell(lane: str, judged: Judged, settled: Settled) -> None:
    for failure in judged.failures:
        order = failure.order
        if order.id not in settled.busy and order.id not in settled.lost:
            about = {"lane": lane, "order": order.order_id, "attempt": order.attempts + failure.counted}
            then = "given up" if failure.next_at is None else f"again at {failure.next_at:%H:%M:%S}"
            said = (failure.error_class, failure.error_message, then)
            # The outage has its own line; one for each order that waits for its end would bury it.
            level = logging.DEBUG if failure.waiting == "outage" else logging.INFO
            log.log(level, "not delivered (%s: %s), %s", *said, extra=about)
