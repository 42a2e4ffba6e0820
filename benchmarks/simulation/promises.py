"""What must hold: during the run what is cheap to ask, at its end everything of design section 1."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from benchmarks.simulation.model import SKUS, Model
from benchmarks.simulation.world import Broken
from stocksync.store.audit import audit
from stocksync.store.values import to_text

if TYPE_CHECKING:
    from benchmarks.simulation.database import SimulatedDatabase
    from benchmarks.simulation.remote import SimulatedRemote
    from benchmarks.simulation.world import World

_LEVELS = "SELECT sku, on_hand FROM stock_sync_levels"
_ORDERS = """
    SELECT token_id, order_id, is_stock_updated, attempts, waiting, claim_id, due_at FROM stock_sync_orders"""
_LINES = """
    SELECT o.token_id, o.order_id, n.line_id, n.deducted - n.refunded FROM stock_sync_order_lines AS n
    JOIN stock_sync_orders AS o ON o.id = n.order_ref WHERE n.deducted <> n.refunded"""
_FOUND_FOR_PEOPLE = """
    SELECT d.token_id, d.order_id FROM stock_sync_discrepancies AS d
    WHERE d.status = 'open' AND NOT EXISTS (
      SELECT 1 FROM pending_stock_operations AS p
      WHERE p.token_id = d.token_id AND p.order_id = d.order_id AND p.completed_at > ?)"""
_COMPLETED_UNTOLD = """
    SELECT p.id, o.id, p.state_version FROM stock_sync_orders AS o
    CROSS JOIN pending_stock_operations AS p ON p.order_ref = o.id
    WHERE o.state_version > o.delivered_version AND p.status = 'completed' AND p.state_version > o.delivered_version
      AND o.is_stock_updated IS NOT NULL AND COALESCE(o.waiting, '') <> 'cancelled'"""


class Promises:
    """Compares the product's rows with the model and with the remote."""

    def __init__(
        self, world: World, model: Model, remote: SimulatedRemote, max_attempts: int, cancelled: set[str]
    ) -> None:
        self._world, self._model, self._remote = world, model, remote
        self._max_attempts, self._cancelled = max_attempts, cancelled

    @property
    def _database(self) -> SimulatedDatabase:
        return self._world.database

    def check_orders(self) -> None:
        """What we say is what the model knows; attempts are those that really failed; nothing is completed early."""
        self._check_completed()
        in_doubt, served_at = self._model.in_doubt(), self._remote.served_at
        for token, order, says, attempts, waiting, claim, _ in self._database.look(_ORDERS):
            name = (token, order)
            if name in in_doubt:
                self._hold(says is None, f"{name} is in doubt, and says {says}")
            else:
                sold = name in self._model.orders and self._model.orders[name].sold
                self._hold(bool(says) is sold, f"{name} says {says}; sold: {sold}")
            ledger = self._remote.ledger(name)
            really = ledger.attempts(served_at)
            self._hold(attempts <= really, f"{name}: {attempts} attempts counted, {really} really failed")
            if waiting == "failed":
                enough = ledger.refused_for_good or really >= self._max_attempts
                self._hold(enough, f"{name} is given up after {really} attempts")
            elif not attempts and claim is None:
                ledger.forget()

    def check_stock(self) -> None:
        """On hand is what the model knows, of every line what is out too."""
        levels = dict(self._database.look(_LEVELS))
        stock = {sku: self._model.stock[sku] for sku in SKUS}
        self._hold(levels == stock, f"on hand: {levels}, not {stock}")
        out = {(token, order, line): net for token, order, line, net in self._database.look(_LINES)}
        wanted = self._model.lines_out()
        wrong = sorted(out.items() ^ wanted.items())
        self._hold(not wrong, f"lines are out or not: {wrong}")

    def _check_completed(self) -> None:
        # What was sold and taken back before the remote could hear of it, it need not hear.
        first_true = self._database.first_true
        early = [
            (id, version)
            for id, order, version in self._database.look(_COMPLETED_UNTOLD)
            if version >= first_true.get(order, sys.maxsize)
        ]
        self._hold(not early, f"completed before the remote was told: {early}")

    def check_audit(self) -> None:
        """`audit` finds nothing."""
        found = [(one.check, one.rows[:2]) for one in audit(self._database)]
        self._hold(not found, f"the audit finds {found}")

    def check_woken(self, lane: str, asleep: bool) -> None:
        """What is due has a wake-up, or a worker is at it."""
        self._hold(not asleep, f"{lane} has due work, and nobody was woken for it")

    # At the end

    def unsettled(self, *, strictly: bool) -> list[str]:
        """What is not at rest yet, or differs at the remote though nobody stopped it.

        Args:
            strictly: what was given up, or waits for a person, is no excuse.
        """
        rows = self._database.look(_ORDERS)
        waits = [
            f"{token} {order} waits: {waiting}"
            for token, order, _, _, waiting, claim, due in rows
            if claim is not None or due is not None
        ]
        if strictly:
            return waits + self.differing(set())
        excused = {(row[0], row[1]) for row in rows if row[4] == "failed"}
        # Nothing of it was completed of late, so a repair is a person's; reconciliation has found it.
        of_late = to_text(self._world.wall() - timedelta(days=1))
        excused |= set(self._database.look(_FOUND_FOR_PEOPLE, of_late))
        return waits + self.differing(excused)

    def differing(self, excused: set[tuple[str, str]]) -> list[str]:
        """Orders of which the remote holds something else, but those that a person stopped, or in doubt."""
        excused = excused | self._model.in_doubt()
        return [
            f"{name} at the remote: {self._remote.flags.get(name)}; sold: {order.sold}"
            for name, order in self._model.orders.items()
            if name not in excused and not order.stopped
            if self._remote.flags.get(name, False) is not order.sold
        ]

    def check_operations(self) -> None:
        """At rest: everything is completed, cancelled by a person, or was given up with its order."""
        rows = self._database.look(
            """SELECT p.id, p.status, p.applied, o.waiting FROM pending_stock_operations AS p
               LEFT JOIN stock_sync_orders AS o ON o.id = p.order_ref"""
        )
        for id, status, applied, waiting in rows:
            if status == "cancelled":
                self._hold(id in self._cancelled or applied == "no", f"{id} is cancelled, and by nobody")
            elif status == "failed":
                # It may be in doubt since.
                self._hold(
                    waiting in ("failed", "not_ready"), f"{id} has failed, its order has not: {waiting}"
                )
            elif applied != "unknown" and status != "completed":
                # With its order not ready, or given up and not told of this one.
                held = waiting in ("failed", "not_ready", "cancelled")
                self._hold(held, f"{id} is {status} for ever, its order: {waiting}")

    def check_found(self, looks: dict[tuple[str, str], Any]) -> None:
        """What a person stopped, or was given up, and differs: reconciliation does not say that it agrees."""
        for name, kind in looks.items():
            order = self._model.order(name)
            if self._remote.flags.get(name, False) is not order.sold:
                self._hold(kind != "agrees", f"{name} differs, and reconciliation says {kind}")

    def _hold(self, holds: bool, otherwise: str) -> None:
        if not holds:
            raise Broken(otherwise)
