"""Recording: operations are written, stock moves with them, and their order is set in motion, in one transaction."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from stocksync.delivery import Wakeups
from stocksync.domain.errors import IdempotencyConflict, InsufficientStock, RefundExceedsSale, Shortage
from stocksync.domain.identifiers import Clock, NewId, content_hash
from stocksync.domain.order_state import LineState, is_ready, order_state
from stocksync.store.database import Database, after_commit
from stocksync.store.inventory import Change, Line, OrderLines, StockLedger
from stocksync.store.operations import OperationDraft, Operations, OrderRow

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Refund:
    """Units of one line that come back. `key`: what makes it unrepeatable; None: nothing does."""

    line: Line
    quantity: int
    key: str | None = None


class Recorder:
    """What every way in has in common. Callers hold a write transaction, and roll it back when this raises."""

    def __init__(
        self,
        database: Database,
        operations: Operations,
        lines: OrderLines,
        ledger: StockLedger,
        wakeups: Wakeups,
        *,
        clock: Clock,
        new_id: NewId,
    ) -> None:
        self.database = database
        self.operations = operations
        self.lines = lines
        self.ledger = ledger
        self.clock = clock
        self.new_id = new_id
        self.wakeups = wakeups

    def record(
        self, order: OrderRow, drafts: Sequence[OperationDraft], now: datetime, *, wake: bool = True
    ) -> None:
        """Write operations whose lines are written already, set the order in motion, and move the stock.

        The lane is woken after the commit, unless `wake` is False.

        Raises:
            InsufficientStock: naming every SKU that is short.
            IdempotencyConflict: a key was used meanwhile.
        """
        self.operations.record(order, order.token_id, drafts, order.state_version + 1, now)
        self.set_in_motion(order, now, wake=wake)
        self._move([draft for draft in drafts if draft.moves_stock and draft.applied == "yes"], now)

    def set_in_motion(self, order: OrderRow, now: datetime, *, wake: bool = True) -> None:
        """Have told what the order's lines now say. Where nothing has to be told, its operations are complete."""
        state, ready = self.state_of(order)
        self.operations.set_in_motion(order, state, now)
        if state is None and ready:
            self.operations.complete_at_rest(order, now)
        elif state is not None and wake:
            self.wake_after_commit(order.token_id)

    def state_of(self, order: OrderRow) -> tuple[bool | None, bool]:
        """What should be told of the order, by its lines as they are now, and whether nothing holds it up."""
        lines = [
            LineState(line.sku is not None, line.quantity, line.deducted, line.refunded, line.waived)
            for line in self.lines.of(order.id).values()
        ]
        in_doubt = bool(self.operations.in_doubt(order))
        return order_state(lines, in_doubt=in_doubt, told_true=order.told_true), is_ready(
            lines, in_doubt=in_doubt
        )

    def lines_of(self, order: OrderRow) -> dict[str, Line]:
        """The order's lines by id, with what is reserved for refunds in doubt."""
        doubts = self.operations.in_doubt(order) if order.state_version else {}
        return {
            line_id: replace(line, reserved=doubts.get((line_id, "refund"), 0))
            for line_id, line in self.lines.of(order.id).items()
        }

    def give_back(
        self,
        order: OrderRow,
        refunds: Sequence[Refund],
        *,
        restock: bool = True,
        actor: str | None = None,
        reason: str | None = None,
    ) -> list[OperationDraft]:
        """Count refunds of what is left of lines; answers with the operations to be recorded.

        Raises:
            RefundExceedsSale
        """
        units = {refund.line.line_id: refund.quantity for refund in refunds}
        if units and not self.lines.refund(order.id, units):
            raise exceeds(order.order_id, [refund.line for refund in refunds], sum(units.values()))
        return [
            self.refund_draft(order, refund, restock=restock, actor=actor, reason=reason)
            for refund in refunds
        ]

    def refund_draft(
        self, order: OrderRow, refund: Refund, *, restock: bool, actor: str | None, reason: str | None
    ) -> OperationDraft:
        """The operation of a refund: stock comes back where the line's deductions took it from ours."""
        line, quantity = refund.line, refund.quantity
        return OperationDraft(
            self.new_id(),
            "refund",
            str(line.sku),
            quantity,
            str(line.warehouse),
            None if line.is_unnamed else line.line_id,
            (refund.key,) if refund.key else (),
            content_hash("refund", order.token_id, order.order_id, line.line_id, line.sku, quantity),
            moves_stock=restock and line.moves_stock,
            actor=actor,
            reason=reason,
        )

    def first_with(self, keys: tuple[str, ...], content: str) -> UUID | None:
        """The operation that was recorded under one of `keys` before. Raises IdempotencyConflict."""
        for key in keys:
            if found := self.operations.find_key(key):
                if found[0] != content:
                    raise IdempotencyConflict(key, found[1])
                return found[1]
        return None

    def wake_after_commit(self, lane: str) -> None:
        """Wake the lane once the outermost transaction has committed."""

        def hook() -> None:
            try:
                self.wakeups.wake(lane)
            except Exception:  # raised here, it would report a committed transaction as failed
                log.exception("waking lane %s failed; the sweep will deliver it", lane)

        after_commit(self.database, hook)

    def _move(self, drafts: Sequence[OperationDraft], now: datetime) -> None:
        """Warehouse by warehouse, what comes back before what goes out, so that it counts as there."""
        short: list[Shortage] = []
        by_warehouse: dict[str, dict[str, list[Change]]] = {}
        for draft in drafts:
            directions = by_warehouse.setdefault(draft.warehouse, {"refund": [], "deduction": []})
            directions[draft.operation_type].append(_change(draft))
        for warehouse, changes in sorted(by_warehouse.items()):
            back, out = changes["refund"], changes["deduction"]
            if back and out:  # all levels at once, in their order
                self.ledger.hold(warehouse, sorted({change.sku for change in back + out}), now)
            if back:
                self.ledger.put(warehouse, back, now)
            try:
                if out:
                    self.ledger.take(warehouse, out, now)
            except InsufficientStock as missing:
                short += missing.shortages
        if short:
            raise InsufficientStock(short)


def exceeds(order_id: str, lines: Sequence[Line], asked: int) -> RefundExceedsSale:
    """That more is asked back than is left of `lines`."""
    deducted = sum(line.deducted for line in lines)
    refunded = deducted - sum(line.left for line in lines)
    return RefundExceedsSale(order_id, str(lines[0].sku), deducted=deducted, refunded=refunded, asked=asked)


def _change(draft: OperationDraft) -> Change:
    key = draft.keys[0] if draft.keys else f"{draft.operation_type}:{draft.id}"
    return Change(draft.sku, draft.quantity, draft.operation_type, key, draft.id, draft.actor, draft.reason)
