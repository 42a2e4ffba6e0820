"""What the delivery engine writes: claims and their results.

With `operations` the only writer of delivery state and of an operation's status. Each call is one short
transaction of its own. A result is written only where the claim id still holds (the fence).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from stocksync.store.database import Statement, among, rows_of, uuid_of
from stocksync.store.due_work import FREED, SUSPECT, DueWork, Failure
from stocksync.store.operations import LogEntry
from stocksync.store.states import COMPLETED, FAILED, origins
from stocksync.store.tallies import Counts, seconds_between
from stocksync.store.values import as_utc

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
Kind = Literal["lane", "suspect", "probe", "order"]
_CLAIMS: dict[Kind, Statement] = {
    "lane": Statement(_CLAIM.format(which=f"NOT COALESCE({SUSPECT}, FALSE) AND {_OF_LANE}", order="due_at")),
    "suspect": Statement(_CLAIM.format(which=f"{SUSPECT} AND {_OF_LANE}", order="due_at")),
    # Never tried ones come first, said so that both databases agree on where NULL sorts.
    "probe": Statement(_CLAIM.format(which=_OF_LANE, order="last_attempt_at IS NOT NULL, last_attempt_at")),
    "order": Statement(_CLAIM.format(which="id = :which", order="due_at")),
}
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
    duration_ms: int | None = None
    answer: Any = None
    failure: Failure | None = None


@dataclass(slots=True)
class Settled:
    """What a settlement came to.

    `figures`: orders `delivered`, `retrying`, `failed`, `released`; operations the same with `operations_` before it.
    `lost`: orders whose fence was gone; they are told again. `busy`: somebody else's transaction holds these orders;
    nothing was written of them yet.
    """

    figures: Counter[str] = field(default_factory=Counter)
    lost: set[UUID] = field(default_factory=set)
    busy: set[UUID] = field(default_factory=set)


class Deliveries(DueWork):
    """Claims and settlements on the orders, mirrored by their operations."""

    def claim(
        self,
        which: UUID | str,
        limit: int,
        claim_id: UUID,
        now: datetime,
        lease_until: datetime,
        kind: Kind = "lane",
    ) -> list[ClaimedOrder]:
        """Take up to `limit` due orders for as long as the lease holds.

        Args:
            which: a lane, or with `order` the id of an order's row.
            kind: `lane` takes the longest waiting, but none that `suspect` takes: orders at whose side workers died
                before, to be sent alone. `probe` takes what was tried longest ago: another order for each probe.
        """
        with self._database.transaction_scope():
            cursor = self._database.run(
                _CLAIMS[kind], which=which, limit=limit, claim_id=claim_id, now=now, lease_until=lease_until
            )
            orders = [
                ClaimedOrder(
                    uuid_of(row[0]), claim_id, row[1], row[2], bool(row[3]), row[4], row[5], as_utc(row[6])
                )
                for row in rows_of(cursor)
            ]
            if orders:
                cursor = self._database.run(_MARK_PROCESSING, orders=[order.id for order in orders], now=now)
                retried = [
                    LogEntry(uuid_of(row[0]), "retry", "processing", {"attempt": row[1] + 1})
                    for row in rows_of(cursor)
                    if row[1] > 0
                ]
                self._log.add(retried, now)
        return orders

    def settle(self, orders: Sequence[ClaimedOrder], now: datetime) -> Settled:
        """Write what came of orders of one claim and give back what was not sent, in one transaction.

        Orders whose fence was lost after sending are made due again under a new state version, so that the
        last word at the remote is the current state, whichever request came last.

        Raises:
            DatabaseUnavailable: nothing was written.
        """
        settled, counts = Settled(), Counts()
        with self._database.transaction_scope():
            if self._database.dialect.name == "postgresql":
                refs = [order.id for order in orders]
                free = rows_of(self._database.run(_LOCK_SENT, orders=refs))
                settled.busy = set(refs) - {uuid_of(row[0]) for row in free}
                orders = [order for order in orders if order.id not in settled.busy]
            sent = {order.id: order for order in orders if order.duration_ms is not None}
            held = self._write_delivered(sent, now, settled, counts)
            held |= self._write_failures(sent, now, settled)
            counts["given_up"] = settled.figures["operations_failed"]
            for ref in held:
                failure = sent[ref].failure
                result = "delivered" if failure is None else "failed" if failure.counted else "put_off"
                counts.sent(result, sent[ref].duration_ms or 0)
            self._tallies.add(counts, now)
            settled.lost = sent.keys() - held
            if settled.lost:
                self._database.run(_TELL_AGAIN, orders=list(settled.lost), now=now)
            back = [order.id for order in orders if order.duration_ms is None]
            if back:
                cursor = self._database.run(_RELEASE, claim_id=orders[0].claim_id, orders=back)
                freed = [uuid_of(row[0]) for row in rows_of(cursor)]
                self._database.run(_BACK_TO_PENDING, orders=freed, now=now)
                settled.figures["released"] = len(back)
        return settled

    def _write_delivered(
        self, sent: Mapping[UUID, ClaimedOrder], now: datetime, settled: Settled, counts: Counts
    ) -> set[UUID]:
        """Write what was accepted. Answers with the orders that were still held."""
        held: set[UUID] = set()
        for flag in (True, False):
            orders = [it for it in sent.values() if it.failure is None and it.is_stock_updated is flag]
            if orders:
                given = {"claim_id": orders[0].claim_id, "flag": flag, "orders": [it.id for it in orders]}
                held |= {uuid_of(row[0]) for row in rows_of(self._database.run(_DELIVERED, now=now, **given))}
        if held:
            by_bound_id = {self._database.bound(ref): sent[ref] for ref in held}
            completed = rows_of(self._database.run(_COMPLETE, orders=list(held), now=now))
            entries: list[LogEntry] = []
            # Ids stay the driver's: two a row, only to be written again.
            for operation_id, order_ref, created_at, first_failed_at in completed:
                order = by_bound_id[order_ref]
                since_failure = None if first_failed_at is None else seconds_between(first_failed_at, now)
                counts.completed(seconds_between(created_at, now), since_failure)
                told = {"told": order.is_stock_updated, "version": order.state_version}
                entries.append(LogEntry(operation_id, "sync_success", "processing", told, order.duration_ms))
                entries.append(LogEntry(operation_id, "completed", COMPLETED, {}))
            self._log.add(entries, now)
            settled.figures.update(delivered=len(held), operations_completed=len(completed))
        return held

    def _write_failures(
        self, sent: Mapping[UUID, ClaimedOrder], now: datetime, settled: Settled
    ) -> set[UUID]:
        """Write what failed. Answers with the orders that were still held."""
        failures = {ref: order.failure for ref, order in sent.items() if order.failure}
        if not failures:
            return set()
        given = {
            "claim_id": next(iter(sent.values())).claim_id,
            "failures": [
                {"id": ref, "next_at": it.next_at, "waiting": it.waiting, "counted": int(it.counted)}
                for ref, it in failures.items()
            ],
        }
        rows = rows_of(self._database.run(_NOT_DELIVERED, now=now, **given))
        took = {ref: order.duration_ms for ref, order in sent.items()}
        settled.figures += self._mark_failed(rows, failures, took, now)
        given_up = sum(row[2] == FAILED for row in rows)
        settled.figures += Counter(failed=given_up, retrying=len(rows) - given_up)
        return {uuid_of(row[0]) for row in rows}
