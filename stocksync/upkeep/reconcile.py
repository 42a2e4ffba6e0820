"""Reconciliation: walks the remote's orders, compares them with ours, and has told again what may be.

A run goes in steps of one page or batch; its row knows where it stands, so that any process goes on with it, after a
crash too. Nothing is repaired before the whole walk was judged, and both sides are read again before each repair.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from stocksync.delivery.client import OrdersReader
from stocksync.errors import RemoteError, RepairRefused, UnknownDifference, UnknownOrder
from stocksync.store.context import Context, Part
from stocksync.store.reconciliation import LISTED_DIFFERENCES, OurSide, ReconciliationRecords, Run, View
from stocksync.store.values import check_word
from stocksync.upkeep import discrepancies as rules

log = logging.getLogger(__name__)

_BATCH = 50
_READ = 5000
_NO_ID = UUID(int=0)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_STEPS = 100_000
_MOST_REPAIRS = 1000
"""Of one run; the next one goes on. Each asks the remote once more."""


class Reconciliation(Part):
    """Compares and repairs. Only `fix` and `leave` are for people; all else decides for itself."""

    def __init__(
        self,
        context: Context,
        reader: Callable[[], OrdersReader],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            reader: asked for only where something is compared.
        """
        super().__init__(context)
        self.records = ReconciliationRecords(context)
        self._reader = reader
        self._wakeups = context.wakeups
        self._monotonic = monotonic
        self._threshold = timedelta(hours=context.config.reconciliation_auto_fix_threshold_hours)

    def slice(self, should_stop: Callable[[], bool] = lambda: False) -> dict[str, Any]:
        """A few seconds of what is due of the active accounts; `more`: call again, behind other work."""
        ends = self._monotonic() + self._config.delivery_slice_seconds
        done: list[dict[str, Any]] = []
        try:
            _ = self._reader()
        except RemoteError as error:  # a monolith's own client that offers no list
            return {"more": False, "runs": [], "skipped": str(error)}
        while (token := self._due()) is not None:
            run = self.records.running(token) or self._begin(token, None)
            while run.status == "running":
                if should_stop() or self._monotonic() >= ends:
                    return {"more": True, "runs": done}
                run = self._advance(run)
            done.append({"token_id": token, "status": run.status, "fixed": run.fixed, "buckets": run.buckets})
        return {"more": False, "runs": done}

    def begin_all(self, actor: str) -> None:
        """A run of every active seller, for `slice` to go on with, however lately they were compared.

        Raises:
            RemoteError: the remote can't be asked (no such client).
        """
        for token, _, running in self.records.accounts():
            if not running:
                self._begin(token, actor)

    def run(
        self,
        token_id: str,
        *,
        dry_run: bool = False,
        limit: int | None = None,
        actor: str | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        progress: Callable[[int], None] = lambda _: None,
    ) -> dict[str, Any]:
        """One whole run for a seller, in this process; a run that is under way is gone on with.

        Args:
            dry_run: compare only; nothing is written but the report.
            limit: orders looked at, at most; None: all of the window.
            progress: told how many orders were looked at.

        Raises:
            RemoteError: the remote can't be asked (no such client). What it answers ends the run as incomplete.
        """
        run = self._begin(token_id, actor, dry_run=dry_run, limit=limit)
        for _ in range(_MOST_STEPS):
            if run.status != "running" or should_stop():
                break
            run = self._advance(run)
            progress(run.scanned)
        if run.dry_run:
            run.details.pop("seen", None)
            run.status = "incomplete" if run.status == "running" else run.status
            self.records.begin(run, self._clock())
        return self._report(run)

    def fix(self, difference: UUID | str, *, actor: str, reason: str) -> str:
        """Have an order told again because a person asks for it, whatever its age; both sides are read again first.

        Returns:
            `fixed`; or `gone`, when both sides agree by now.

        Raises:
            UnknownDifference, RepairRefused: it is not open, or telling the remote again does not mend it.
            RemoteError: the remote can't be asked now.
        """
        row, who = self._open(difference), _who(actor, reason)
        outcome = self._mend(row, who, lambda kind, _: kind in rules.MENDABLE)
        if outcome not in ("fixed", "gone"):
            raise RepairRefused(f"order {row['order_id']}", outcome)
        return outcome

    def leave(self, difference: UUID | str, *, actor: str, reason: str) -> None:
        """A person decided that a difference stays; it is not brought up again unless it changes.

        Raises:
            UnknownDifference, RepairRefused: it is not open.
        """
        row, who = self._open(difference), _who(actor, reason)
        if not self.records.resolve(row["id"], "left", self._clock(), **who):
            raise RepairRefused(f"the difference {difference}", "ended meanwhile")

    def look(self, token_id: str, order_id: str) -> tuple[str, bool | None, View | None]:
        """One order compared now: its class, what the remote says (None: it does not know it), our side.

        Raises:
            RemoteError: the remote can't be asked now.
        """
        # Before asking: an answer older than a delivery concludes nothing.
        changed_since = self._unchanged_since()
        found = self._reader().find_order(token_id=token_id, order_id=order_id)
        remote = None if found is None else found.is_stock_updated
        view = self.records.listed(token_id, [order_id], changed_since).get(order_id)
        return rules.classify(view.ours if view else None, remote), remote, view

    def tell_again(self, token_id: str, order_id: str, *, actor: str, reason: str) -> None:
        """Have one order told again, whatever the remote says; a person's way to repair.

        Raises:
            UnknownOrder
            RepairRefused: it has nothing to say, or is on its way.
        """
        who = _who(actor, reason)
        view = self.records.listed(token_id, [order_id], self._clock()).get(order_id)
        if view is None:
            raise UnknownOrder(token_id, order_id)
        if not self.records.tell_again(view, who, self._clock()):
            raise RepairRefused(f"order {order_id}", "on its way, or without anything to say")
        self._wakeups.wake(token_id)

    def _due(self) -> str | None:
        """The account that was not compared for longest: one whose run is under way, or that had none in this interval.

        Intervals are those of the clock, not of the account: one whose turn came late has the next one in time.
        """
        now = self._clock()
        interval_began = now - (now - _EPOCH) % timedelta(
            minutes=self._config.reconciliation_interval_minutes
        )
        for token, began, running in self.records.accounts():
            if running or began is None or began < interval_began:
                return token
        return None

    def _begin(
        self, token_id: str, actor: str | None, *, dry_run: bool = False, limit: int | None = None
    ) -> Run:
        now = self._clock()
        run = Run(
            self._new_id(),
            token_id,
            now,
            now - timedelta(days=self._config.reconciliation_window_days),
            actor,
            dry_run,
            details={"limit": limit},
        )
        _ = self._reader()  # a client that can't be asked is said before anything is written
        return run if dry_run else self.records.begin(run, now)

    def _advance(self, run: Run) -> Run:
        """One step; answers with the run as it is afterwards, whoever took the step."""
        try:
            if run.step >= _MOST_STEPS:
                raise RemoteError("Endless", f"its list did not end within {run.step} steps")
            {"list": self._list, "ask": self._ask, "mend": self._mend_some}[run.phase](run)
        except RemoteError as error:
            run.details["reason"] = f"{error.error_class}: {error}"
            run.status = "incomplete"
        if not run.dry_run and not self.records.save(run, self._clock()):
            following = self.records.running(run.token_id)
            if following is None:
                run.status = "incomplete"  # somebody else ended it
                run.details["reason"] = "another process went on with it"
            return following or run
        if run.status != "running":
            run.fixed = 0 if run.dry_run else self.records.fixed(run)
            log.info("reconciliation %s: %s", run.status, run.buckets, extra={"lane": run.token_id})
        return run

    def _list(self, run: Run) -> None:
        limit = run.details.get("limit")
        wanted = (
            self._config.reconciliation_batch_size
            if limit is None
            else min(self._config.reconciliation_batch_size, limit - run.scanned)
        )
        changed_since = self._unchanged_since()
        page = self._reader().list_orders(
            token_id=run.token_id, updated_since=run.since, cursor=run.cursor, limit=wanted
        )
        self._take(run, {order.id: order.is_stock_updated for order in page.orders}, changed_since)
        run.pages += 1
        run.cursor = page.next_cursor
        if page.next_cursor is None:
            run.details["phase"] = "ask"
        elif limit is not None and run.scanned >= limit:
            run.details["reason"] = f"ended after {run.scanned} orders, as asked"
            self._judge(run)

    def _ask(self, run: Run) -> None:
        """Orders of ours that the remote did not list: it is asked for each, up to a cap."""
        after = UUID(run.details.get("after", str(_NO_ID)))
        asked, limit = int(run.details.get("asked", 0)), run.details.get("limit")
        seen_before = self._clock() + timedelta(days=1) if run.dry_run else run.started_at
        changed_since = self._unchanged_since()
        views = self.records.unlisted(run, after, seen_before, changed_since, _READ)
        said: dict[str, bool | None] = {}
        ends, over = self._monotonic() + self._config.delivery_slice_seconds, len(views) < _READ
        for view in views:
            if said and (len(said) == _BATCH or self._monotonic() >= ends):
                over = False
                break
            if view.id.int not in run.details.get("seen", ()):
                if limit is not None and run.scanned + len(said) >= limit:
                    run.details["reason"] = f"ended after {limit} orders, as asked"
                    break
                if asked >= self._config.reconciliation_lookup_cap:
                    run.details["reason"] = f"more than {asked} orders of ours are not in the remote's list"
                    break
                found = self._reader().find_order(token_id=run.token_id, order_id=view.order_id)
                said[view.order_id] = None if found is None else found.is_stock_updated
                asked += 1
            after = view.id
        self._take(run, said, changed_since)
        run.details |= {"asked": asked, "after": str(after)}
        if over or "reason" in run.details:
            self._judge(run)

    def _judge(self, run: Run) -> None:
        """The walk is over: is what was found to be trusted, and is there anything to repair?"""
        run.details["phase"] = "mend"
        differing = sum(run.buckets.get(kind, 0) for kind in rules.DIFFERING)
        share, orders = (
            self._config.reconciliation_suspicious_share,
            self._config.reconciliation_suspicious_orders,
        )
        if rules.is_suspicious(differing, run.scanned, share, orders):
            run.status = "suspicious"
            run.details["reason"] = f"{differing} of {run.scanned} orders differ: nothing is repaired"
        elif run.dry_run:
            run.status = "incomplete" if "reason" in run.details else "complete"

    def _take(self, run: Run, said: Mapping[str, bool | None], changed_since: datetime) -> None:
        """Class every order of which the remote said something, count it, and keep what was found.

        Our side is read after the remote's, and does not rest if it changed since the remote was asked.
        """
        now, equal, differing = self._clock(), [], []
        seen: dict[UUID, bool] = {}
        views = self.records.listed(run.token_id, list(said), changed_since)
        for order_id, remote in said.items():
            view = views.get(order_id)
            kind = rules.classify(view.ours if view else None, remote)
            run.buckets[kind] = run.buckets.get(kind, 0) + 1
            run.scanned += 1
            if view is not None and view.ours.resting and remote is not None:
                seen[view.id] = remote
            done = view and view.ours.completed_at
            young = done and now - done < self._threshold
            if kind == rules.AGREES:
                equal.append(order_id)
            elif kind in rules.DIFFERING and not (kind == rules.MISSING_ORDER and young):
                differing.append((order_id, kind, view.ours.state if view else None, remote))
        if not run.dry_run:
            self.records.note(run, seen, equal, differing, now)
            return
        run.details.setdefault("seen", set()).update(order.int for order in seen)
        listed = run.details.setdefault("differences", [])
        names = ("order_id", "kind", "ours", "remote")
        listed += [
            dict(zip(names, one, strict=True)) for one in differing[: LISTED_DIFFERENCES - len(listed)]
        ]

    def _mend_some(self, run: Run) -> None:
        """A batch of repairs; the last one ends the run. What may not be repaired is not asked for."""
        after = UUID(run.details["mended"]) if "mended" in run.details else _NO_ID
        tried, now = int(run.details.get("tried", 0)), self._clock()

        def may(kind: str, ours: OurSide | None) -> bool:
            return rules.may_mend(kind, ours, now, self._threshold)

        rows = self.records.differences(run=run.id, after=after, kinds=rules.MENDABLE, limit=_BATCH)
        views = self.records.listed(run.token_id, [row["order_id"] for row in rows], now)
        ends, over = self._monotonic() + self._config.delivery_slice_seconds, len(rows) < _BATCH
        for row in rows:
            view = views.get(row["order_id"])
            if view and may(row["kind"], view.ours):
                if tried >= _MOST_REPAIRS:
                    over = True
                    run.details["reason"] = (
                        f"{tried} repairs were tried, enough for one run: the next goes on"
                    )
                    break
                self._mend(row, {}, may, run)
                tried += 1
            run.details |= {"mended": str(row["id"]), "tried": tried}
            if self._monotonic() >= ends:
                over = False
                break
        if over:
            run.status = "incomplete" if "reason" in run.details else "complete"

    def _mend(
        self,
        row: dict[str, Any],
        who: dict[str, str],
        may: Callable[[str, OurSide | None], bool],
        run: Run | None = None,
    ) -> str:
        """Compare one order again and have it told if `may` says so: `fixed`, `gone`, or the class that it stays in."""
        kind, remote, view = self.look(row["token_id"], row["order_id"])
        now = self._clock()
        if kind == rules.AGREES:
            self.records.resolve(row["id"], "gone", now)
            return "gone"
        if view is None or not may(kind, view.ours):
            return kind
        said = {"difference": kind, "ours": view.ours.state, "remote": remote, **who}
        if not self.records.repair(view, row, run, said, now):
            return rules.IN_FLIGHT
        self._wakeups.wake(row["token_id"])
        return "fixed"

    def _open(self, difference: UUID | str) -> dict[str, Any]:
        try:
            row = self.records.difference(UUID(str(difference)))
        except ValueError:
            row = None
        if row is None:
            raise UnknownDifference(difference)
        if row["status"] != "open":
            raise RepairRefused(f"the difference {difference}", row["status"])
        return row

    def _unchanged_since(self) -> datetime:
        return self._clock() - timedelta(seconds=self._config.reconciliation_grace_seconds)

    def _report(self, run: Run) -> dict[str, Any]:
        differences = run.details.get("differences")
        if differences is None:
            names = ("id", "order_id", "kind", "status", "ours", "remote")
            rows = self.records.differences(status=None, run=run.id, limit=LISTED_DIFFERENCES)
            differences = [{name: row[name] for name in names} for row in rows]
        return {
            "token_id": run.token_id,
            "status": run.status,
            "reason": run.details.get("reason"),
            "dry_run": run.dry_run,
            "pages": run.pages,
            "checked": run.scanned,
            "buckets": run.buckets,
            "discrepancies": differences,
            "fixed": run.fixed,
            "complete": run.status == "complete",
        }


def _who(actor: str, reason: str) -> dict[str, str]:
    return {"actor": check_word("actor", actor), "reason": check_word("reason", reason)}
