"""Clean-up: takes away what is long at an end, in batches so short that deliveries beside it never wait long.

Each batch is a page of rows in one short transaction, walked along ids that rise with time.

A completed or cancelled operation goes with its log when its order is at rest: neither due nor claimed, of one mind
with the remote, without an open difference. What its line counts for it goes into `stock_sync_pruned`; one that was
never done (denied by a foreign inventory) leaves nothing behind. Orders, lines and movements stay.

Keys that begin with `deduct:` or `return:` stay as long as the lines whose repeats they stop, and so do those under
which our own stock moved. All others go once they are old and their operation is gone.
"""

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from stocksync.store.context import Part
from stocksync.store.database import Statement, uuid_of
from stocksync.store.identifiers import first_id_at
from stocksync.store.states import CANCELLED, COMPLETED
from stocksync.store.tallies import Counts, Tallies

log = logging.getLogger(__name__)

# Seconds. On SQLite a batch keeps every other writer waiting; one that waits looks again after at most PAUSE, as
# long as no batch takes much longer than TOO_LONG.
TOO_LONG = 0.05
SHORT = 0.02
PAUSE = 0.025
_SMALLEST, _FIRST, _LARGEST = 5, 50, 250
_OPERATIONS: Final = (COMPLETED, CANCELLED)

_AT_REST = """
    SELECT r.id FROM stock_sync_orders AS r
    WHERE r.id IN {orders:uuid} AND r.due_at IS NULL AND r.claim_id IS NULL
      AND (r.is_stock_updated = r.remote_flag OR r.is_stock_updated IS NULL AND r.remote_flag IS NOT TRUE)
      AND NOT EXISTS (SELECT 1 FROM stock_sync_discrepancies AS d
                      WHERE d.token_id = r.token_id AND d.order_id = r.order_id AND d.status = 'open')"""
# An adjustment counts on no line; its SKU and warehouse may be too long to stand for one.
_REMEMBER = Statement("""
    INSERT INTO stock_sync_pruned
      (operation_id, order_ref, line_item_id, operation_type, quantity, moves_stock, pruned_at)
    SELECT id, order_ref,
           CASE WHEN operation_type <> 'adjustment' THEN COALESCE(line_item_id, sku || '@' || warehouse) END,
           operation_type, CASE WHEN applied = 'yes' THEN quantity ELSE 0 END, moves_stock, :now
    FROM pending_stock_operations WHERE id IN {ids:uuid} AND (applied = 'yes' OR moves_stock)
    ON CONFLICT (operation_id) DO NOTHING""")


def _kind(delete: str, goes: str, column: str = "id", scope: str = "TRUE") -> tuple[Statement, Statement]:
    """Rows that go by themselves once they are old: a page of ids with whether each goes, and their removal.

    Args:
        goes: the condition; the removal asks it again.
        column: the id that they are walked along, in `scope` only.
    """
    rows, page = delete.removeprefix("DELETE "), f"{column} > :after AND {column} < :floor"
    return (
        Statement(f"SELECT {column}, {goes} {rows} WHERE {scope} AND {page} ORDER BY {column} LIMIT :limit"),
        Statement(f"{delete} WHERE {column} IN {{ids:uuid}} AND {scope} AND {goes}"),
    )


# In the order in which they go: a difference before the run that found it.
_KINDS = {
    "keys": _kind(
        "DELETE FROM stock_sync_keys",
        """created_at < :before
          AND NOT EXISTS (SELECT 1 FROM pending_stock_operations AS o WHERE o.id = stock_sync_keys.operation_id)
          AND NOT EXISTS (SELECT 1 FROM stock_sync_movements AS m WHERE m.cause_key = stock_sync_keys.key)""",
        "operation_id",
        # The other keys stop the repeats of a line, and live as long as it does. An operation has at most one of these.
        # Word for word the condition of the index `stock_sync_keys_passing`, or SQLite would not use it.
        "substr(key, 1, 7) NOT IN ('deduct:', 'return:')",
    ),
    # What a person left as it is stays, or the next run would bring it up again.
    "discrepancies": _kind(
        "DELETE FROM stock_sync_discrepancies",
        "(status <> 'left' AND COALESCE(resolved_at < :before, FALSE))",
    ),
    "reconciliations": _kind(
        "DELETE FROM stock_sync_reconciliations",
        """COALESCE(finished_at < :before, FALSE) AND NOT EXISTS (
          SELECT 1 FROM stock_sync_discrepancies AS d WHERE d.run_id = stock_sync_reconciliations.id
            AND (d.status = 'left' OR NOT COALESCE(d.resolved_at < :before, FALSE)))""",
    ),
    "alerts": _kind(
        "DELETE FROM stock_sync_alerts",
        "COALESCE(resolved_at < :before, FALSE) AND pending_notification IS NULL",
    ),
    "task_runs": _kind("DELETE FROM stock_sync_task_runs", "COALESCE(finished_at < :before, FALSE)"),
}


