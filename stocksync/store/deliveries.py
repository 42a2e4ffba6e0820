"""What the delivery engine writes: claims and their results.

With `operations` the only writer of delivery state and of an operation's status. Each call is one short
transaction of its own. A result is written only where the claim id still holds (the fence).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from stocksync.store.database import Statement, among, rows_of, uuid_of
from stocksync.store.due_work import FREED, SUSPECT, DueWork, after_failure
from stocksync.store.fields import as_utc
from stocksync.store.logs import LogEntry
from stocksync.store.states import COMPLETED, FAILED, origins
from stocksync.store.tallies import Counts, seconds_between

# The inner select is materialized, so that it runs once and its LIMIT holds under SKIP LOCKED.
_CLAIM = """
    WITH due AS MATERIALIZED (
      SELECT id FROM stock_sync_orders
      WHERE {which} AND due_at IS NOT NULL AND claim_id IS NULL AND due_at <= :now
      ORDER BY {order} LIMIT :limit {{skip_locked}})
    UPDATE stock_sync_orders
    SET claim_id = :claim_id, lease_until = :lease_until, claimed_version = state_version,
        told_true = told_true OR is_stock_updated
    WHERE id IN (SELECT id FROM due)
    RETURNING id, token_id, order_id, is_stock_updated, state_version, attempts, last_attempt_at"""
_OF_LANE = """token_id = :which AND EXISTS (
          SELECT 1 FROM stock_sync_accounts AS lane WHERE lane.token_id = :which AND NOT lane.paused
          AND (lane.snoozed_until IS NULL OR lane.snoozed_until <= :now))"""
_CLAIM_LANE = Statement(_CLAIM.format(which=f"NOT COALESCE({SUSPECT}, FALSE) AND {_OF_LANE}", order="due_at"))
_CLAIMSUSPECT = Statement(_CLAIM.format(which=f"{SUSPECT} AND {_OF_LANE}", order="due_at"))
# Never tried ones come first, said so that both databases agree on where NULL sorts.
_CLAIM_PROBE = Statement(_CLAIM.format(which=_OF_LANE, order="last_attempt_at IS NOT NULL, last_attempt_at"))
_CLAIM_ORDER = Statement(_CLAIM.format(which="id = :which", order="due_at"))
_MARK_PROCESSING = Statement("""
    UPDATE pending_stock_operations SET status = 'processing', updated_at = :now
    WHERE order_ref IN {orders:uuid} AND {no_index}status = 'pending' AND applied = 'yes'
    RETURNING id, retry_count""")
_DELIVERED = Statement(f"""
    UPDATE stock_sync_orders
    SET delivered_version = claimed_version, remote_flag = :flag, remote_seen_at = :now, last_attempt_at = :now,
        attempts = 0, updated_at = :now, {FREED},
        waiting = CASE WHEN due_at IS NULL THEN waiting WHEN state_version > claimed_version THEN 'new' END,
        due_at = CASE WHEN due_at IS NOT NULL AND state_version > claimed_version THEN :now END
    WHERE {{no_index}}claim_id = :claim_id AND id IN {{orders:uuid}} RETURNING id""")
_COMPLETE = Statement(f"""
    UPDATE pending_stock_operations
    SET status = 'completed', completed_at = :now, updated_at = :now, next_retry_at = NULL,
        error_message = NULL, error_class = NULL
    WHERE order_ref IN {{orders:uuid}} AND {{no_index}}status IN {among(origins(COMPLETED))} AND applied = 'yes'
      AND state_version <= (SELECT delivered_version FROM stock_sync_orders AS o WHERE o.id = order_ref)
    RETURNING id, order_ref, created_at, first_failed_at""")
# A state that changed while the request was out starts over: the failure was not of what is wanted now.
_NOT_DELIVERED = Statement(f"""
    UPDATE stock_sync_orders
    SET attempts = CASE WHEN state_version > claimed_version THEN 0 ELSE attempts + failure.counted END,
        last_attempt_at = :now, updated_at = :now, {FREED},
        waiting = CASE WHEN due_at IS NULL THEN stock_sync_orders.waiting
                       WHEN state_version > claimed_version THEN 'new' ELSE failure.waiting END,
        due_at = CASE WHEN due_at IS NULL THEN NULL
                      WHEN state_version > claimed_version THEN :now ELSE failure.next_at END
    FROM {{rows:failures(id uuid, next_at timestamptz, waiting text, counted int)}} AS failure
    WHERE stock_sync_orders.id = failure.id AND {{no_index}}claim_id = :claim_id
    RETURNING stock_sync_orders.id, stock_sync_orders.due_at, stock_sync_orders.waiting""")
# What a caller's open transaction holds is settled later: waiting for it with other rows in hand could deadlock.
_LOCK_SENT = Statement("SELECT id FROM stock_sync_orders WHERE id IN {orders:uuid} {skip_locked}")
_RELEASE = Statement(f"""
    UPDATE stock_sync_orders SET {FREED} WHERE {{no_index}}claim_id = :claim_id AND id IN {{orders:uuid}} RETURNING id""")
_BACK_TO_PENDING = Statement("""
    UPDATE pending_stock_operations SET status = 'pending', updated_at = :now
    WHERE order_ref IN {orders:uuid} AND {no_index}status = 'processing'""")
_TELL_AGAIN = Statement("""
    UPDATE stock_sync_orders
    SET state_version = state_version + 1, due_at = :now, waiting = 'new', updated_at = :now
    WHERE id IN {orders:uuid} AND is_stock_updated IS NOT NULL AND COALESCE(waiting, '') <> 'cancelled'""")


@dataclass(frozen=True, slots=True)
class ClaimedOrder:
    """One order to send: what to say, and as which intention."""

    id: UUID
    token_id: str
    order_id: str
    is_stock_updated: bool
    state_version: int
    attempts: int
    last_attempt_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """Orders taken for a bounded time. `lease_until` is aware UTC."""

    id: UUID
    lease_until: datetime
    orders: Sequence[ClaimedOrder]


@dataclass(frozen=True, slots=True)
class Delivered:
    """The remote accepted this order's state."""

    order: ClaimedOrder
    duration_ms: int


