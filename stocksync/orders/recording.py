"""Recording: operations are written, stock moves with them, and their order is set in motion, in one transaction."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from stocksync.errors import (
    IdempotencyConflict,
    InDoubt,
    InsufficientStock,
    LineTaken,
    RefundExceedsSale,
    Shortage,
)
from stocksync.orders.order_state import LineState, is_ready, order_state
from stocksync.store.context import Context, Part
from stocksync.store.database import after_commit
from stocksync.store.inventory import Change, StockLedger
from stocksync.store.operations import OperationDraft, Operations, OrderRow
from stocksync.store.order_lines import Line, OrderLines

log = logging.getLogger(__name__)
T = TypeVar("T")
_TRIES = 100


class Recorder(Part):
    """What every way in has in common. Callers hold a write transaction, and roll it back when this raises."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.database, self.wakeups = context.database, context.wakeups
        self.clock, self.new_id = context.clock, context.new_id
        self.operations, self.lines = Operations(context), OrderLines(context)
        self.ledger = StockLedger(context)

    def in_turn(self, work: Callable[[], T]) -> T:
        """Do `work` in a transaction; from the start, where another one has just moved a line to another order.

        Each time somebody else came further, so this ends long before its bound.
        """
        tries = _TRIES
        while True:
            try:
                with self.database.transaction_scope():
                    return work()
            except LineTaken:
                tries -= 1
                if not tries:
                    raise

    def hold(
        self, token_id: str, order_id: str, line_ids: Sequence[str], now: datetime
    ) -> tuple[OrderRow, dict[str, OrderRow]]:
        """Lock an order, made at need, and the others that carry these lines so far: those by line id."""
        carriers = self.lines.carriers(token_id, line_ids)
        # In one order, so that two who hold the same orders can't deadlock.
        names = sorted({order_id, *carriers.values()})
        rows = {name: self.operations.ensure_order(token_id, name, now) for name in names}
        others = {line_id: rows[name] for line_id, name in carriers.items() if name != order_id}
        return rows[order_id], others

    def draft(self, kind: str, order: OrderRow, line: Line, quantity: int, key: str) -> OperationDraft:
        """An operation on a line of the order; it moves stock where the line's is ours."""
        place = (line.named_id, str(line.sku), quantity, str(line.warehouse))
        what = (kind, order.token_id, order.order_id, *place)
        return OperationDraft(self.new_id(), *what, (key,), line.moves_stock)

    def record(
        self, order: OrderRow, drafts: Sequence[OperationDraft], now: datetime, *, wake: bool = True
    ) -> None:
        """Write operations, set their order in motion, and move the stock.

        Refunds are counted on their lines here; deductions the caller has counted. The lane is woken after the
        commit, unless `wake` is False.

        Raises:
            InsufficientStock: naming every SKU that is short.
            RefundExceedsSale
            IdempotencyConflict: a key was used meanwhile.
        """
        done = [draft for draft in drafts if draft.applied == "yes"]
        back = {draft.line_id: draft.quantity for draft in done if draft.operation_type == "refund"}
        if back and not self.lines.refund(order.id, back):
            lines = self.lines.of(order.id)
            raise exceeds(order.order_id, [lines[line_id] for line_id in back], sum(back.values()))
        self.operations.record(order, drafts, now)
        self.set_in_motion(order, now, wake=wake)
        self._move([draft for draft in done if draft.moves_stock], now)

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
        state = order_state(lines, in_doubt=in_doubt, told_true=order.told_true)
        return state, is_ready(lines, in_doubt=in_doubt)

    def lines_of(self, order: OrderRow) -> dict[str, Line]:
        """The order's lines by id, with what is reserved for refunds in doubt."""
        doubts = self.operations.in_doubt(order) if order.state_version else {}
        return {
            line_id: replace(line, reserved=doubts.get((line_id, "refund"), 0))
            for line_id, line in self.lines.of(order.id).items()
        }

    def first_of(self, draft: OperationDraft) -> UUID | None:
        """The operation that was recorded under one of its keys before. Raises IdempotencyConflict, InDoubt."""
        for key in draft.keys:
            if found := self.operations.find_key(key):
                if found[0] != draft.content_hash:
                    raise IdempotencyConflict(key, found[1])
                if self.operations.is_in_doubt(found[1]):
                    raise InDoubt(found[1])
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
        for warehouse in sorted({draft.warehouse for draft in drafts}):
            here = [draft for draft in drafts if draft.warehouse == warehouse]
            back = [_change(draft) for draft in here if draft.operation_type == "refund"]
            out = [_change(draft) for draft in here if draft.operation_type == "deduction"]
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
            raise InsufficientStock(short, drafts[0].order_id)


def exceeds(order_id: str, lines: Sequence[Line], asked: int) -> RefundExceedsSale:
    """That more is asked back than is left of `lines`."""
    deducted = sum(line.deducted for line in lines)
    refunded = deducted - sum(line.left for line in lines)
    return RefundExceedsSale(order_id, str(lines[0].sku), deducted=deducted, refunded=refunded, asked=asked)


def _change(draft: OperationDraft) -> Change:
    key = draft.first_key or f"{draft.operation_type}:{draft.id}"
    return Change(draft.sku, draft.quantity, draft.operation_type, key, draft.id, draft.actor, draft.reason)
