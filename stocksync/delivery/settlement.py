"""From answers to rows: what each answer means for its order, its lane and the breaker, and writing that with patience.

A caller's open transaction may hold an order, a database may be away for a while. An answer that is known is not
thrown away for it: the lease would run out, and a delivered order would count as a failed attempt.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from uuid import UUID

from stocksync.delivery.answers import Answer, Verdict, decide_retry, snooze_seconds
from stocksync.delivery.breaker import CREDENTIALS, Breaker
from stocksync.delivery.sender_pool import Sender
from stocksync.store.context import Context, Part
from stocksync.store.deliveries import ClaimedOrder, Deliveries, Settled
from stocksync.store.due_work import Failure, Lanes

log = logging.getLogger(__name__)

REFUSALS_IN_A_ROW = 20
"""Orders refused for good, with no success between, before the lane is paused: not the orders are wrong then."""
_CREDENTIALS_SNOOZE = timedelta(seconds=60)
_SERVED = frozenset({Verdict.DELIVERED, Verdict.REJECTED, Verdict.INVALID})


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
        self.lost += len(settled.lost)
        for figure, count in settled.figures.items():
            setattr(self, figure, getattr(self, figure) + count)

    def as_dict(self) -> dict[str, object]:
        """For JSON: results of jobs and commands."""
        next_due = self.next_due.isoformat() if self.next_due else None
        return asdict(self) | {"next_due": next_due, "seconds": round(self.seconds, 3)}


@dataclass(slots=True)
class Judged:
    """Orders of one claim that are still to be written.

    `halt`: nothing more of this lane should go out now. `recovered`: these answers closed the breaker.
    """

    lane: str
    orders: Sequence[ClaimedOrder]
    halt: bool = False
    recovered: bool = False


class Settlements(Part):
    """Judges answers in the order they came, and writes what follows. `judge` and `settle` are for any thread."""

    def __init__(self, context: Context, sender: Sender, breaker: Breaker) -> None:
        super().__init__(context)
        self._sender, self._breaker = sender, breaker
        self._deliveries, self._lanes = Deliveries(context), Lanes(context)
        self._refused: dict[str, set[UUID]] = {}
        self.arrived: list[ClaimedOrder] = []
        """Back from being sent, for `write`. An order without answer was not sent and is given back."""
        self._judged: list[Judged] = []

    def holds(self, lane: str) -> bool:
        """Whether judged orders of the lane are still to be written."""
        return any(judged.lane == lane for judged in self._judged)

    def write(self, report: DrainReport, *, probing: bool = False) -> list[Judged]:
        """Judge and write all that can be written now, a transaction a claim; what somebody else holds is kept.

        Args:
            probing: the answer is that of the one order that was let through an open breaker.

        Returns:
            Whose orders were dealt with.

        Raises:
            DatabaseUnavailable: nothing is lost, the next call goes on with it.
        """
        for claim_id in dict.fromkeys(order.claim_id for order in self.arrived):
            of_claim = [order for order in self.arrived if order.claim_id == claim_id]
            self._judged.append(self.judge(of_claim, probing=probing))
            self.arrived = [order for order in self.arrived if order.claim_id != claim_id]
        for judged in self._judged:
            report.add(self.settle(judged))
        written = self._judged
        # What is kept comes without its flags: whoever called acts on them now.
        self._judged = [Judged(one.lane, one.orders) for one in written if one.orders]
        return written

    def settle(self, judged: Judged) -> Settled:
        """Write what can be written now; what somebody else holds stays in `judged`. Raises DatabaseUnavailable."""
        settled = self._deliveries.settle(judged.orders, self._clock())
        for order in judged.orders:
            if (failure := order.failure) and order.id not in settled.busy | settled.lost:
                about = {
                    "lane": judged.lane,
                    "order": order.order_id,
                    "attempt": order.attempts + failure.counted,
                }
                then = "given up" if failure.next_at is None else f"again at {failure.next_at:%H:%M:%S}"
                said = (failure.error_class, failure.error_message, then)
                # The outage has its own line; one for each order that waits for its end would bury it.
                level = logging.DEBUG if failure.waiting == "outage" else logging.INFO
                log.log(level, "not delivered (%s: %s), %s", *said, extra=about)
        judged.orders = [order for order in judged.orders if order.id in settled.busy]
        return settled

    def judge(self, orders: Sequence[ClaimedOrder], *, probing: bool = False) -> Judged:
        """Set what the answers to orders of one claim mean for them. The breaker and the lane are told what follows.

        Raises:
            DatabaseUnavailable: judge them again later.
        """
        judged = Judged(orders[0].token_id, orders)
        in_question = any(order.answer and order.answer.verdict is Verdict.UNCLEAR for order in orders)
        served_at = self._breaker.served_at() if in_question else None
        served = unclear = failing = 0
        for order in orders:
            if order.answer is None:
                continue
            verdict = order.answer.verdict
            served, unclear = served + (verdict in _SERVED), unclear + (verdict is Verdict.UNCLEAR)
            failing = 0 if verdict in _SERVED else failing + (verdict is Verdict.UNCLEAR)
            halts = self._hold_back(judged.lane, order.id, order.answer)
            judged.halt |= halts
            if halts and verdict is Verdict.INVALID:
                order.duration_ms = None  # given back: not the orders are wrong
            elif verdict is not Verdict.DELIVERED:
                order.failure = self._failure(order, order.answer, served_at)
        if served:
            judged.recovered = self._breaker.served()
        mostly = self._breaker.tally(served, unclear)
        if failing or (unclear and mostly):
            alone = probing and not served
            judged.halt |= self._breaker.failed(times=failing, probing=alone, mostly=mostly)
        return judged

    def _failure(self, order: ClaimedOrder, answer: Answer, served_at: datetime | None) -> Failure:
        counted, next_at, waiting = decide_retry(
            answer, attempts=order.attempts, last_attempt_at=order.last_attempt_at, served_at=served_at,
            config=self._config, now=self._clock(), rng=self.context.rng,
        )  # fmt: skip
        return Failure(
            "sync_failed" if answer.verdict in _SERVED else "sync_error", answer.error_class or "Unknown",
            answer.error or "no reason given", next_at, waiting, counted, answer.verdict is Verdict.INVALID,
        )  # fmt: skip

    def _hold_back(self, lane: str, order_ref: UUID, answer: Answer) -> bool:
        """Snooze or pause the lane, or pause the remote, where the answer asks for it. True: it does."""
        now = self._clock()
        if answer.success:
            self._refused.pop(lane, None)
        elif answer.verdict is Verdict.INVALID:
            refused = self._refused.setdefault(lane, set())
            refused.add(order_ref)
            reason = f"{REFUSALS_IN_A_ROW} orders in a row were refused for good: {answer.error}"
            if len(refused) < REFUSALS_IN_A_ROW:
                return False
            if self._lanes.pause(lane, reason):
                log.error("paused until a person resumes it: %s", reason, extra={"lane": lane})
            return True
        elif answer.verdict is Verdict.THROTTLED:
            until = now + timedelta(seconds=snooze_seconds(answer.retry_after, now))
            self._lanes.snooze(lane, until, "throttled")
        elif answer.verdict is Verdict.CREDENTIALS:
            self._sender.forget_token()
            refused_us = "the remote refuses our credentials (%s: %s); tried again once a minute"
            log.error(refused_us, answer.status, answer.error, extra={"lane": lane})
            if answer.status == 403:
                self._lanes.snooze(lane, now + _CREDENTIALS_SNOOZE, CREDENTIALS)
            else:
                self._breaker.failed(CREDENTIALS)
        return answer.verdict in (Verdict.THROTTLED, Verdict.CREDENTIALS)