@dataclass(frozen=True, slots=True)
class NotDelivered:
    """A delivery failed. `next_at` None: given up. `action` is `sync_failed` (it said no) or `sync_error`.

    `counted` False: no attempt is used up, and `waiting` says what the order waits for. `for_good`: the remote
    said that trying again is no use.
    """

    order: ClaimedOrder
    duration_ms: int
    action: str
    error_class: str
    error_message: str
    next_at: datetime | None
    waiting: str = "retry"
    counted: bool = True
    for_good: bool = False


@dataclass(slots=True)
class Settled:
    """What a settlement came to, in orders and operations. `lost`: the fence was gone; those are told again.

    `busy`: somebody else's transaction holds these orders; nothing was written of them yet.
    """

    delivered: int = 0
    retrying: int = 0
    failed: int = 0
    released: int = 0
    operations_completed: int = 0
    operations_retrying: int = 0
    operations_failed: int = 0
    lost: list[UUID] = field(default_factory=list)
    busy: set[UUID] = field(default_factory=set)


class Deliveries(DueWork):
    """Claims and settlements on the orders, mirrored by their operations."""

    def claim(self, lane: str, limit: int, claim_id: UUID, now: datetime, lease_until: datetime) -> Claim:
        """Take up to `limit` due orders of one lane, the longest waiting first; none that `claim_suspect` takes."""
        return self._claim(_CLAIM_LANE, lane, limit, claim_id, now, lease_until)

    def claim_probe(self, lane: str, claim_id: UUID, now: datetime, lease_until: datetime) -> Claim:
        """Take the one due order of the lane that was tried longest ago: another one for each probe."""
        return self._claim(_CLAIM_PROBE, lane, 1, claim_id, now, lease_until)

    def claim_suspect(self, lane: str, claim_id: UUID, now: datetime, lease_until: datetime) -> Claim:
        """Take one order at whose side workers died before, alone."""
        return self._claim(_CLAIMSUSPECT, lane, 1, claim_id, now, lease_until)

    def claim_order(self, order_ref: UUID, claim_id: UUID, now: datetime, lease_until: datetime) -> Claim:
        """Take one order if it is due and free; an empty claim otherwise."""
        return self._claim(_CLAIM_ORDER, order_ref, 1, claim_id, now, lease_until)

    def _claim(
        self,
        statement: Statement,
        which: Any,
        limit: int,
        claim_id: UUID,
        now: datetime,
        lease_until: datetime,
    ) -> Claim:
        with self._database.transaction_scope():
            rows = rows_of(
                self._database.run(
                    statement, which=which, limit=limit, claim_id=claim_id, now=now, lease_until=lease_until
                )
            )
            orders = [
                ClaimedOrder(uuid_of(row[0]), row[1], row[2], bool(row[3]), row[4], row[5], as_utc(row[6]))
                for row in rows
            ]
            if orders:
                marked = rows_of(self._database.run(_MARK_PROCESSING, orders=[o.id for o in orders], now=now))
                self._log.add(
                    [
                        LogEntry(uuid_of(row[0]), "retry", "processing", {"attempt": row[1] + 1})
                        for row in marked
                        if row[1] > 0
                    ],
                    now,
                )
        return Claim(claim_id, lease_until, orders)

    def settle(
        self,
        claim_id: UUID,
        delivered: Sequence[Delivered],
        failures: Sequence[NotDelivered],
        now: datetime,
        unsent: Sequence[ClaimedOrder] = (),
    ) -> Settled:
        """Write the results of a claim and give back what was not sent, in one transaction.

        Orders whose fence was lost after sending are made due again under a new state version, so that the
        last word at the remote is the current state, whichever request came last.

        Raises:
            DatabaseUnavailable: nothing was written.
        """
        settled, counts = Settled(), Counts()
        sent = [d.order.id for d in delivered] + [f.order.id for f in failures]
        back = [order.id for order in unsent]
        with self._database.transaction_scope():
            if self._database.dialect.name == "postgresql":
                free = {
                    uuid_of(row[0]) for row in rows_of(self._database.run(_LOCK_SENT, orders=sent + back))
                }
                settled.busy = {*sent, *back} - free
                delivered = [d for d in delivered if d.order.id in free]
                failures = [f for f in failures if f.order.id in free]
                back = [ref for ref in back if ref in free]
            held: set[UUID] = set()
            if delivered:
                held |= self._write_delivered(claim_id, delivered, now, settled, counts)
            if failures:
                held |= self._write_failures(claim_id, failures, now, settled, counts)
            self._tallies.add(counts, now)
            settled.lost = [ref for ref in sent if ref not in held and ref not in settled.busy]
            if settled.lost:
                self._database.run(_TELL_AGAIN, orders=settled.lost, now=now)
            if back:
                self._release(claim_id, back, now)
                settled.released = len(back)
        return settled

    def _release(self, claim_id: UUID, orders: list[UUID], now: datetime) -> None:
        freed = rows_of(self._database.run(_RELEASE, claim_id=claim_id, orders=orders))
        if freed:
            self._database.run(_BACK_TO_PENDING, orders=[uuid_of(row[0]) for row in freed], now=now)

    def _write_delivered(
        self, claim_id: UUID, delivered: Sequence[Delivered], now: datetime, settled: Settled, counts: Counts
    ) -> set[UUID]:
        held: set[UUID] = set()
        for flag in (True, False):
            orders = [result.order.id for result in delivered if result.order.is_stock_updated is flag]
            if orders:
                cursor = self._database.run(_DELIVERED, claim_id=claim_id, flag=flag, orders=orders, now=now)
                held.update(uuid_of(row[0]) for row in rows_of(cursor))
        if held:
            took = {self._database.bound(result.order.id): result for result in delivered}
            completed = rows_of(self._database.run(_COMPLETE, orders=list(held), now=now))
            entries: list[LogEntry] = []
            # Ids stay the driver's: two a row, only to be written again.
            for operation_id, order_ref, created_at, first_failed_at in completed:
                result = took[order_ref]
                counts.completed(
                    seconds_between(created_at, now),
                    None if first_failed_at is None else seconds_between(first_failed_at, now),
                )
                told = {"told": result.order.is_stock_updated, "version": result.order.state_version}
                entries.append(LogEntry(operation_id, "sync_success", "processing", told, result.duration_ms))
                entries.append(LogEntry(operation_id, "completed", COMPLETED, {}))
            self._log.add(entries, now)
            settled.operations_completed += len(completed)
        for result in delivered:
            if result.order.id in held:
                counts.sent("delivered", result.duration_ms)
        settled.delivered += len(held)
        return held

    def _write_failures(
        self,
        claim_id: UUID,
        failures: Sequence[NotDelivered],
        now: datetime,
        settled: Settled,
        counts: Counts,
    ) -> set[UUID]:
        given = [
            {
                "id": f.order.id,
                "next_at": f.next_at,
                "waiting": FAILED if f.next_at is None else f.waiting,
                "counted": int(f.counted),
            }
            for f in failures
        ]
        rows = rows_of(self._database.run(_NOT_DELIVERED, claim_id=claim_id, failures=given, now=now))
        written = {uuid_of(row[0]): (as_utc(row[1]), row[2]) for row in rows}
        failure_of = {f.order.id: f for f in failures if f.order.id in written}
        for failure in failure_of.values():
            counts.sent("failed" if failure.counted else "put_off", failure.duration_ms)
        marked = self.mark_failed(
            [
                (ref, *written[ref], f.error_class, f.error_message, f.counted)
                for ref, f in failure_of.items()
            ],
            now,
        )
        entries: list[LogEntry] = []
        for operation_id, order_ref, retry_count in marked:
            failure = failure_of[order_ref]
            said: dict[str, Any] = {"class": failure.error_class, "message": failure.error_message}
            if not failure.counted:
                said["counted"] = False
            if failure.for_good and written[order_ref][1] == FAILED:
                entries.append(LogEntry(operation_id, failure.action, FAILED, said, failure.duration_ms))
                continue
            entries.append(LogEntry(operation_id, failure.action, "processing", said, failure.duration_ms))
            entries.append(after_failure(operation_id, retry_count, *written[order_ref], failure.counted))
        self._log.add(entries, now)
        given_up = {order_ref for order_ref, (_, waiting) in written.items() if waiting == FAILED}
        settled.failed += len(given_up)
        settled.retrying += len(written) - len(given_up)
        settled.operations_failed += sum(order_ref in given_up for _, order_ref, _ in marked)
        counts["given_up"] += settled.operations_failed
        settled.operations_retrying += sum(order_ref not in given_up for _, order_ref, _ in marked)
        return set(written)
