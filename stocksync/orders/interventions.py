"""What a person may do with one operation: have it retried, cancel it, say what an operation in doubt came to."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

from stocksync.errors import InvalidInput, UnknownOperation
from stocksync.orders.checkout_form import CANCELLED, SELLER_CANCELLED
from stocksync.orders.recording import Recorder, exceeds
from stocksync.store.context import Context, Part
from stocksync.store.identifiers import joined
from stocksync.store.interventions import OperationInterventions, OperationRow
from stocksync.store.inventory import Change
from stocksync.store.operations import OrderRow
from stocksync.store.order_lines import Line
from stocksync.store.values import check_word

log = logging.getLogger(__name__)


class Interventions(Part):
    """The service's calls for people; each is written to the operation's log with who and why."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.recorder = Recorder(context)
        self._interventions = OperationInterventions(context)

    def retry(self, operation_id: UUID | str, *, actor: str, reason: str | None = None) -> None:
        """Have a waiting or given-up operation delivered now, with all attempts before it.

        Raises:
            UnknownOperation, TransitionRefused, InDoubt
        """
        actor, reason = check_word("actor", actor), _reason(reason)
        with self._database.transaction_scope():
            order = self._interventions.retry(_uuid(operation_id), actor, reason, self.recorder.clock())
            self.recorder.wake_after_commit(order.token_id)
        log.info("retried by %s", actor, extra={"operation": operation_id, **_about(order)})

    def cancel(self, operation_id: UUID | str, *, actor: str, reason: str, put_back: bool = False) -> None:
        """Stop the delivery of an operation. Its line no longer holds the order up.

        Args:
            put_back: the deduction never was: its units come back into our stock. Otherwise they stay deducted.

        Raises:
            UnknownOperation, TransitionRefused, InDoubt
            InvalidInput: no reason was given, or the operation took nothing out of our stock.
            RefundExceedsSale: the units can't be put back, because they came back already.
        """
        actor, reason = check_word("actor", actor), check_word("reason", reason)
        at = self.recorder
        with self._database.transaction_scope():
            now = at.clock()
            order, operation = self._interventions.lock(_uuid(operation_id), "cancelled")
            self._interventions.cancel(operation, actor, reason, now, put_back=put_back)
            at.lines.waive(order.id, operation.line_id)
            if put_back:
                self._undo(order, operation)
            state, _ = at.state_of(order)
            changed = state is not order.is_stock_updated
            if not self._interventions.still_wanted(order) and not (changed and state is False):
                at.operations.rest(order, state, "cancelled", now)
            elif changed:
                at.set_in_motion(order, now)
            if put_back:
                cause = ("rollback", joined("rollback", str(operation.id)), operation.id, actor, reason)
                change = Change(operation.sku, operation.quantity, *cause)
                at.ledger.put(operation.warehouse, [change], now)
        log.info("cancelled by %s", actor, extra={"operation": operation_id, **_about(order)})

    def confirm(
        self, operation_id: UUID | str, deducted: bool, *, actor: str, reason: str | None = None
    ) -> None:
        """Say what an operation in doubt came to: whether the foreign inventory did it.

        Args:
            deducted: it was done (a refund: the goods were put back). False: the operation is cancelled, and the
                same call may be made again.

        Raises:
            UnknownOperation
            TransitionRefused: it is not in doubt.
        """
        who = {"actor": check_word("actor", actor), "reason": _reason(reason)}
        self.resolve(_uuid(operation_id), deducted, who)
        log.info(
            "confirmed by %s as %s",
            actor,
            "done" if deducted else "not done",
            extra={"operation": operation_id},
        )

    def resolve(self, operation_id: UUID, done: bool, details: Mapping[str, Any]) -> None:
        """Write what an operation in doubt came to; `details` say who knows. Raises as `confirm` does."""
        at = self.recorder
        with self._database.transaction_scope():
            now = at.clock()
            order, operation = self._interventions.lock(operation_id, "confirmed")
            self._interventions.confirm(operation, done, details, now)
            if done:
                self._count(order, operation)
            line = at.lines_of(order)[operation.line_id]
            if line.deducted < line.quantity:
                self._settle_for(order, line)
            # What came too late for a cancellation, or for the form that lowered its line, goes back at once.
            wanted = 0 if order.status in (CANCELLED, SELLER_CANCELLED) else line.quantity
            excess = line.left - wanted
            if excess > 0:
                what = replace(line, sku=operation.sku, warehouse=operation.warehouse)
                refund = at.draft("refund", order, what, excess, joined("excess", str(operation.id)))
                at.record(order, [replace(refund, reason="the order had changed")], now)
            else:
                at.set_in_motion(order, now)

    def _settle_for(self, order: OrderRow, line: Line) -> None:
        """What was not done no longer holds the order up. Without a form nobody else ordered it."""
        if order.has_form:
            self.recorder.lines.waive(order.id, line.line_id)
            return
        in_doubt = self.recorder.operations.in_doubt(order).get((line.line_id, "deduction"), 0)
        self.recorder.lines.lower(order.id, line.line_id, line.deducted + in_doubt)

    def _count(self, order: OrderRow, operation: OperationRow) -> None:
        lines, line_id, quantity = self.recorder.lines, operation.line_id, operation.quantity
        if operation.operation_type == "refund":
            lines.refund(order.id, {line_id: quantity})  # reserved since the intent
        else:
            grows = operation.line_item_id is None or not order.has_form
            lines.deduct(order.id, line_id, quantity, grows=grows)

    def _undo(self, order: OrderRow, operation: OperationRow) -> None:
        if operation.operation_type != "deduction" or not operation.moves_stock:
            why = f"operation {operation.id} took nothing out of our stock: cancel it without"
            raise InvalidInput("put_back", why)
        line = self.recorder.lines_of(order)[operation.line_id]
        if line.sku != operation.sku:
            why = f"line {line.line_id} became {line.sku} since, and its {operation.sku} came back then"
            raise InvalidInput("put_back", why)
        if not self.recorder.lines.undo_deduction(order.id, line.line_id, operation.quantity, line.reserved):
            raise exceeds(order.order_id, [line], operation.quantity)


def _reason(given: str | None) -> str | None:
    return check_word("reason", given) if given and given.strip() else None


def _uuid(value: UUID | str) -> UUID:
    if isinstance(value, UUID):
        return value
    try:
        return UUID(value)
    except (ValueError, AttributeError, TypeError):
        raise UnknownOperation(value) from None


def _about(order: OrderRow) -> dict[str, str]:
    return {"lane": order.token_id, "order": order.order_id}
