"""AllegroStockService: whole orders in, their revisions and cancellations, and what comes back of them.

Each call is one transaction: all lines of it are moved and recorded, or none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from stocksync.domain.checkout_form import (
    CANCELLED,
    READY,
    CheckoutForm,
    check_word,
    form_of,
    is_newer,
    parse_form,
    with_lines_apart,
)
from stocksync.domain.errors import InvalidOrder
from stocksync.domain.identifiers import stored_key
from stocksync.domain.returned_goods import ReturnedGoods, parse_return
from stocksync.domain.revisions import LineChange, changes
from stocksync.sales import checked_token, deduction_key
from stocksync.service import StockSynchronizationService
from stocksync.store.inventory import Line
from stocksync.store.models import DEFAULT_WAREHOUSE
from stocksync.store.operations import OperationDraft, OrderRow

QUEUED = "queued"
ALREADY_UPDATED = "already_updated"
NOT_STOCK = "no_stock_lines"
NOTED = "noted"
ORDER_CANCELLED = "cancelled"
ALREADY_CANCELLED = "already_cancelled"
ALREADY_RETURNED = "already_returned"


@dataclass(frozen=True, slots=True)
class OrderResult:
    """What came of one order.

    `status`: `queued` (stock moved, its delivery is under way), `already_updated` (nothing new in it),
    `no_stock_lines` (nothing to deduct), `noted` (its status asks for nothing), `cancelled` (now, or before this
    form came: nothing is deducted), `already_cancelled` (cancelled again: nothing changed).
    """

    order_id: str
    status: str
    operations: Sequence[UUID] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        operations = [str(id) for id in self.operations]
        return {"order_id": self.order_id, "status": self.status, "operations": operations}


@dataclass(frozen=True, slots=True)
class ReturnResult:
    """What came of one return. `status`: `queued`, or `already_returned` (nothing changed).

    `operations`: the refund, when it was recorded now.
    """

    return_id: str
    order_id: str
    status: str
    operations: Sequence[UUID] = ()


class AllegroStockService:
    """Takes orders as Allegro states them and moves stock for them, each line once."""

    def __init__(self, service: StockSynchronizationService) -> None:
        self._service = service
        self._recorder = service.recorder
        self._database = service.recorder.database

    def process_order_stock_update(
        self,
        order: Any,
        warehouse: str = DEFAULT_WAREHOUSE,
        *,
        token_id: str | None = None,
        actor: str | None = None,
    ) -> OrderResult:
        """Make stock follow a checkout form: new lines go out, what a later revision drops or lowers comes back.

        A form with status CANCELLED cancels its order, as `cancel_order` does.

        Args:
            order: the form as decoded JSON, an already parsed `CheckoutForm`, or an object shaped like the plan's
                `AllegroOrder` (see `domain.checkout_form.form_of`); one whose `is_stock_updated` is True is skipped.
            warehouse: where the goods of new lines go out.
            token_id: the seller account, when the form does not name it.
            actor: who asked, kept with the operations.

        Raises:
            InvalidOrder: the form can't be taken; every fault is named.
            UnknownWarehouse: no stock was ever recorded for it.
            InsufficientStock: every SKU that is short is named. In each case nothing was written.
        """
        warehouse, actor = check_word("warehouse", warehouse), _word("actor", actor)
        if getattr(order, "is_stock_updated", None) is True:
            return OrderResult(str(order.id), ALREADY_UPDATED)
        if isinstance(order, CheckoutForm):
            form = with_lines_apart(order)
        else:
            form = (form_of if hasattr(order, "order_items") else parse_form)(order, token_id)
        with self._database.transaction_scope():
            return self._process(form, warehouse, actor, self._recorder.clock())

    def cancel_order(
        self,
        order_id: str,
        token_id: str,
        *,
        restock: bool = True,
        actor: str | None = None,
        reason: str | None = None,
    ) -> OrderResult:
        """Give back what is still deducted of an order, and deduct nothing for it any more: this is final.

        An unknown order is remembered as cancelled, so that its form, when it comes, deducts nothing. Deductions in
        doubt stay so; confirmed as deducted, they are given back at once.

        Args:
            restock: put the units back into our stock, where they were taken from it; those of a refund in doubt
                too, if it comes out that it was not done.

        Raises:
            InvalidInput
        """
        token, order_id = checked_token(token_id), check_word("order_id", order_id)
        actor, reason = _word("actor", actor), _word("reason", reason)
        with self._database.transaction_scope():
            now, operations = self._recorder.clock(), self._recorder.operations
            order = operations.ensure_order(token, order_id, now)
            if order.status == CANCELLED:
                return OrderResult(order_id, ALREADY_CANCELLED)
            operations.note_status(order, CANCELLED, now)
            return self._cancel(order, actor, reason, restock)

    def process_return(
        self, document: Any, *, restock: bool = True, token_id: str | None = None, actor: str | None = None
    ) -> ReturnResult:
        """Take goods back that belong to a known sale, each return once.

        Args:
            document: decoded JSON with `return_id`, `token_id`, `order_id`, `line_item_id` (without it the line is
                found by SKU), `sku` and `quantity`; or an already parsed `ReturnedGoods`.
            restock: put the units back into our stock, where they were taken from it.
            token_id: the seller account, when the document does not name it.

        Raises:
            InvalidReturn: every fault is named.
            OrphanRefund: no such sale is known.
            RefundExceedsSale: fewer units are left of it.
            IdempotencyConflict: the return was taken before with other content.
        """
        goods = document if isinstance(document, ReturnedGoods) else parse_return(document, token_id)
        sales, what = self._service.sales, (goods.sku, goods.quantity, DEFAULT_WAREHOUSE, goods.line_item_id)
        call = sales.call("refund", goods.token_id, goods.order_id, *what)
        call.moves_stock, call.actor = restock, _word("actor", actor)
        with self._database.transaction_scope():
            done = sales.refund(call, return_id=goods.return_id)
        if done.repeated:
            return ReturnResult(goods.return_id, goods.order_id, ALREADY_RETURNED)
        return ReturnResult(goods.return_id, goods.order_id, QUEUED, [done.operation_id])

    def require_warehouse(self, warehouse: str) -> None:
        """Raises UnknownWarehouse when no stock was ever recorded for it."""
        with self._database.scope():
            self._recorder.ledger.require_warehouse(check_word("warehouse", warehouse))

    def _process(self, form: CheckoutForm, warehouse: str, actor: str | None, now: datetime) -> OrderResult:
        at = self._recorder
        order = at.operations.ensure_order(form.token_id, form.id, now)
        if order.status == CANCELLED:
            repeated = form.status == CANCELLED
            return OrderResult(form.id, ALREADY_CANCELLED if repeated else ORDER_CANCELLED)
        if form.status == CANCELLED:
            at.operations.take_form(order, form, now)
            return self._cancel(order, actor)
        at.ledger.require_warehouse(warehouse)
        if order.has_form and not is_newer(form, order.revision, order.form_updated_at):
            return OrderResult(form.id, ALREADY_UPDATED)
        if form.status != READY:
            if not order.has_form:
                # Known by status alone: its lines are taken when it is ready, whatever revision that form has.
                at.operations.note_status(order, form.status, now)
            return OrderResult(form.id, NOTED)
        known = at.lines_of(order)
        _refuse_unnamed_lines(order, known)
        at.operations.take_form(order, form, now)
        named = {line_id: line for line_id, line in known.items() if not line.is_unnamed}
        changed = list(changes(form.line_items, named))
        _refuse_lines_kept_elsewhere(order, known, changed)
        drafts = self._apply(order, known, changed, warehouse)
        if drafts:
            for draft in drafts:
                draft.actor = actor
            at.record(order, drafts, now)
            return OrderResult(form.id, QUEUED, [draft.id for draft in drafts])
        had_stock = any(line.sku is not None for line in known.values())
        return OrderResult(form.id, ALREADY_UPDATED if had_stock else NOT_STOCK)

    def _apply(
        self, order: OrderRow, known: dict[str, Line], changed: list[LineChange], warehouse: str
    ) -> list[OperationDraft]:
        """Write the lines as they become; answers with the operations to be recorded, refunds first."""
        at, version = self._recorder, str(order.state_version + 1)
        new: list[Line] = []
        revised: list[tuple[Line, int]] = []
        refunds: list[OperationDraft] = []
        deductions: list[OperationDraft] = []
        for change in changed:
            before = known.get(change.line_id)
            which = (order.token_id, order.order_id, change.line_id)
            place = warehouse if change.sku else None
            if before is None:
                key = deduction_key(*which)
                line = Line(change.line_id, change.sku, place, change.quantity, change.out)
                new.append(line)
            else:
                key = stored_key("deduct", *which, version)
                place = before.warehouse or place
                line = replace(before, sku=change.sku, warehouse=place, quantity=change.quantity)
                revised.append((line, change.out))
                if change.back:
                    back_key = stored_key("revise", *which, version)
                    refunds.append(at.draft("refund", order, before, change.back, back_key))
            if change.out:
                deductions.append(at.draft("deduction", order, line, change.out, key))
        at.lines.add(order.id, new, at.clock())
        at.lines.revise(order.id, revised)
        return refunds + deductions

    def _cancel(
        self, order: OrderRow, actor: str | None, reason: str | None = None, restock: bool = True
    ) -> OrderResult:
        if not restock:
            self._recorder.lines.keep_out(order.id)
        drafts: list[OperationDraft] = []
        for line_id, line in self._recorder.lines_of(order).items():
            if line.left > 0:
                key = stored_key("cancel", order.token_id, order.order_id, line_id)
                draft = self._recorder.draft("refund", order, line, line.left, key)
                draft.actor, draft.reason = actor, reason or "the order was cancelled"
                drafts.append(draft)
        if drafts:
            self._recorder.record(order, drafts, self._recorder.clock())
        return OrderResult(order.order_id, ORDER_CANCELLED, [draft.id for draft in drafts])


def _refuse_unnamed_lines(order: OrderRow, known: dict[str, Line]) -> None:
    """Nobody can say which of the form's lines they are. Raises InvalidOrder."""
    unnamed = [line for line in known.values() if line.is_unnamed and (line.left > 0 or line.is_open)]
    if unnamed and not order.has_form:
        listed = ", ".join(f"{max(line.left, line.quantity)} of {line.sku}" for line in unnamed)
        twice = f"calls without line_item_id deducted {listed} for it, and the form would deduct them twice"
        raise InvalidOrder(order.order_id, [f"{twice}: refund those first, or go on line by line"])


def _refuse_lines_kept_elsewhere(order: OrderRow, known: dict[str, Line], changed: list[LineChange]) -> None:
    """What goes out of another's stock only that one can take. Raises InvalidOrder."""
    faults = [
        f"line {change.line_id}: {change.out} more of {change.sku} go out of stock that is kept elsewhere; "
        "deduct them there, under another line id"
        for change in changed
        if change.out
        and (line := known.get(change.line_id))
        and line.sku is not None
        and not line.moves_stock
    ]
    if faults:
        raise InvalidOrder(order.order_id, faults)


def _word(field: str, given: str | None) -> str | None:
    return None if given is None else check_word(field, given)
