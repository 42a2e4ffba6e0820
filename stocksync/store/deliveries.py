"""What the delivery engine writes: what came of the orders that it claimed, and of those that a dead worker left.

With `operations` and `lanes` the only writer of delivery state and of an operation's status. Each call is one short
transaction of its own. A result is written only where the claim id still holds (the fence).
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from stocksync.store.context import atomic
from stocksync.store.database import Statement, among, uuid_of
from stocksync.store.lanes import SUSPECT, ClaimedOrder, Failure, Lanes
from stocksync.store.operations import LogEntry, OperationLog
from stocksync.store.states import COMPLETED, FAILED, ORIGINS, PENDING
from stocksync.store.tallies import Counts, Tallies, seconds_between
from stocksync.store.values import as_utc

_FREED = "claim_id = NULL, lease_until = NULL, claimed_version = NULL"
_DELIVERED = Statement(f"""
    UPDATE stock_sync_orders
    SET delivered_version = claimed_version, remote_flag = NOT (id IN {{told_false:uuid}}), remote_seen_at = :now,
        last_attempt_at = :now, attempts = 0, updated_at = :now, {_FREED},
        waiting = CASE WHEN due_at IS NULL THEN waiting WHEN state_version > claimed_version THEN 'new' END,
        due_at = CASE WHEN due_at IS NOT NULL AND state_version > claimed_version THEN :now END
    WHERE {{no_index}}claim_id = :claim_id AND id IN {{orders:uuid}} RETURNING id""")
_COMPLETE = Statement(f"""
    UPDATE pending_stock_operations
    SET status = 'completed', completed_at = :now, updated_at = :now, next_retry_at = NULL,
        error_message = NULL, error_class = NULL
    WHERE order_ref IN {{orders:uuid}} AND {{no_index}}status IN {among(ORIGINS[COMPLETED])} AND applied = 'yes'
      AND state_version <= (SELECT delivered_version FROM stock_sync_orders AS o WHERE o.id = order_ref)
    RETURNING id, order_ref, created_at, first_failed_at""")
# A state that changed while the request was out starts over: the failure was not of what is wanted now.
_NOT_DELIVERED = Statement(f"""
    UPDATE stock_sync_orders
    SET attempts = CASE WHEN state_version > claimed_version THEN 0 ELSE attempts + failure.counted END,
        last_attempt_at = :now, updated_at = :now, {_FREED},
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
    UPDATE stock_sync_orders SET {_FREED} WHERE {{no_index}}claim_id = :claim_id AND id IN {{orders:uuid}} RETURNING id""")
_BACK_TO_PENDING = Statement("""
    UPDATE pending_stock_operations SET status = 'pending', updated_at = :now
    WHERE order_ref IN {orders:uuid} AND {no_index}status = 'processing'""")
_TELL_AGAIN = Statement("""
    UPDATE stock_sync_orders
    SET state_version = state_version + 1, due_at = :now, waiting = 'new', updated_at = :now
    WHERE id IN {orders:uuid} AND is_stock_updated IS NOT NULL AND COALESCE(waiting, '') <> 'cancelled'""")
_MARK_FAILED = Statement("""
    UPDATE pending_stock_operations
    SET status = failure.status, retry_count = retry_count + failure.counted, next_retry_at = failure.next_at, updated_at = :now,
        first_failed_at = COALESCE(first_failed_at, :now), error_class = failure.error_class, error_message = failure.error_message
    FROM {rows:failures(id uuid, status text, next_at timestamptz, error_class text, error_message text, counted int)}
      AS failure
    WHERE order_ref = failure.id AND {no_index}pending_stock_operations.status = 'processing'
    RETURNING pending_stock_operations.id, order_ref, retry_count""")
# Only a suspect was alone in its claim; any other may have died beside the one that did it.
_CONVICTED = f"{SUSPECT} AND attempts + 1 >= :max_attempts AND state_version = claimed_version"
_RESCUE = Statement(f"""
    WITH stranded AS MATERIALIZED (
      SELECT id FROM stock_sync_orders WHERE claim_id IS NOT NULL AND lease_until NOT BETWEEN :now AND :latest
      LIMIT :limit {{skip_locked}})
    UPDATE stock_sync_orders
    SET attempts = attempts + 1, last_attempt_at = :now, updated_at = :now, {_FREED},
        waiting = CASE WHEN due_at IS NULL THEN waiting WHEN {_CONVICTED} THEN 'failed' ELSE 'rescued' END,
        due_at = CASE WHEN due_at IS NULL OR ({_CONVICTED}) THEN NULL ELSE :now END
    WHERE id IN (SELECT id FROM stranded)
    RETURNING id, due_at, waiting""")

_RESCUED = Failure(
    "rescued", "LeaseExpired", "the worker died or stalled: its lease ran out before a result came"
)


FIGURES: Final = (
    *("delivered", "retrying", "failed", "lost", "released"),
    *("operations_completed", "operations_retrying", "operations_failed"),
)
"""What settlements count: orders, and the operations that mirror them."""


@dataclass(slots=True)
class Settled:
    """What a settlement came to.

    `figures`: counts by the names of FIGURES.
    `lost`: orders whose fence was gone; they are told again. `busy`: somebody else's transaction holds these orders;
    nothing was written of them yet.
    """

    figures: Counter[str] = field(default_factory=Counter)
    lost: set[UUID] = field(default_factory=set)
    busy: set[UUID] = field(default_factory=set)


class Deliveries(Lanes):
    """Claims and settlements on the orders, mirrored by their operations."""

    @atomic
    def settle(self, orders: Sequence[ClaimedOrder], now: datetime) -> Settled:
        """Write what came of orders of one claim and give back what was not sent, in one transaction.

        Orders whose fence was lost after sending are made due again under a new state version, so that the
        last word at the remote is the current state, whichever request came last.

        Raises:
            DatabaseUnavailable: nothing was written.
        """
        settled, counts = Settled(), Counts()
        if self._database.dialect.name == "postgresql":
            ids = [order.id for order in orders]
            settled.busy = set(ids) - self._ids(_LOCK_SENT, orders=ids)
            orders = [order for order in orders if order.id not in settled.busy]
        sent = {order.id: order for order in orders if order.duration_ms is not None}
        held = self._write_delivered(sent, now, settled, counts) | self._write_failures(sent, now, settled)
        for order in (sent[ref] for ref in held):
            counts.sent(
                "delivered" if not order.failure else "failed" if order.failure.counted else "deferred",
                order.duration_ms or 0,
            )
        counts["given_up"] = settled.figures["operations_failed"]
        Tallies(self.context).add(counts, now)
        settled.lost = sent.keys() - held
        if settled.lost:
            self._database.run(_TELL_AGAIN, orders=list(settled.lost), now=now)
        back = [order.id for order in orders if order.duration_ms is None]
        if back:
            freed = self._ids(_RELEASE, claim_id=orders[0].claim_id, orders=back)
            self._database.run(_BACK_TO_PENDING, orders=list(freed), now=now)
        settled.figures.update(lost=len(settled.lost), released=len(back))
        return settled

    def _write_delivered(
        self, sent: Mapping[UUID, ClaimedOrder], now: datetime, settled: Settled, counts: Counts
    ) -> set[UUID]:
        """Write what was accepted. Answers with the orders that were still held."""
        accepted = [order for order in sent.values() if order.failure is None]
        if not accepted:
            return set()
        held = self._ids(
            _DELIVERED,
            claim_id=accepted[0].claim_id,
            orders=[order.id for order in accepted],
            told_false=[order.id for order in accepted if not order.is_stock_updated],
            now=now,
        )
        completed = self._rows(_COMPLETE, orders=list(held), now=now)
        entries: list[LogEntry] = []
        for operation_id, order_ref, created_at, first_failed_at in completed:
            order = sent[uuid_of(order_ref)]
            counts.completed(
                seconds_between(created_at, now),
                None if first_failed_at is None else seconds_between(first_failed_at, now),
            )
            entries += [
                LogEntry(
                    operation_id,
                    "sync_success",
                    "processing",
                    {"told": order.is_stock_updated, "version": order.state_version},
                    order.duration_ms,
                ),
                LogEntry(operation_id, "completed", COMPLETED, {}),
            ]
        OperationLog(self.context).add(entries, now)
        settled.figures.update(delivered=len(held), operations_completed=len(completed))
        return held

    def _write_failures(
        self, sent: Mapping[UUID, ClaimedOrder], now: datetime, settled: Settled
    ) -> set[UUID]:
        """Write what failed. Answers with the orders that were still held."""
        failures = {ref: order.failure for ref, order in sent.items() if order.failure}
        if not failures:
            return set()
        rows = self._rows(
            _NOT_DELIVERED,
            claim_id=next(iter(sent.values())).claim_id,
            failures=[
                {"id": ref, "next_at": it.next_at, "waiting": it.waiting, "counted": int(it.counted)}
                for ref, it in failures.items()
            ],
            now=now,
        )
        settled.figures += self._mark_failed(rows, failures, now)
        return {uuid_of(row[0]) for row in rows}

    @atomic
    def rescue(self, now: datetime, max_attempts: int, limit: int = 500) -> int:
        """Make due again what was claimed by a process that is gone.

        That is an order whose lease ran out, or one that ends later than any clock that is wrong by a time zone
        explains. It counts as an attempt; only an order that was out alone, at the third death of its worker or later,
        ends as failed. Answers with how many; call again while it is `limit`.
        """
        rows = self._rows(
            _RESCUE, now=now, latest=now + timedelta(hours=15), max_attempts=max_attempts, limit=limit
        )
        figures = self._mark_failed(rows, {uuid_of(row[0]): _RESCUED for row in rows}, now)
        Tallies(self.context).add(Counts(rescued=len(rows), given_up=figures["operations_failed"]), now)
        return len(rows)

    def _mark_failed(
        self, rows: Sequence[tuple[Any, ...]], failures: Mapping[UUID, Failure], now: datetime
    ) -> Counter[str]:
        """Write failures into the operations that were out, and into their log. Answers with figures, as of `Settled`.

        Args:
            rows: of orders as they are now: id, when due (None: given up), why it waits.
        """
        orders = {uuid_of(row[0]): (as_utc(row[1]), row[2]) for row in rows}
        figures = Counter("failed" if waiting == FAILED else "retrying" for _, waiting in orders.values())
        marks = [
            {
                "id": ref,
                "status": FAILED if waiting == FAILED else PENDING,
                "next_at": due_at,
                "error_class": failures[ref].error_class,
                "error_message": failures[ref].error_message,
                "counted": int(failures[ref].counted),
            }
            for ref, (due_at, waiting) in orders.items()
        ]
        if marks:
            entries: list[LogEntry] = []
            for row in self._rows(_MARK_FAILED, failures=marks, now=now):
                ref = uuid_of(row[1])
                entries += _entries(failures[ref], uuid_of(row[0]), row[2], *orders[ref])
                figures["operations_failed" if orders[ref][1] == FAILED else "operations_retrying"] += 1
            OperationLog(self.context).add(entries, now)
        return figures


def _entries(
    failure: Failure, operation_id: UUID, attempts: int, due_at: datetime | None, waiting: str
) -> Iterator[LogEntry]:
    """What the log says of an operation whose order is due at `due_at` after `failure`."""
    said: dict[str, Any] = {"message": failure.error_message}
    if failure is not _RESCUED:
        said["class"] = failure.error_class
    given_up = waiting == FAILED
    at_once = given_up and failure.for_good
    yield LogEntry(
        operation_id, failure.action, FAILED if at_once else "processing", said, failure.duration_ms
    )
    next_at = due_at and due_at.isoformat()
    if given_up and not at_once:
        yield LogEntry(operation_id, "max_retries", FAILED, {"attempts": attempts})
    elif not given_up and not failure.counted:
        yield LogEntry(operation_id, "snoozed", PENDING, {"waiting": waiting, "next_at": next_at})
    elif not given_up and failure is not _RESCUED:
        yield LogEntry(operation_id, "retry_failed", PENDING, {"attempts": attempts, "next_at": next_at})
