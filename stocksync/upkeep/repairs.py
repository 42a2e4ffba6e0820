"""Repairs: compares one order with the remote and has it told again, for a person or for a run of reconciliation."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from stocksync.delivery.client import OrdersReader
from stocksync.errors import RepairRefused, UnknownDifference, UnknownOrder
from stocksync.store.context import Context, Part
from stocksync.store.models import Reconciliation as Run
from stocksync.store.reconciliation import OurSide, ReconciliationRecords
from stocksync.store.values import check_word
from stocksync.upkeep import discrepancies as rules


class Repairs(Part):
    """`fix`, `leave` and `tell_again` are for people."""

    def __init__(self, context: Context, reader: Callable[[], OrdersReader]) -> None:
        """
        Args:
            reader: asked for only where something is compared.
        """
        super().__init__(context)
        self.records, self._reader = ReconciliationRecords(context), reader
        self._threshold = timedelta(hours=context.config.reconciliation_auto_fix_threshold_hours)

    def fix(self, difference: UUID | str, *, actor: str, reason: str) -> str:
        """Have an order told again because a person asks for it, whatever its age; both sides are read again first.

        Returns:
            `fixed`; or `gone`, when both sides agree by now.

        Raises:
            UnknownDifference, RepairRefused: it is not open, or telling the remote again does not fix it.
            RemoteError: the remote can't be asked now.
        """
        row = self._open(difference)
        outcome = self._repair(row, None, _who(actor, reason))
        if outcome not in ("fixed", "gone"):
            raise RepairRefused(f"order {row['order_id']}", outcome)
        return outcome

    def leave(self, difference: UUID | str, *, actor: str, reason: str) -> None:
        """A person decided that a difference stays; it is not brought up again unless it changes.

        Raises:
            UnknownDifference, RepairRefused: it is not open.
        """
        if not self.records.resolve(
            self._open(difference)["id"], "left", self._clock(), **_who(actor, reason)
        ):
            raise RepairRefused(f"the difference {difference}", "ended meanwhile")

    def look(self, token_id: str, order_id: str) -> tuple[str, bool | None, OurSide | None]:
        """Compare one order now: its class, what the remote says (None: it does not know it), our side.

        Raises:
            RemoteError: the remote can't be asked now.
        """
        # Before asking: an answer older than a delivery concludes nothing.
        changed_since = self._unchanged_since()
        remote = self._ask_for(token_id, order_id)
        ours = self.records.ours(token_id, [order_id], changed_since).get(order_id)
        return rules.classify(ours, remote), remote, ours

    def tell_again(self, token_id: str, order_id: str, *, actor: str, reason: str) -> None:
        """Have one order told again, whatever the remote says; a person's way to repair.

        Raises:
            UnknownOrder
            RepairRefused: it has nothing to say, or is on its way.
        """
        who, now = _who(actor, reason), self._clock()
        ours = self.records.ours(token_id, [order_id], now).get(order_id)
        if ours is None:
            raise UnknownOrder(token_id, order_id)
        if not self.records.tell_again(ours, who, now):
            raise RepairRefused(f"order {order_id}", "on its way, or without anything to say")
        self.context.wakeups.wake(token_id)

    def _repair(self, row: Mapping[str, Any], run: Run | None, who: Mapping[str, str]) -> str:
        """Compare one order again and have it told, if it may be: `fixed`, `gone`, or the class that it stays in.

        Args:
            run: None: a person asks for it.
        """
        kind, remote, ours = self.look(row["token_id"], row["order_id"])
        now = self._clock()
        if kind == "agrees":
            self.records.resolve(row["id"], "gone", now)
            return "gone"
        if not ours or kind not in rules.MENDABLE or (run and not rules.is_young(ours, now, self._threshold)):
            return kind
        if not self.records.tell_again(
            ours,
            {"difference": kind, "ours": ours.state, "remote": remote, **who},
            now,
            row["id"],
            run and run.id,
        ):
            return "in_flight"
        self.context.wakeups.wake(row["token_id"])
        return "fixed"

    def _ask_for(self, token_id: str, order_id: str) -> bool | None:
        found = self._reader().find_order(token_id=token_id, order_id=order_id)
        return None if found is None else found.is_stock_updated

    def _open(self, difference: UUID | str) -> dict[str, Any]:
        try:
            row = self.records.differences(difference=UUID(str(difference)), status=None)[0]
        except (ValueError, IndexError):
            raise UnknownDifference(difference) from None
        if row["status"] != "open":
            raise RepairRefused(f"the difference {difference}", row["status"])
        return row

    def _unchanged_since(self) -> datetime:
        return self._clock() - timedelta(seconds=self._config.reconciliation_grace_seconds)


def _who(actor: str, reason: str) -> dict[str, str]:
    return {"actor": check_word("actor", actor), "reason": check_word("reason", reason)}
