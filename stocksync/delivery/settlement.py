"""From answers to rows: what each answer means for its order, its lane and the breaker, and writing that with patience.

A caller's open transaction may hold an order, a database may be away for a while. An answer that is known is not
thrown away for it: the lease would run out, and a delivered order would count as a failed attempt.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from stocksync.delivery.answers import Answer, Verdict, decide_retry, snooze_seconds
from stocksync.delivery.breaker import CREDENTIALS, Breaker
from stocksync.delivery.sender_pool import Sender
from stocksync.store.context import Context, Part
from stocksync.store.deliveries import FIGURES, Deliveries, Settled
from stocksync.store.lanes import ClaimedOrder, Failure

log = logging.getLogger(__name__)

REFUSALS_IN_A_ROW = 20
"""Orders refused for good, with no success between, before the lane is paused: not the orders are wrong then."""
_SERVED = frozenset({Verdict.DELIVERED, Verdict.REJECTED, Verdict.INVALID})


@dataclass(slots=True)
class DrainReport:
    """What one slice did to a lane. `figures` as those of its settlements, see `store.deliveries.Settled`."""

    lane: str
    figures: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(FIGURES, 0)))
    concurrency: int = 1
    seconds: float = 0.0
    next_due: datetime | None = None
    held_back: str | None = None
    """Why nothing (more) was sent though work is due: `outage`, `snoozed` or `paused`. None: nothing held it back."""

    def as_dict(self) -> dict[str, object]:
        """For JSON: results of jobs and commands."""
        return {
            "lane": self.lane,
            **self.figures,
            "concurrency": self.concurrency,
            "seconds": round(self.seconds, 3),
            "next_due": self.next_due and self.next_due.isoformat(),
            "held_back": self.held_back,
        }


class Settlement(Part):
    """Judges answers, and writes what follows. `_judge` and `_settle` are for any thread."""

    def __init__(self, context: Context, sender: Sender, breaker: Breaker) -> None:
        super().__init__(context)
        self._sender, self._breaker = sender, breaker
        self._deliveries = Deliveries(context)
        self._refused: dict[str, set[UUID]] = {}
        self._arrived: list[ClaimedOrder] = []
        """Back from being sent, to be judged. An order without answer was not sent and is given back."""
        self._judged: list[ClaimedOrder] = []
        """To be written. What somebody else's transaction holds stays here."""
        self._touched: set[str] = set()
        """Lanes of which something was written, to be woken or planned anew."""
        self._recovered = False
        """An answer closed the breaker; nobody has acted on that yet."""

    def _write_once(self, report: DrainReport, *, probing: bool = False) -> None:
        """Judge what has arrived and write it. What somebody else holds is kept for the next call.

        Args:
            probing: the answer is that of the one order that was let through an open breaker.

        Raises:
            DatabaseUnavailable: nothing is lost, the next call goes on with it.
        """
        if self._judge(self._arrived, report.lane, probing=probing):
            report.held_back = "snoozed" if self._breaker.open_until() is None else "outage"
        self._judged += self._arrived
        self._arrived = []
        self._touched |= {order.token_id for order in self._judged}
        for claim_id in {order.claim_id for order in self._judged}:
            settled = self._settle([order for order in self._judged if order.claim_id == claim_id])
            report.figures.update(settled.figures)
            self._judged = [
                order for order in self._judged if order.claim_id != claim_id or order.id in settled.busy
            ]

    def _settle(self, orders: Sequence[ClaimedOrder]) -> Settled:
        """Write what can be written of one claim now. Raises DatabaseUnavailable."""
        settled = self._deliveries.settle(orders, self._clock())
        for order in orders:
            if (failure := order.failure) and order.id not in settled.busy | settled.lost:
                log.log(
                    # The outage has its own line; one for each order that waits for its end would bury it.
                    logging.DEBUG if failure.waiting == "outage" else logging.INFO,
                    "not delivered (%s: %s), %s", failure.error_class, failure.error_message,
                    f"again at {failure.next_at:%H:%M:%S}" if failure.next_at else "given up",
                    extra={
                        "lane": order.token_id, "order": order.order_id,
                        "attempt": order.attempts + failure.counted,
                    },
                )  # fmt: skip
        return settled

    def _judge(self, orders: Sequence[ClaimedOrder], lane: str, *, probing: bool = False) -> bool:
        """Set what the answers to `orders` mean for them. The breaker and the lanes are told what follows.

        Returns:
            Whether nothing more of `lane` should go out now.

        Raises:
            DatabaseUnavailable: judge them again later.
        """
        answered = [order for order in orders if order.answer]
        verdicts = [order.answer.verdict for order in answered]
        served_at = self._breaker.served_at() if Verdict.UNCLEAR in verdicts else None
        halt = False
        failing = 0
        for order, verdict in zip(answered, verdicts, strict=True):
            failing = 0 if verdict in _SERVED else failing + (verdict is Verdict.UNCLEAR)
            halt |= self._judge_one(order, served_at) and order.token_id == lane
        # Once for all of them: with a Redis that hangs each call would wait for it.
        if any(
            order.answer.verdict is Verdict.CREDENTIALS and order.answer.status != 403 for order in answered
        ):
            self._breaker.failed(CREDENTIALS)
        served = sum(verdict in _SERVED for verdict in verdicts)
        unclear = verdicts.count(Verdict.UNCLEAR)
        if served and self._breaker.served():
            self._recovered = True
        mostly = self._breaker.tally(served, unclear)
        if failing or (unclear and mostly):
            halt |= self._breaker.failed(times=failing, probing=probing and not served, mostly=mostly)
        return halt

    def _judge_one(self, order: ClaimedOrder, served_at: datetime | None) -> bool:
        """Set what its answer means for an order; hold back its lane, or the remote, where that asks for it.

        Returns:
            Whether it does.
        """
        answer: Answer = order.answer
        lane = order.token_id
        now = self._clock()
        match answer.verdict:
            case Verdict.DELIVERED:
                self._refused.pop(lane, None)
                return False
            case Verdict.INVALID:
                refused = self._refused.setdefault(lane, set())
                refused.add(order.id)
                if len(refused) >= REFUSALS_IN_A_ROW:
                    reason = f"{REFUSALS_IN_A_ROW} orders in a row were refused for good: {answer.error}"
                    if self._deliveries.pause(lane, reason):
                        log.error("paused until a person resumes it: %s", reason, extra={"lane": lane})
                    order.duration_ms = None  # given back: not the orders are wrong
                    return True
            case Verdict.THROTTLED:
                self._deliveries.snooze(
                    lane, now + timedelta(seconds=snooze_seconds(answer.retry_after, now)), "throttled"
                )
            case Verdict.CREDENTIALS:
                self._sender.forget_token()
                log.error(
                    "the remote refuses our credentials (%s: %s); tried again once a minute",
                    answer.status, answer.error, extra={"lane": lane},
                )  # fmt: skip
                if answer.status == 403:
                    self._deliveries.snooze(lane, now + timedelta(minutes=1), CREDENTIALS)
        counted, next_at, waiting = decide_retry(
            answer, attempts=order.attempts, last_attempt_at=order.last_attempt_at, served_at=served_at,
            config=self._config, now=now, rng=self.context.rng,
        )  # fmt: skip
        order.failure = Failure(
            "sync_failed" if answer.verdict in _SERVED else "sync_error", answer.error_class or "Unknown",
            answer.error or "no reason given", next_at, waiting, counted, answer.verdict is Verdict.INVALID,
            order.duration_ms,
        )  # fmt: skip
        return answer.verdict in (Verdict.THROTTLED, Verdict.CREDENTIALS)