class CleanUp(Part):
    """One page at a time; a run remembers how far it came."""

    def run(
        self,
        *,
        dry_run: bool = False,
        seconds: float = math.inf,
        wait: Callable[[float], bool],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> dict[str, Any]:
        """Delete what ended longer ago than the settings say, until nothing more may go.

        Returns how many rows went, by what they were, with the number of batches and the milliseconds of the longest.
        `more`: it was stopped before the end, call again. Raises DatabaseUnavailable: what was deleted stays deleted.

        Args:
            dry_run: count what would go, and write nothing.
            seconds: stop at the end of the first batch after them.
            wait: rests for so many seconds; True: the process has to stop.
        """
        gone: Counter[str] = Counter()
        times: list[float] = []
        until = monotonic() + seconds
        limit, more = _FIRST, False
        todo = [(kind, UUID(int=0)) for kind in reversed((*_OPERATIONS, *_KINDS))]
        while todo and not more:
            kind, after = todo.pop()
            began = monotonic()
            following, went = self._page(kind, after, limit, dry_run=dry_run)
            took = monotonic() - began
            gone += went
            times.append(took)
            if following is not None:
                todo.append((kind, following))
            if took > TOO_LONG:
                limit = max(_SMALLEST, limit // 2)
            elif took < SHORT:
                limit = min(_LARGEST, limit + limit // 4 + 1)
            stopped = not dry_run and wait(max(PAUSE, took))
            more = bool(todo) and (stopped or began + took >= until)
        if gone and not dry_run:
            log.info("clean-up: %s", ", ".join(f"{number} {name}" for name, number in gone.items()))
        return {name: gone[name] for name in ("operations", "logs", *_KINDS)} | {
            "batches": len(times),
            "longest_batch_ms": round(max(times) * 1000),
            "more": more,
            "dry_run": dry_run,
        }

    def _page(self, kind: str, after: UUID, limit: int, *, dry_run: bool) -> tuple[UUID | None, Counter[str]]:
        """Take away what may go of the next `limit` rows above the id `after`.

        Returns:
            The id to go on after (None: that was the last page), and how many rows went, by kind.
        """
        config, database, now = self._config, self._database, self._clock()
        days = dict.fromkeys(_OPERATIONS, config.cleanup_after_days) | {
            "keys": config.cleanup_keys_after_days
        }
        before = now - timedelta(days=days.get(kind, config.cleanup_reports_after_days))
        bounds = {"after": after, "floor": first_id_at(before), "before": before, "limit": limit}
        with database.snapshot() if dry_run else database.transaction_scope():
            if kind in _OPERATIONS:
                # Nothing is written to an operation after it was completed or cancelled: `updated_at` is when that was.
                rows = self._rows(
                    Statement("""
                        SELECT id, order_ref, updated_at < :before AND applied <> 'unknown'
                        FROM pending_stock_operations
                        WHERE status = :status AND id > :after AND id < :floor ORDER BY id LIMIT :limit"""),
                    status=kind,
                    **bounds,
                )
                went = self._operations(kind, [row[:2] for row in rows if row[2]], now, dry_run=dry_run)
            else:
                page, removal = _KINDS[kind]
                rows = self._rows(page, **bounds)
                ids = [uuid_of(row[0]) for row in rows if row[1]]
                went = Counter({kind: len(ids)})
                if ids and not dry_run:
                    went[kind] = database.run(removal, ids=ids, before=before).rowcount
        return (uuid_of(rows[-1][0]) if len(rows) == limit else None), went

    def _operations(
        self, status: str, old: Sequence[tuple[Any, Any]], now: datetime, *, dry_run: bool
    ) -> Counter[str]:
        # Lock order everywhere: orders first. Whoever holds one keeps its operations; they go another day.
        resting = self._ids(
            Statement(_AT_REST if dry_run else _AT_REST + " {skip_locked}"),
            orders=list({uuid_of(order) for _, order in old if order is not None}),
        )
        ids = [uuid_of(id) for id, order in old if order is None or uuid_of(order) in resting]
        if dry_run:
            count = Statement(
                "SELECT COUNT(*) FROM stock_synchronization_logs WHERE operation_id IN {ids:uuid}"
            )
            return Counter(operations=len(ids), logs=self._rows(count, ids=ids)[0][0])
        self._database.run(_REMEMBER, ids=ids, now=now)
        logs = self._database.run(
            Statement("DELETE FROM stock_synchronization_logs WHERE operation_id IN {ids:uuid}"), ids=ids
        ).rowcount
        # What another clean-up took since the page was read is not ours to count.
        gone = self._database.run(
            Statement("DELETE FROM pending_stock_operations WHERE id IN {ids:uuid}"), ids=ids
        ).rowcount
        Tallies(self.context).add(Counts(pruned=gone if status == COMPLETED else 0), now)
        return Counter(operations=gone, logs=logs)
