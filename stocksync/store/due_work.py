"""Work that is due: looked up, and brought back after a worker's death or the end of an outage.

The base of `Deliveries`; what a failure writes into the operations is here because a rescue writes it too.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from stocksync.store.context import Context, Part
from stocksync.store.database import Statement, rows_of, uuid_of
from stocksync.store.fields import as_utc
from stocksync.store.logs import LogEntry, OperationLog
from stocksync.store.states import FAILED, PENDING
from stocksync.store.tallies import Counts, Tallies

# An order at whose side workers died twice is sent alone, so that no other is blamed for what it does.
SUSPECT = "waiting = 'rescued' AND attempts >= 2"
FREED = "claim_id = NULL, lease_until = NULL, claimed_version = NULL"
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
      SELECT id FROM stock_sync_orders WHERE claim_id IS NOT NULL AND lease_until < :now
      LIMIT :limit {{skip_locked}})
    UPDATE stock_sync_orders
    SET attempts = attempts + 1, last_attempt_at = :now, updated_at = :now, {FREED},
        waiting = CASE WHEN due_at IS NULL THEN waiting WHEN {_CONVICTED} THEN 'failed' ELSE 'rescued' END,
        due_at = CASE WHEN due_at IS NULL OR ({_CONVICTED}) THEN NULL ELSE :now END
    WHERE id IN (SELECT id FROM stranded)
    RETURNING id, token_id, due_at, waiting""")
_END_OUTAGE = Statement("""
    UPDATE stock_sync_orders SET due_at = :now, waiting = 'new' WHERE id IN (
      SELECT id FROM stock_sync_orders
      WHERE due_at IS NOT NULL AND claim_id IS NULL AND waiting = 'outage' LIMIT :limit {skip_locked})
    RETURNING id""")
_DUE_LANES = Statement("""
    SELECT token_id, MIN(due_at) FROM stock_sync_orders
    WHERE due_at IS NOT NULL AND claim_id IS NULL GROUP BY token_id""")
_NEXT_DUE = Statement("""
    SELECT MIN(due_at) FROM stock_sync_orders
    WHERE token_id = :lane AND due_at IS NOT NULL AND claim_id IS NULL""")

LEASE_RAN_OUT = "the worker died or stalled: its lease ran out before a result came"


class DueWork(Part):
    """What waits. Each change is one short transaction."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._log, self._tallies = OperationLog(context), Tallies(context)

    def rescue(self, now: datetime, max_attempts: int, limit: int = 500) -> int:
        """Return orders whose lease ran out to due. It counts as an attempt; only an order that was out alone,
        at the third death of its worker or later, ends as failed. Answers with how many; call again while it
        is `limit`."""
        with self._database.transaction_scope():
            rows = rows_of(self._database.run(_RESCUE, now=now, max_attempts=max_attempts, limit=limit))
            if not rows:
                return 0
            written = {uuid_of(row[0]): (as_utc(row[2]), row[3]) for row in rows}
            marked = self.mark_failed(
                [
                    (ref, due_at, waiting, "LeaseExpired", LEASE_RAN_OUT, True)
                    for ref, (due_at, waiting) in written.items()
                ],
                now,
            )
            entries: list[LogEntry] = []
            for operation_id, order_ref, retry_count in marked:
                entries.append(LogEntry(operation_id, "rescued", "processing", {"message": LEASE_RAN_OUT}))
                if written[order_ref][1] == FAILED:
                    entries.append(after_failure(operation_id, retry_count, *written[order_ref], True))
            self._log.add(entries, now)
            given_up = sum(written[order_ref][1] == FAILED for _, order_ref, _ in marked)
            self._tallies.add(Counts(rescued=len(rows), given_up=given_up), now)
        return len(rows)

    def end_outage(self, now: datetime, batch: int = 1000, batches: int = 1000) -> None:
        """Make due at once what waits for the remote alone, in batches of a short transaction each."""
        for _ in range(batches):
            with self._database.transaction_scope():
                if len(rows_of(self._database.run(_END_OUTAGE, now=now, limit=batch))) < batch:
                    return

    def due_lanes(self) -> dict[str, datetime]:
        """When each lane with waiting work has something due next."""
        rows = rows_of(self._database.run(_DUE_LANES))
        return {row[0]: moment for row in rows if (moment := as_utc(row[1])) is not None}

    def next_due(self, lane: str) -> datetime | None:
        """When the lane has something due next; None: nothing waits."""
        return as_utc(self._database.run(_NEXT_DUE, lane=lane).fetchone()[0])

    def mark_failed(
        self, failures: Iterable[tuple[UUID, datetime | None, str | None, str, str, bool]], now: datetime
    ) -> list[tuple[UUID, UUID, int]]:
        """Write failures into the operations that were out. Each: the order, when next (None: given up), why it waits,
        error class and words, whether an attempt was used up. Answers with (operation, order, attempts so far)."""
        rows: list[dict[str, Any]] = [
            {
                "id": order_ref,
                "status": FAILED if waiting == FAILED else PENDING,
                "next_at": next_at,
                "error_class": error_class,
                "error_message": error_message,
                "counted": int(counted),
            }
            for order_ref, next_at, waiting, error_class, error_message, counted in failures
        ]
        if not rows:
            return []
        cursor = self._database.run(_MARK_FAILED, failures=rows, now=now)
        return [(uuid_of(row[0]), uuid_of(row[1]), row[2]) for row in rows_of(cursor)]


def after_failure(
    operation_id: UUID, retry_count: int, next_at: datetime | None, waiting: str | None, counted: bool
) -> LogEntry:
    """What the log says of an operation's way on after its delivery failed."""
    if waiting == FAILED:
        return LogEntry(operation_id, "max_retries", FAILED, {"attempts": retry_count})
    details = {"attempts": retry_count, "next_at": None if next_at is None else next_at.isoformat()}
    if not counted:
        return LogEntry(operation_id, "snoozed", PENDING, {"waiting": waiting, "next_at": details["next_at"]})
    return LogEntry(operation_id, "retry_failed", PENDING, details)
