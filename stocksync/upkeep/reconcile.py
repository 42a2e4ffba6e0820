"""Reconciliation: walks the remote's orders, compares them with ours, and has told again what may be.

A run goes in steps of one page or batch; its row knows where it stands, so that any process goes on with it, after a
crash too. Nothing is repaired before the whole walk was judged, and both sides are read again before each repair.
A dry run takes the same steps on a row that is not written before its end.
"""

import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from stocksync.errors import RemoteError
from stocksync.store.models import Reconciliation as Run
from stocksync.upkeep import discrepancies as rules
from stocksync.upkeep.repairs import Repairs

log = logging.getLogger(__name__)

_BATCH = 50
_NO_ID = str(UUID(int=0))
_MOST_STEPS = 100_000
_MOST_REPAIRS = 1000
"""Of one run; the next one goes on. Each asks the remote once more."""
_LISTED_DIFFERENCES = 1000
"""In the answer to whoever ran it; of a dry run, kept with its report."""


class Reconciliation(Repairs):
    """Compares whole accounts, and repairs without a person what may be."""

    _monotonic: Callable[[], float] = staticmethod(time.monotonic)

    def slice(self, should_stop: Callable[[], bool] = lambda: False) -> dict[str, Any]:
        """A few seconds of what is due of the active accounts; `more`: call again, behind other work."""
        ends = self._monotonic() + self._config.delivery_slice_seconds
        report: dict[str, Any] = {"more": False, "runs": []}
        try:
            while (token := self._due()) is not None:
                run = self.records.find(token_id=token, status="running") or self._begin(token, None)
                while run.status == "running":
                    if should_stop() or self._monotonic() >= ends:
                        return report | {"more": True}
                    run = self._advance(run)
                report["runs"].append(
                    {"token_id": token, "status": run.status, "fixed": run.fixed, "buckets": run.buckets}
                )
        except RemoteError as error:  # a monolith's own client that offers no list
            report["skipped"] = str(error)
        return report

    def begin_all(self, actor: str) -> None:
        """Begin a run of every active seller, for `slice` to go on with, however lately they were compared.

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
    ) -> dict[str, Any]:
        """One whole run for a seller, in this process; a run that is under way is continued.

        Args:
            dry_run: compare only; nothing is written but the report.
            limit: orders compared, at most; None: all of the window.

        Raises:
            RemoteError: the remote can't be asked (no such client). What it answers ends the run as incomplete.
        """
        run = self._begin(token_id, actor, dry_run=dry_run, limit=limit)
        while run.status == "running" and not should_stop():
            run = self._advance(run)
        if run.dry_run:
            del run.details["seen"]
            self.records.begin(run, self._clock())
        return {
            "token_id": run.token_id,
            "status": run.status,
            "reason": run.details.get("reason"),
            "dry_run": run.dry_run,
            "pages": run.pages,
            "checked": run.scanned,
            "buckets": run.buckets,
            "discrepancies": run.details["differences"]
            if run.dry_run
            else [
                {name: row[name] for name in ("id", "order_id", "kind", "status", "ours", "remote")}
                for row in self.records.differences(status=None, run=run.id, limit=_LISTED_DIFFERENCES)
            ],
            "fixed": run.fixed,
            "complete": run.status == "complete",
        }

    def _due(self) -> str | None:
        """The account that was not compared for longest: one whose run is under way, or that had none in this interval.

        Intervals are those of the clock, not of the account: one whose turn came late has the next one in time.
        """
        interval = self._config.reconciliation_interval_minutes * 60
        began = datetime.fromtimestamp(self._clock().timestamp() // interval * interval, UTC)
        return next(
            (
                token
                for token, last, running in self.records.accounts()
                if running or not last or last < began
            ),
            None,
        )

    def _begin(
        self, token_id: str, actor: str | None, *, dry_run: bool = False, limit: int | None = None
    ) -> Run:
        _ = self._reader()  # a client that can't be asked is said before anything is written
        now = self._clock()
        run = Run(
            id=self._new_id(),
            token_id=token_id,
            started_at=now,
            since=now - timedelta(days=self._config.reconciliation_window_days),
            actor=actor,
            dry_run=dry_run,
            buckets={},
            details={"limit": limit} | ({"seen": set(), "differences": []} if dry_run else {}),
        )
        return run if dry_run else self.records.begin(run)

    def _advance(self, run: Run) -> Run:
        """One step; returns the run as it is afterwards, whoever took the step."""
        try:
            if run.step >= _MOST_STEPS:
                raise RemoteError("Endless", f"its list did not end within {run.step} steps")
            {"list": self._list, "ask": self._ask, "mend": self._mend}[run.details.get("phase", "list")](run)
        except RemoteError as error:
            run.details["reason"] = f"{error.error_class}: {error}"
            run.status = "incomplete"
        if run.dry_run:
            run.step += 1
        elif not self.records.save(run, self._clock()) or run.status != "running":
            run = self.records.find(id=run.id) or run  # with what other processes did of it
        if run.status != "running":
            log.info(
                "reconciliation %s: %s",
                run.status,
                run.buckets or "nothing to compare",
                extra={"lane": run.token_id},
            )
        return run

    def _list(self, run: Run) -> None:
        """Compare a page of the remote's list."""
        changed_since = self._unchanged_since()
        page = self._reader().list_orders(
            token_id=run.token_id,
            updated_since=run.since,
            cursor=run.cursor,
            limit=min(self._config.reconciliation_batch_size, _room(run)),
        )
        self._take(run, {order.id: order.is_stock_updated for order in page.orders}, changed_since)
        run.pages += 1
        run.cursor = page.next_cursor
        if page.next_cursor is None:
            run.details["phase"] = "ask"
        elif _room(run) <= 0:
            self._judge(run, f"ended after {run.scanned} orders, as asked")

    def _ask(self, run: Run) -> None:
        """Compare orders of ours that the remote did not list: it is asked for each, up to a cap."""
        details, changed_since = run.details, self._unchanged_since()
        asked, cap = details.get("asked", 0), self._config.reconciliation_lookup_cap
        ends = self._monotonic() + self._config.delivery_slice_seconds
        unlisted = self.records.unlisted(run, UUID(details.get("after", _NO_ID)), changed_since)
        unseen = [ours for ours in unlisted if ours.id.int not in details.get("seen", ())]
        said: dict[str, bool | None] = {}
        for ours in unseen[: max(0, min(_BATCH, cap - asked, _room(run)))]:
            said[ours.order_id] = self._ask_for(run.token_id, ours.order_id)
            if self._monotonic() >= ends:
                break
        self._take(run, said, changed_since)
        if not unlisted:
            self._judge(run)
        elif unseen and not said:
            self._judge(
                run,
                f"more than {cap} orders of ours are not in the remote's list"
                if asked >= cap
                else f"ended after {run.scanned} orders, as asked",
            )
        else:
            details |= {
                "asked": asked + len(said),
                "after": str((unseen[len(said) - 1] if said else unlisted[-1]).id),
            }

    def _judge(self, run: Run, reason: str | None = None) -> None:
        """The walk is over: is what was found to be trusted? `reason`: why it ended early."""
        differing = sum(run.buckets.get(kind, 0) for kind in rules.DIFFERING)
        # Then one of the two sides is more likely broken than out of step.
        if differing > max(
            self._config.reconciliation_suspicious_orders,
            self._config.reconciliation_suspicious_share * run.scanned,
        ):
            reason = f"{differing} of {run.scanned} orders differ: nothing is repaired"
            run.status = "suspicious"
        run.details |= {"phase": "mend", "reason": reason}

    def _take(self, run: Run, said: Mapping[str, bool | None], changed_since: datetime) -> None:
        """Class every order of which the remote said something, count it, and keep what was found.

        Our side is read after the remote's, and does not rest if it changed since the remote was asked.
        """
        now, sides = self._clock(), self.records.ours(run.token_id, said.keys(), changed_since)
        kinds = {order: rules.classify(sides.get(order), remote) for order, remote in said.items()}
        run.buckets = dict(Counter(run.buckets) + Counter(kinds.values()))
        run.scanned += len(said)
        seen = {
            ours.id: remote
            for ours in sides.values()
            if ours.resting and (remote := said[ours.order_id]) is not None
        }
        differing = [
            {"order_id": order, "kind": kind, "ours": ours.state if ours else None, "remote": said[order]}
            for order, kind in kinds.items()
            for ours in [sides.get(order)]
            if kind in rules.DIFFERING
            and not (kind == "missing_order" and rules.is_young(ours, now, self._threshold))
        ]
        if run.dry_run:
            run.details["seen"].update(order.int for order in seen)
            run.details["differences"] = (run.details["differences"] + differing)[:_LISTED_DIFFERENCES]
        else:
            self.records.note(
                run, seen, [order for order, kind in kinds.items() if kind == "agrees"], differing, now
            )

    def _mend(self, run: Run) -> None:
        """Repair one order; the run ends when none is left. What may not be repaired is not asked for."""
        details, tried = run.details, run.details.get("tried", 0)
        now, after = self._clock(), UUID(details.get("mended", _NO_ID))
        rows = self.records.differences(run=run.id, after=after, kinds=rules.MENDABLE, limit=_BATCH)
        sides = self.records.ours(run.token_id, [row["order_id"] for row in rows], now)
        mendable = [row for row in rows if rules.is_young(sides.get(row["order_id"]), now, self._threshold)]
        if mendable and tried < _MOST_REPAIRS:
            self._repair(mendable[0], run, {})
            details |= {"mended": str(mendable[0]["id"]), "tried": tried + 1}
        elif rows and not mendable:
            details["mended"] = str(rows[-1]["id"])
        else:
            if mendable:
                details["reason"] = f"{tried} repairs were tried, enough for one run: the next goes on"
            run.status = "incomplete" if details.get("reason") else "complete"


def _room(run: Run) -> int:
    """How many more orders the run may compare."""
    return int(run.details["limit"] or sys.maxsize) - int(run.scanned)
