"""Work that is due, lane by lane: looked up, brought back after a worker's death or an outage, held back in its lane.

The base of `Deliveries`. What a failure writes into the operations is here because a rescue writes it too.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from stocksync.store.context import Context, Part
from stocksync.store.database import Statement, rows_of, uuid_of
from stocksync.store.models import Account
from stocksync.store.operations import LogEntry, OperationLog
from stocksync.store.states import FAILED, PENDING
from stocksync.store.tallies import Counts, Tallies
from stocksync.store.values import as_utc

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
    RETURNING id, due_at, waiting""")
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


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an order was not delivered, and what follows.

    `action`: how the log names it, `sync_failed` (the remote said no) or `sync_error`. `next_at` None: given up.
    `waiting`: why the order waits; `failed` if it is given up. `counted` False: no attempt is used up. `for_good`:
    the remote said that trying again is no use.
    """

    action: str
    error_class: str
    error_message: str
    next_at: datetime | None = None
    waiting: str = "retry"
    counted: bool = True
    for_good: bool = False

    def entries(
        self, operation_id: UUID, attempts: int, due_at: datetime | None, waiting: str, took: int | None
    ) -> Iterator[LogEntry]:
        """What the log says of an operation whose order is due at `due_at` after this failure."""
        said: dict[str, Any] = {"message": self.error_message}
        if self is not _RESCUED:
            said |= {"class": self.error_class} | ({} if self.counted else {"counted": False})
        ended = waiting == FAILED
        at_once = ended and self.for_good
        yield LogEntry(operation_id, self.action, FAILED if at_once else "processing", said, took)
        next_at = due_at and due_at.isoformat()
        if ended and not at_once:
            yield LogEntry(operation_id, "max_retries", FAILED, {"attempts": attempts})
        elif not ended and not self.counted:
            yield LogEntry(operation_id, "snoozed", PENDING, {"waiting": waiting, "next_at": next_at})
        elif not ended and self is not _RESCUED:
            yield LogEntry(operation_id, "retry_failed", PENDING, {"attempts": attempts, "next_at": next_at})


_RESCUED = Failure(
    "rescued", "LeaseExpired", "the worker died or stalled: its lease ran out before a result came"
)


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
            figures = self._mark_failed(rows, {uuid_of(row[0]): _RESCUED for row in rows}, {}, now)
            self._tallies.add(Counts(rescued=len(rows), given_up=figures["operations_failed"]), now)
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

    def _mark_failed(
        self,
        rows: Sequence[tuple[Any, ...]],
        failures: Mapping[UUID, Failure],
        took: Mapping[UUID, int | None],
        now: datetime,
    ) -> Counter[str]:
        """Write failures into the operations that were out, and into their log.

        Args:
            rows: of orders as they are now: id, when due (None: given up), why it waits.
            took: milliseconds of the requests.

        Returns:
            How many `operations_failed` and `operations_retrying` there are.
        """
        orders = {uuid_of(row[0]): (as_utc(row[1]), row[2]) for row in rows}
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
        figures: Counter[str] = Counter()
        if marks:
            entries: list[LogEntry] = []
            for row in rows_of(self._database.run(_MARK_FAILED, failures=marks, now=now)):
                ref = uuid_of(row[1])
                entries += failures[ref].entries(uuid_of(row[0]), row[2], *orders[ref], took.get(ref))
                figures["operations_failed" if orders[ref][1] == FAILED else "operations_retrying"] += 1
            self._log.add(entries, now)
        return figures


class Lanes(Part):
    """Pauses, snoozes and resumes the work of one seller account: the only writer of that. Each change is a transaction."""

    def state(self, lane: str) -> Any:
        """The lane's account: whether it is `paused`, `snoozed_until` when, and why (`paused_reason`). A lane never
        seen is open."""
        found = Account.select().where(Account.token_id == lane).first(self._database)
        return found or Account(token_id=lane)

    def snooze(self, lane: str, until: datetime, reason: str | None = None) -> None:
        """Leave the lane alone until `until`."""
        self._change((Account.token_id == lane) & ~Account.paused, snoozed_until=until, paused_reason=reason)

    def pause(self, lane: str, reason: str) -> bool:
        """Leave the lane alone until a person resumes it. False: it was paused already."""
        return self._change((Account.token_id == lane) & ~Account.paused, paused=True, paused_reason=reason)

    def resume(self, lane: str) -> bool:
        """Work on the lane again. False: there is no such lane."""
        return self._change(Account.token_id == lane, paused=False, paused_reason=None, snoozed_until=None)

    def _change(self, which: Any, **values: Any) -> bool:
        with self._database.transaction_scope():
            return bool(Account.update(**values).where(which).execute(self._database))
