"""What reconciliation reads and writes: our side of a page of orders, runs, differences, and telling an order again.

One of the writers of delivery state: a repair only makes an order due under a new state version, where it still rests
under the version that was compared. Statements go with pages, not with orders.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from stocksync.store.context import Context, Part
from stocksync.store.database import Statement, rows_of, uuid_of
from stocksync.store.fields import as_utc
from stocksync.store.logs import LogEntry, OperationLog
from stocksync.store.models import Discrepancy, Reconciliation

_VIEW = """
    SELECT o.id, o.order_id, o.is_stock_updated, o.state_version, o.delivered_version, o.due_at, o.claim_id, o.waiting,
           o.updated_at,
           (SELECT MAX(c.completed_at) FROM pending_stock_operations AS c WHERE c.order_ref = o.id),
           (SELECT COALESCE(SUM(n.deducted - n.refunded), 0) FROM stock_sync_order_lines AS n WHERE n.order_ref = o.id),
           EXISTS (SELECT 1 FROM stock_sync_order_lines AS n WHERE n.order_ref = o.id AND n.sku IS NOT NULL
                   AND NOT n.waived AND n.deducted < n.quantity),
           EXISTS (SELECT 1 FROM pending_stock_operations AS d WHERE d.order_ref = o.id AND d.applied = 'unknown')
    FROM stock_sync_orders AS o WHERE """
_VIEW_LISTED = Statement(_VIEW + "o.token_id = :token_id AND o.order_id IN {ids:text}")
# What was told within the window and does not stand in the remote's list; what was listed is stamped.
_VIEW_UNLISTED = Statement(
    _VIEW
    + """o.token_id = :token_id AND o.updated_at BETWEEN :since AND :changed_since AND o.id > :after AND o.due_at IS NULL AND o.claim_id IS NULL
      AND o.delivered_version > 0 AND (o.remote_seen_at IS NULL OR o.remote_seen_at < :seen_before)
    ORDER BY o.id LIMIT :limit"""
)
# An order that a caller's open transaction holds is left out: waiting for it with others in hand could deadlock.
_STAMP = Statement("""
    UPDATE stock_sync_orders SET remote_flag = given.flag, remote_seen_at = :now
    FROM {rows:orders(id uuid, flag boolean)} AS given
    WHERE stock_sync_orders.id = given.id AND stock_sync_orders.id IN (
      SELECT id FROM stock_sync_orders WHERE id IN {ids:uuid} AND due_at IS NULL AND claim_id IS NULL {skip_locked})""")
_ACCOUNTS = Statement("""
    SELECT a.token_id, (SELECT MAX(r.started_at) FROM stock_sync_reconciliations AS r
                        WHERE r.token_id = a.token_id AND NOT r.dry_run),
           EXISTS (SELECT 1 FROM stock_sync_reconciliations AS r WHERE r.token_id = a.token_id AND r.status = 'running')
    FROM stock_sync_accounts AS a WHERE a.active ORDER BY 2, a.token_id""")
_BEGIN = Statement("""
    INSERT INTO stock_sync_reconciliations
      (id, token_id, status, dry_run, started_at, finished_at, since, step, pages, scanned, fixed, buckets, details, actor)
    VALUES (:id, :token_id, :status, :dry_run, :now, :finished_at, :since, :step, :pages, :scanned, 0, :buckets, :details,
            :actor)
    ON CONFLICT (token_id) WHERE status = 'running' DO NOTHING RETURNING id""")
_SAVE = Statement("""
    UPDATE stock_sync_reconciliations
    SET status = :status, finished_at = :finished_at, cursor = :cursor, step = step + 1, pages = :pages,
        scanned = :scanned, buckets = :buckets, details = :details
    WHERE id = :id AND step = :step AND status = 'running' RETURNING id""")
# What a person left as it is is not brought up again while it stays the same; once it changed, it is over.
_CHANGED = Statement("""
    UPDATE stock_sync_discrepancies SET status = 'gone', resolved_at = :now
    WHERE token_id = :token_id AND status = 'left' AND order_id IN {ids:text} AND NOT EXISTS (
      SELECT 1 FROM {rows:items(order_id text, kind text, ours boolean, remote boolean)} AS given
      WHERE given.order_id = stock_sync_discrepancies.order_id AND given.kind = stock_sync_discrepancies.kind
        AND COALESCE(CAST(given.ours AS TEXT), '') = COALESCE(CAST(stock_sync_discrepancies.ours AS TEXT), '')
        AND COALESCE(CAST(given.remote AS TEXT), '') = COALESCE(CAST(stock_sync_discrepancies.remote AS TEXT), ''))""")
_NOTE = Statement("""
    INSERT INTO stock_sync_discrepancies
      (id, run_id, token_id, order_id, kind, status, ours, remote, first_seen_at, last_seen_at)
    SELECT given.id, :run_id, given.token_id, given.order_id, given.kind, 'open', given.ours, given.remote, :now, :now
    FROM {rows:items(id uuid, token_id text, order_id text, kind text, ours boolean, remote boolean)} AS given
    WHERE NOT EXISTS (
      SELECT 1 FROM stock_sync_discrepancies AS d
      WHERE d.token_id = given.token_id AND d.order_id = given.order_id AND d.status = 'left')
    ON CONFLICT (token_id, order_id) WHERE status = 'open' DO UPDATE
      SET run_id = excluded.run_id, kind = excluded.kind, ours = excluded.ours, remote = excluded.remote,
          last_seen_at = excluded.last_seen_at""")
_GONE = Statement("""
    UPDATE stock_sync_discrepancies SET status = 'gone', resolved_at = :now
    WHERE token_id = :token_id AND status IN ('open', 'left') AND order_id IN {ids:text}""")
_RESOLVE = Statement("""
    UPDATE stock_sync_discrepancies
    SET status = :status, resolved_at = :now, actor = :actor, reason = :reason
    WHERE id = :id AND status = 'open' RETURNING id""")
# Counted with the repair itself: of two processes in one run, one alone writes the step.
_COUNT_FIXED = Statement("UPDATE stock_sync_reconciliations SET fixed = fixed + 1 WHERE id = :run")
_TELL_AGAIN = Statement("""
    UPDATE stock_sync_orders
    SET state_version = state_version + 1, attempts = 0, due_at = :now, waiting = 'reconciled', updated_at = :now
    WHERE id IN (
      SELECT id FROM stock_sync_orders WHERE id = :id AND state_version = :version AND due_at IS NULL
        AND claim_id IS NULL AND is_stock_updated IS NOT NULL {skip_locked})
    RETURNING id""")
_NEWEST_OPERATION = Statement("""
    SELECT id, status FROM pending_stock_operations WHERE order_ref = :order ORDER BY id DESC LIMIT 1""")

LISTED_DIFFERENCES = 1000
"""Of a dry run, kept with its report."""


@dataclass(frozen=True, slots=True)
class OurSide:
    """An order as we have it.

    `state`: what we say; None: nothing. `deducted`: units of it that are out, net. `settled`: no stock line waits to
    be deducted. `resting`: neither due nor claimed, and not changed within the grace time. `stopped`: given up, in
    doubt, or its delivery was cancelled by a person. `completed_at`: when the last of its
    operations was; a repair does not renew it, so that what never stays repaired comes to a person.
    """

    state: bool | None = None
    deducted: int = 0
    settled: bool = True
    resting: bool = True
    stopped: bool = False
    completed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class View:
    """One of our orders as it was compared."""

    id: UUID
    order_id: str
    version: int
    ours: OurSide


@dataclass(slots=True)
class Run:
    """A run as it stands; written back after each step. See the model."""

    id: UUID
    token_id: str
    started_at: datetime
    since: datetime
    actor: str | None = None
    dry_run: bool = False
    status: str = "running"
    cursor: str | None = None
    step: int = 0
    pages: int = 0
    scanned: int = 0
    fixed: int = 0
    buckets: dict[str, int] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def phase(self) -> str:
        """`list`, `ask`, `mend`: what the next step does."""
        return str(self.details.get("phase", "list"))


class ReconciliationRecords(Part):
    """Each change a short transaction of its own."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._log = OperationLog(context)

    def accounts(self) -> list[tuple[str, datetime | None, bool]]:
        """Active seller accounts, the longest not compared first: when a run last began, and whether one is under way."""
        with self._database.scope():
            return [(row[0], as_utc(row[1]), bool(row[2])) for row in rows_of(self._database.run(_ACCOUNTS))]

    def begin(self, run: Run, now: datetime) -> Run:
        """Write a new run, or a dry one that is over; where one of the seller is under way already, answers with that."""
        with self._database.transaction_scope():
            self._database.run(
                _BEGIN,
                **self._row(run, now),
                token_id=run.token_id,
                since=run.since,
                dry_run=run.dry_run,
                actor=run.actor,
                now=run.started_at,
            )
        return run if run.dry_run else self.running(run.token_id) or run

    def running(self, token_id: str) -> Run | None:
        """The run of the seller that is under way."""
        query = Reconciliation.select().where(
            (Reconciliation.token_id == token_id) & (Reconciliation.status == "running")
        )
        with self._database.scope():
            row = query.dicts().first()
        return None if row is None else Run(**{name: row[name] for name in Run.__slots__})

    def save(self, run: Run, now: datetime) -> bool:
        """Write a step. False: another process took it first; what it wrote holds."""
        with self._database.transaction_scope():
            written = self._database.run(_SAVE, cursor=run.cursor, **self._row(run, now))
            taken = written.fetchone() is not None
        run.step += 1
        return taken

    @staticmethod
    def _row(run: Run, now: datetime) -> dict[str, Any]:
        names = ("id", "status", "step", "pages", "scanned", "buckets", "details")
        ended = {"finished_at": None if run.status == "running" else now}
        return {name: getattr(run, name) for name in names} | ended

    def listed(self, token_id: str, order_ids: Sequence[str], changed_since: datetime) -> dict[str, View]:
        """Our side of these orders, by id; one changed since then does not rest."""
        with self._database.scope():
            cursor = self._database.run(_VIEW_LISTED, token_id=token_id, ids=list(order_ids))
            return {row[1]: _view(row, changed_since) for row in rows_of(cursor)}

    def unlisted(
        self, run: Run, after: UUID, seen_before: datetime, changed_since: datetime, limit: int
    ) -> list[View]:
        """Orders told within the window that were not stamped since `seen_before`, by id."""
        with self._database.scope():
            cursor = self._database.run(
                _VIEW_UNLISTED,
                token_id=run.token_id,
                since=run.since,
                after=after,
                seen_before=seen_before,
                changed_since=changed_since,
                limit=limit,
            )
            return [_view(row, changed_since) for row in rows_of(cursor)]

    def note(
        self,
        run: Run,
        seen: Mapping[UUID, bool],
        equal: Sequence[str],
        differing: Iterable[tuple[str, str, bool | None, bool | None]],
        now: datetime,
    ) -> None:
        """Stamp what the remote said of our orders, end differences that are no more, keep those that are.

        Args:
            equal: ids of orders that agree.
            differing: (order id, class, ours, the remote's).
        """
        items = {
            order_id: {
                "id": self._new_id(),
                "token_id": run.token_id,
                "order_id": order_id,
                "kind": kind,
                "ours": ours,
                "remote": remote,
            }
            for order_id, kind, ours, remote in differing
        }  # by order: the remote may list one twice
        with self._database.transaction_scope():
            if seen:
                rows = [{"id": order, "flag": flag} for order, flag in seen.items()]
                self._database.run(_STAMP, orders=rows, ids=list(seen), now=now)
            if equal:
                self._database.run(_GONE, token_id=run.token_id, ids=list(equal), now=now)
            if items:
                kept = list(items.values())
                self._database.run(_CHANGED, token_id=run.token_id, ids=list(items), items=kept, now=now)
                self._database.run(_NOTE, run_id=run.id, items=kept, now=now)

    def tell_again(self, view: View, details: Mapping[str, Any], now: datetime) -> bool:
        """Make the order due under a new state version. False: it changed since it was compared, or is busy."""
        with self._database.transaction_scope():
            changed = self._database.run(_TELL_AGAIN, id=view.id, version=view.version, now=now)
            if changed.fetchone() is None:
                return False
            # Of an order whose operations were cleaned up, the difference itself tells.
            if row := self._database.run(_NEWEST_OPERATION, order=view.id).fetchone():
                self._log.add([LogEntry(uuid_of(row[0]), "reconciled", row[1], details)], now)
            return True

    def repair(
        self, view: View, row: Mapping[str, Any], run: Run | None, details: Mapping[str, Any], now: datetime
    ) -> bool:
        """`tell_again`, with the difference ended as `fixed` and counted by its run. False: the order changed meanwhile."""
        with self._database.transaction_scope():
            if not self.tell_again(view, details, now):
                return False
            self.resolve(row["id"], "fixed", now, details.get("actor"), details.get("reason"))
            if run is not None:
                self._database.run(_COUNT_FIXED, run=run.id)
        return True

    def fixed(self, run: Run) -> int:
        """How many orders the run has had told again, whichever process did it."""
        with self._database.scope():
            row = (
                Reconciliation.select(Reconciliation.fixed)
                .where(Reconciliation.id == run.id)
                .tuples()
                .first()
            )
        return row[0] if row else 0

    def resolve(
        self,
        difference: UUID,
        status: str,
        now: datetime,
        actor: str | None = None,
        reason: str | None = None,
    ) -> bool:
        """End an open difference as `fixed`, `left` or `gone`. False: it was not open."""
        with self._database.transaction_scope():
            row = self._database.run(
                _RESOLVE, id=difference, status=status, now=now, actor=actor, reason=reason
            )
            return row.fetchone() is not None

    def differences(
        self,
        *,
        status: str | None = "open",
        run: UUID | None = None,
        after: UUID | None = None,
        kinds: Iterable[str] = (),
        limit: int = 50,
        offset: int = 0,
    ) -> list[dict[str, Any]]:
        """Differences in the order in which they were first seen; of one run, of some classes."""
        query = Discrepancy.select().order_by(Discrepancy.id).limit(limit).offset(offset)
        if status is not None:
            query = query.where(Discrepancy.status == status)
        if run is not None:
            query = query.where(Discrepancy.run == run)
        if after is not None:
            query = query.where(Discrepancy.id > after)
        if kinds := tuple(kinds):
            query = query.where(Discrepancy.kind.in_(kinds))
        with self._database.scope():
            return [{**row, "run_id": row.pop("run")} for row in query.dicts()]

    def difference(self, difference: UUID) -> dict[str, Any] | None:
        """One difference; None: there is none of this id."""
        with self._database.scope():
            row: dict[str, Any] | None = (
                Discrepancy.select().where(Discrepancy.id == difference).dicts().first()
            )
        return row

    def count_open(self) -> int:
        """How many differences wait for a person."""
        with self._database.scope():
            return int(Discrepancy.select().where(Discrepancy.status == "open").count())

    def runs(self, token_id: str | None = None, limit: int = 50, offset: int = 0) -> list[dict[str, Any]]:
        """The newest runs first."""
        query = Reconciliation.select().order_by(Reconciliation.started_at.desc(), Reconciliation.id.desc())
        if token_id is not None:
            query = query.where(Reconciliation.token_id == token_id)
        with self._database.scope():
            return list(query.limit(limit).offset(offset).dicts())


def _view(row: tuple[Any, ...], changed_since: datetime) -> View:
    (ref, order_id, state, version, delivered, due_at, claim_id, waiting, updated_at, completed_at, net, unsettled,
     in_doubt) = row  # fmt: skip
    changed = as_utc(updated_at)
    ours = OurSide(
        state=None if state is None else bool(state),
        deducted=int(net),
        settled=not unsettled,
        resting=due_at is None and claim_id is None and (changed is None or changed <= changed_since),
        stopped=bool(in_doubt) or (waiting in ("failed", "cancelled") and delivered < version),
        completed_at=as_utc(completed_at),
    )
    return View(uuid_of(ref), order_id, version, ours)
