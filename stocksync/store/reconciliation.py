"""What reconciliation reads and writes: our side of a page of orders, runs, differences, and telling an order again.

One of the writers of delivery state: a repair only makes an order due under a new state version, if it still rests
under the version that was compared. Statements go with pages, not with orders.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, cast
from uuid import UUID

from peewee import SQL

from stocksync.store.context import Part, atomic, connected
from stocksync.store.database import Statement, uuid_of
from stocksync.store.models import Discrepancy, Reconciliation
from stocksync.store.operations import LogEntry, OperationLog
from stocksync.store.values import as_utc

# The columns of OurSide.
_OURS = """
    SELECT o.id, o.order_id, o.state_version, o.is_stock_updated,
           (SELECT COALESCE(SUM(n.deducted - n.refunded), 0) FROM stock_sync_order_lines AS n WHERE n.order_ref = o.id),
           NOT EXISTS (SELECT 1 FROM stock_sync_order_lines AS n
                       WHERE n.order_ref = o.id AND n.sku IS NOT NULL AND NOT n.waived AND n.deducted < n.quantity),
           o.due_at IS NULL AND o.claim_id IS NULL AND o.updated_at <= :changed_since,
           o.waiting = 'cancelled' AND o.delivered_version < o.state_version OR EXISTS (
             SELECT 1 FROM pending_stock_operations AS d WHERE d.order_ref = o.id
               AND (d.applied = 'unknown' OR d.status = 'failed' AND o.waiting = 'failed')),
           (SELECT MAX(c.completed_at) FROM pending_stock_operations AS c WHERE c.order_ref = o.id)
    FROM stock_sync_orders AS o WHERE """
# A difference is over when both sides agree. One that a person left is over, too, once it changed: it is not brought
# up again while it stays the same.
_OVER = Statement("""
    UPDATE stock_sync_discrepancies SET status = 'gone', resolved_at = :now
    WHERE token_id = :token_id AND status IN ('open', 'left') AND order_id IN {ids:text} AND NOT EXISTS (
      SELECT 1 FROM {rows:items(order_id text, kind text, ours boolean, remote boolean)} AS given
      WHERE given.order_id = stock_sync_discrepancies.order_id AND (
        stock_sync_discrepancies.status = 'open' OR given.kind = stock_sync_discrepancies.kind
        AND COALESCE(CAST(given.ours AS TEXT), '') = COALESCE(CAST(stock_sync_discrepancies.ours AS TEXT), '')
        AND COALESCE(CAST(given.remote AS TEXT), '') = COALESCE(CAST(stock_sync_discrepancies.remote AS TEXT), '')))""")
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


class OurSide(NamedTuple):
    """An order as we have it.

    `state`: what we say; None: nothing. `deducted`: units out, net. `settled`: no stock line waits to be deducted.
    `resting`: neither due nor claimed, not changed in the grace time. `stopped`: an operation has failed or is in doubt, or
    a person cancelled. `completed_at`: of its last operation; no repair renews it, so a person sees what never stays repaired.
    """

    id: UUID
    order_id: str
    version: int
    state: bool | None
    deducted: int
    settled: bool
    resting: bool
    stopped: bool
    completed_at: datetime | None


class ReconciliationRecords(Part):
    """Each change a short transaction of its own. A run is its row; a dry run's row is written at its end alone."""

    @connected
    def accounts(self) -> list[tuple[str, datetime | None, bool]]:
        """Active seller accounts, the longest not compared first: when a run last began, and whether one is under way."""
        return [
            (row[0], as_utc(row[1]), bool(row[2]))
            for row in self._rows(
                Statement("""
                    SELECT a.token_id,
                           (SELECT MAX(r.started_at) FROM stock_sync_reconciliations AS r
                            WHERE r.token_id = a.token_id AND NOT r.dry_run),
                           EXISTS (SELECT 1 FROM stock_sync_reconciliations AS r
                                   WHERE r.token_id = a.token_id AND r.status = 'running')
                    FROM stock_sync_accounts AS a WHERE a.active ORDER BY 2, a.token_id""")
            )
        ]

    @atomic
    def begin(self, run: Reconciliation, finished_at: datetime | None = None) -> Reconciliation:
        """Write a new run, or a dry one at its end. If one of the seller is under way already, return that instead."""
        Reconciliation.insert({**run.__data__, "finished_at": finished_at}).on_conflict(
            "nothing", conflict_target=[Reconciliation.token_id], conflict_where=SQL("status = 'running'")
        ).execute()
        return self.find(token_id=run.token_id, status="running") or run

    @connected
    def find(self, **which: Any) -> Reconciliation | None:
        """The run of this `id`, or of this `token_id` and `status`, as it stands, whichever process wrote it."""
        return cast("Reconciliation | None", Reconciliation.get_or_none(**which))

    @atomic
    def save(self, run: Reconciliation, now: datetime) -> bool:
        """Write a step. False: another process took it first; what it wrote holds."""
        run.step += 1
        names = ("status", "cursor", "step", "pages", "scanned", "buckets", "details")
        return bool(
            Reconciliation.update(
                finished_at=None if run.status == "running" else now, **{name: getattr(run, name) for name in names}
            )
            .where(
                Reconciliation.id == run.id, Reconciliation.step == run.step - 1, Reconciliation.status == "running"
            )
            .execute()
        )  # fmt: skip

    def ours(self, token_id: str, order_ids: Collection[str], changed_since: datetime) -> dict[str, OurSide]:
        """Our side of these orders, by id; one changed since then does not rest."""
        return {
            ours.order_id: ours
            for ours in self._read(
                "o.token_id = :token_id AND o.order_id IN {ids:text}",
                token_id=token_id, ids=list(order_ids), changed_since=changed_since,
            )
        }  # fmt: skip

    def unlisted(self, run: Reconciliation, after: UUID, changed_since: datetime) -> list[OurSide]:
        """Up to 5,000 orders told within the window that the run has not stamped as listed, by id. A dry run stamps none."""
        return self._read(
            """o.token_id = :token_id AND o.updated_at BETWEEN :since AND :changed_since AND o.id > :after
                 AND o.due_at IS NULL AND o.claim_id IS NULL AND o.delivered_version > 0
                 AND (:dry_run OR o.remote_seen_at IS NULL OR o.remote_seen_at < :started_at)
               ORDER BY o.id LIMIT 5000""",
            token_id=run.token_id, since=run.since, after=after, dry_run=run.dry_run,
            started_at=run.started_at, changed_since=changed_since,
        )  # fmt: skip

    @connected
    def _read(self, which: str, **parameters: Any) -> list[OurSide]:
        return [
            OurSide(
                uuid_of(id), order_id, version, None if state is None else bool(state), int(deducted),
                bool(settled), bool(resting), bool(stopped), as_utc(completed_at),
            )
            for id, order_id, version, state, deducted, settled, resting, stopped, completed_at
            in self._rows(Statement(_OURS + which), **parameters)
        ]  # fmt: skip

    @atomic
    def note(
        self,
        run: Reconciliation,
        seen: Mapping[UUID, bool],
        equal: Sequence[str],
        differing: Sequence[Mapping[str, Any]],
        now: datetime,
    ) -> None:
        """Stamp what the remote said of our orders, end differences that are over, keep those that are not.

        Args:
            equal: ids of orders that agree.
            differing: `order_id`, `kind`, `ours`, `remote` of every other one.
        """
        items = [{"id": self._new_id(), "token_id": run.token_id, **one} for one in differing]
        if seen:
            # What a caller's transaction holds is left out: to wait for it with others in hand could deadlock.
            self._database.run(
                Statement("""
                    UPDATE stock_sync_orders SET remote_flag = given.flag, remote_seen_at = :now
                    FROM {rows:orders(id uuid, flag boolean)} AS given
                    WHERE stock_sync_orders.id = given.id AND stock_sync_orders.id IN (
                      SELECT id FROM stock_sync_orders
                      WHERE id IN {ids:uuid} AND due_at IS NULL AND claim_id IS NULL {skip_locked})"""),
                orders=[{"id": order, "flag": flag} for order, flag in seen.items()],
                ids=list(seen), now=now,
            )  # fmt: skip
        # PostgreSQL takes no empty list for rows.
        self._database.run(
            _OVER, token_id=run.token_id, ids=[*equal, *(one["order_id"] for one in differing)],
            items=items or [{}], now=now,
        )  # fmt: skip
        if items:
            self._database.run(_NOTE, run_id=run.id, items=items, now=now)

    @atomic
    def tell_again(
        self,
        ours: OurSide,
        details: Mapping[str, Any],
        now: datetime,
        difference: UUID | None = None,
        run: UUID | None = None,
    ) -> bool:
        """Make the order due under a new state version. False: it changed since it was compared, or is busy.

        Args:
            difference: ended as `fixed` with it.
            run: the run that counts it.
        """
        told = Statement("""
            UPDATE stock_sync_orders
            SET state_version = state_version + 1, attempts = 0, due_at = :now, waiting = 'reconciled', updated_at = :now
            WHERE id IN (
              SELECT id FROM stock_sync_orders WHERE id = :id AND state_version = :version AND due_at IS NULL
                AND claim_id IS NULL AND is_stock_updated IS NOT NULL {skip_locked})""")
        if not self._database.run(told, id=ours.id, version=ours.version, now=now).rowcount:
            return False
        newest = Statement(
            "SELECT id, status FROM pending_stock_operations WHERE order_ref = :order ORDER BY id DESC LIMIT 1"
        )
        # If the order's operations were cleaned up, the difference itself is its record.
        OperationLog(self.context).add(
            [
                LogEntry(uuid_of(id), "reconciled", status, details)
                for id, status in self._rows(newest, order=ours.id)
            ],
            now,
        )
        self.resolve(difference, "fixed", now, details.get("actor"), details.get("reason"))
        # Counted with the repair itself: of two processes in one run, one alone writes the step.
        Reconciliation.update(fixed=Reconciliation.fixed + 1).where(Reconciliation.id == run).execute()
        return True

    @atomic
    def resolve(
        self,
        difference: UUID | None,
        status: str,
        now: datetime,
        actor: str | None = None,
        reason: str | None = None,
    ) -> bool:
        """End an open difference. False: it is over already."""
        return bool(
            Discrepancy.update(status=status, resolved_at=now, actor=actor, reason=reason)
            .where(Discrepancy.id == difference, Discrepancy.status == "open")
            .execute()
        )

    @connected
    def differences(
        self,
        *,
        difference: UUID | None = None,
        status: str | None = "open",
        run: UUID | None = None,
        after: UUID | None = None,
        kinds: Collection[str] = (),
        limit: int = 50,
        newest_first: bool = False,
    ) -> list[dict[str, Any]]:
        """Differences as they were first seen, or the newest first; of one run, of some classes."""
        asked = (
            (difference, Discrepancy.id == difference),
            (status, Discrepancy.status == status),
            (run, Discrepancy.run_id == run),
            (kinds, Discrepancy.kind.in_(kinds)),
            (after, Discrepancy.id < after if newest_first else Discrepancy.id > after),
        )
        return list(
            Discrepancy.select()
            .where(SQL("TRUE"), *(is_so for given, is_so in asked if given))
            .order_by(Discrepancy.id.desc() if newest_first else Discrepancy.id)
            .limit(limit)
            .dicts()
        )

    @connected
    def count_open(self) -> int:
        """How many differences wait for a person."""
        return int(Discrepancy.select().where(Discrepancy.status == "open").count())

    @connected
    def unfinished(self, since: datetime) -> list[tuple[str, Any]]:
        """Sellers whose newest run since then did not come to its end, with the run's details."""
        rows = self._rows(
            Statement("""
                SELECT r.token_id, r.details FROM stock_sync_reconciliations AS r
                JOIN (SELECT token_id, MAX(started_at) AS newest FROM stock_sync_reconciliations
                      WHERE NOT dry_run AND status <> 'running' AND started_at >= :since GROUP BY token_id) AS last
                  ON last.token_id = r.token_id AND last.newest = r.started_at
                WHERE r.status IN ('suspicious', 'incomplete') AND NOT r.dry_run ORDER BY r.token_id"""),
            since=since,
        )
        return [(lane, Reconciliation.details.python_value(details)) for lane, details in rows]

    @connected
    def runs(self, token_id: str | None = None, limit: int = 50) -> list[dict[str, Any]]:
        """The newest runs first."""
        return list(
            Reconciliation.select()
            .where(SQL("TRUE") if token_id is None else Reconciliation.token_id == token_id)
            .order_by(Reconciliation.started_at.desc(), Reconciliation.id.desc())
            .limit(limit)
            .dicts()
        )
