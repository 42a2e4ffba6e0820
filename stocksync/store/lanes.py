"""Lanes: the work of each seller account, who takes it, and what holds it back.

The only writer of a lane's pauses and snoozes. Each change is one short transaction.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from peewee import fn

from stocksync.store.context import Part, atomic, connected
from stocksync.store.database import Statement, uuid_of
from stocksync.store.models import Account, Order
from stocksync.store.operations import LogEntry, OperationLog
from stocksync.store.values import as_utc

# An order at whose side workers died twice is sent alone, so that no other is blamed for what it does.
SUSPECT = "waiting = 'rescued' AND attempts >= 2"
# The inner select is materialized, so that it runs once and its LIMIT holds under SKIP LOCKED.
_CLAIM = """
    WITH due AS MATERIALIZED (
      SELECT id FROM stock_sync_orders
      WHERE {which} AND due_at IS NOT NULL AND claim_id IS NULL AND due_at <= :now
      ORDER BY {order} LIMIT :limit {{skip_locked}})
    UPDATE stock_sync_orders
    SET claim_id = :claim_id, lease_until = :lease_until, claimed_version = state_version,
        ever_told_true = ever_told_true OR is_stock_updated
    WHERE id IN (SELECT id FROM due)
    RETURNING id, token_id, order_id, is_stock_updated, state_version, attempts, last_attempt_at, traceparent"""
_LANE_IS_OPEN = """EXISTS (
          SELECT 1 FROM stock_sync_accounts AS lane WHERE lane.token_id = {} AND NOT lane.paused
          AND (lane.snoozed_until IS NULL OR lane.snoozed_until <= :now))"""
_OF_LANE = "token_id = :which AND " + _LANE_IS_OPEN.format(":which")  # asked once, not for every order
Kind = Literal["lane", "suspect", "probe", "order"]
_CLAIMS: dict[Kind, Statement] = {
    "lane": Statement(_CLAIM.format(which=f"NOT COALESCE({SUSPECT}, FALSE) AND {_OF_LANE}", order="due_at")),
    "suspect": Statement(_CLAIM.format(which=f"{SUSPECT} AND {_OF_LANE}", order="due_at")),
    # Never tried ones come first, said so that both databases agree on where NULL sorts.
    "probe": Statement(_CLAIM.format(which=_OF_LANE, order="last_attempt_at IS NOT NULL, last_attempt_at")),
    "order": Statement(
        _CLAIM.format(
            which="id = :which AND " + _LANE_IS_OPEN.format("stock_sync_orders.token_id"), order="due_at"
        )
    ),
}
# As one row though the seller may be unknown.
_STATE = Statement("""
    SELECT COALESCE(a.paused, FALSE), a.paused_reason, a.snoozed_until,
           (SELECT MIN(due_at) FROM stock_sync_orders WHERE token_id = :lane AND due_at IS NOT NULL AND claim_id IS NULL)
    FROM (SELECT 1) AS one LEFT JOIN stock_sync_accounts AS a ON a.token_id = :lane""")
_MARK_PROCESSING = Statement("""
    UPDATE pending_stock_operations SET status = 'processing', updated_at = :now
    WHERE order_ref IN {orders:uuid} AND {no_index}status = 'pending' AND applied = 'yes'
    RETURNING id, retry_count""")
_END_OUTAGE = Statement("""
    UPDATE stock_sync_orders SET due_at = :now, waiting = 'new' WHERE id IN (
      SELECT id FROM stock_sync_orders
      WHERE due_at IS NOT NULL AND claim_id IS NULL AND waiting = 'outage' LIMIT :limit {skip_locked})
    RETURNING id""")
_BRING_FORWARD = Statement("""
    UPDATE stock_sync_orders SET due_at = :now WHERE id IN (
      SELECT id FROM stock_sync_orders
      WHERE due_at > :soon AND claim_id IS NULL AND waiting IN ('new', 'rescued', 'manual', 'reconciled')
      LIMIT :limit {skip_locked})""")
WAITS = Order.due_at.is_null(False) & Order.claim_id.is_null()
"""Nobody has it. It may be due later, or its lane be held back."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an order was not delivered, and what follows.

    `action`: how the log names it, `sync_failed` (the remote said no) or `sync_error`. `next_at` None: given up.
    `waiting`: why the order waits; `failed` if it is given up. `counted` False: no attempt is used up. `for_good`:
    the remote said that trying again is no use. `duration_ms`: of the request.
    """

    action: str
    error_class: str
    error_message: str
    next_at: datetime | None = None
    waiting: str = "retry"
    counted: bool = True
    for_good: bool = False
    duration_ms: int | None = None


@dataclass(slots=True)
class ClaimedOrder:
    """One order on its way: what to say and as which intention, then what came of it.

    `duration_ms` None: it was not sent. `answer`: for whoever judges it. `failure` None: the remote accepted it.
    """

    id: UUID
    claim_id: UUID
    token_id: str
    order_id: str
    is_stock_updated: bool
    state_version: int
    attempts: int
    last_attempt_at: datetime | None
    traceparent: str | None = None
    duration_ms: int | None = None
    answer: Any = None
    failure: Failure | None = None


class Lanes(Part):
    """Looks up, claims and holds back what is due."""

    def due_lanes(self) -> dict[str, datetime]:
        """When each lane with waiting work has something due next."""
        return dict(
            Order.select(Order.token_id, fn.MIN(Order.due_at))
            .where(WAITS)
            .group_by(Order.token_id)
            .tuples()
            .execute(self._database)
        )

    @atomic
    def claim(self, which: UUID | str, limit: int, kind: Kind = "lane") -> list[ClaimedOrder]:
        """Take up to `limit` due orders, under a claim id of their own, for as long as a lease holds.

        Args:
            which: a lane, or with `order` the id of an order's row.
            kind: `lane` takes the longest waiting, but none that `suspect` takes: orders at whose side workers died
                before, to be sent alone. `probe` takes what was tried longest ago: another order for each probe.
        """
        claim_id, now = self._new_id(), self._clock()
        orders = [
            ClaimedOrder(
                uuid_of(row[0]),
                claim_id,
                row[1],
                row[2],
                bool(row[3]),
                row[4],
                row[5],
                as_utc(row[6]),
                row[7],
            )
            for row in self._rows(
                _CLAIMS[kind],
                which=which,
                limit=limit,
                claim_id=claim_id,
                now=now,
                lease_until=now + timedelta(seconds=self._config.delivery_lease_seconds),
            )
        ]
        if orders:
            OperationLog(self.context).add(
                [
                    LogEntry(uuid_of(row[0]), "retry", "processing", {"attempt": row[1] + 1})
                    for row in self._rows(_MARK_PROCESSING, orders=[order.id for order in orders], now=now)
                    if row[1] > 0
                ],
                now,
            )
        return orders

    def end_outage(self, now: datetime, batch: int = 1000, batches: int = 1000) -> None:
        """Make due at once what waits for the remote alone, in batches of a short transaction each."""
        for _ in range(batches):
            with self._database.transaction_scope():
                if len(self._rows(_END_OUTAGE, now=now, limit=batch)) < batch:
                    return

    @atomic
    def bring_forward(self, now: datetime, limit: int = 10_000) -> None:
        """Undo what a process wrote whose clock is hours ahead: orders that are due at once, but not yet by our clock,
        and snoozes that are longer than any.

        Retries keep their time: it is another process, whose clock is behind, that may be doing this.
        """
        self._database.run(_BRING_FORWARD, now=now, soon=now + timedelta(minutes=1), limit=limit)
        Account.update(snoozed_until=None).where(Account.snoozed_until > now + timedelta(hours=2)).execute(
            self._database
        )

    @connected
    def state(self, lane: str) -> dict[str, Any]:
        """Whether the lane is `paused`, `snoozed_until` when (None: it is not), why (`paused_reason`), and when it has
        something due next (`next_due`; None: nothing waits). A lane never seen is open."""
        paused, reason, snoozed_until, next_due = self._rows(_STATE, lane=lane)[0]
        return {
            "paused": bool(paused),
            "paused_reason": reason,
            "snoozed_until": as_utc(snoozed_until),
            "next_due": as_utc(next_due),
        }

    @atomic
    def snooze(self, lane: str, until: datetime, reason: str | None = None) -> None:
        """Leave the lane alone until `until`, unless it is paused."""
        (
            Account.update(snoozed_until=until, paused_reason=reason)
            .where(Account.token_id == lane, ~Account.paused)
            .execute(self._database)
        )

    @atomic
    def pause(self, lane: str, reason: str) -> bool:
        """Leave the lane alone until a person resumes it. False: it was paused already."""
        return bool(
            Account.update(paused=True, paused_reason=reason)
            .where(Account.token_id == lane, ~Account.paused)
            .execute(self._database)
        )

    @atomic
    def resume(self, lane: str) -> bool:
        """Work on the lane again. False: there is no such lane."""
        return bool(
            Account.update(paused=False, paused_reason=None, snoozed_until=None)
            .where(Account.token_id == lane)
            .execute(self._database)
        )
