"""AllegroStockService: whole orders in, their revisions and cancellations, and what comes back of them.

Each call is one transaction: all lines of it are moved and recorded, or none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from stocksync.errors import InvalidReturn
from stocksync.orders.checkout_form import (
    CANCELLED,
    READY,
    SELLER_CANCELLED,
    CheckoutForm,
    ReturnedGoods,
    form_of,
    is_newer,
    parse_form,
    read,
    text_of,
)
from stocksync.orders.revisions import apply, follow, is_later, withdrawal
from stocksync.orders.service import StockSynchronizationService
from stocksync.orders.single_operations import refund
from stocksync.store.context import Part, atomic, connected
from stocksync.store.operations import NOTE_STATUS, TAKE_FORM, Operation, OrderRow
from stocksync.store.order_lines import KEEP_OUT
from stocksync.store.values import DEFAULT_WAREHOUSE, check_token, check_word, optional_word

_REASONS = {CANCELLED: "the order was cancelled", SELLER_CANCELLED: "the seller cancelled the order"}
"""Why the refunds of a form with this standing were recorded."""


@dataclass(frozen=True, slots=True)
class OrderResult:
    """What came of one order.

    `status`: `queued` (stock moved, its delivery is under way), `already_updated` (nothing new in it),
    `no_stock_lines` (nothing to deduct), `noted` (its status asks for nothing), `cancelled` (now, or before this
    form came: nothing is deducted), `already_cancelled` (cancelled again: nothing changed), `taken_over` (an order with
    a later form carries its lines: nothing is deducted here).
    """

    order_id: str
    status: str
    operations: Sequence[UUID] = ()


@dataclass(frozen=True, slots=True)
class ReturnResult:
    """What came of one return. `status`: `queued`, or `already_returned` (nothing changed).

    `order_id`: of the order that carries the line now. `operations`: the refund, when it was recorded now.
    """

    return_id: str
    order_id: str
    status: str
    operations: Sequence[UUID] = ()


class AllegroStockService(Part):
    """Takes orders as Allegro states them and moves stock for them, each line once."""

    def __init__(self, service: StockSynchronizationService) -> None:
        super().__init__(service.context)
        self._recorder = service.recorder

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
                `AllegroOrder` (see `checkout_form.form_of`); one whose `is_stock_updated` is True is skipped.
            warehouse: where the goods of new lines go out.
            token_id: the seller account, when the form does not name it.
            actor: who asked, kept with the operations.

        Raises:
            InvalidOrder: the form can't be taken; every fault is named.
            UnknownWarehouse: no stock was ever recorded for it.
            InsufficientStock: every SKU that is short is named. In each case nothing was written.
        """
        warehouse, actor = check_word("warehouse", warehouse), optional_word("actor", actor)
        if getattr(order, "is_stock_updated", None) is True and text_of(order, "status") != CANCELLED:
            return OrderResult(str(order.id), "already_updated")
        form = (form_of if hasattr(order, "order_items") else parse_form)(order, token_id)
        return self._recorder.in_turn(lambda: self._process(form, warehouse, actor, self._clock()))

    @atomic
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
        actor, reason, now = optional_word("actor", actor), optional_word("reason", reason), self._clock()
        order, _ = self._recorder.hold(
            check_token("token_id", token_id), check_word("order_id", order_id), (), now
        )
        if order.status == CANCELLED:
            return OrderResult(order.order_id, "already_cancelled")
        self._database.run(NOTE_STATUS, id=order.id, status=CANCELLED, now=now)
        if not restock:
            self._database.run(KEEP_OUT, order_ref=order.id)
        known = self._recorder.lines.of(order)
        operations = apply(self._recorder, order, known, withdrawal((), known), DEFAULT_WAREHOUSE)
        return OrderResult(
            order.order_id,
            "cancelled",
            self._record(order, operations, actor, reason or _REASONS[CANCELLED], now),
        )

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
        goods = read(ReturnedGoods, document, token_id, "return_id", InvalidReturn)
        call = Operation(
            self._new_id(),
            "refund",
            **goods.model_dump(exclude={"return_id"}),
            warehouse=DEFAULT_WAREHOUSE,
            moves_stock=restock,
            actor=optional_word("actor", actor),
        )
        order, first = self._recorder.in_turn(lambda: refund(self._recorder, call, return_id=goods.return_id))
        if first:
            return ReturnResult(goods.return_id, order.order_id, "already_returned")
        return ReturnResult(goods.return_id, order.order_id, "queued", [call.id])

    @connected
    def require_warehouse(self, warehouse: str) -> None:
        """Raises UnknownWarehouse when no stock was ever recorded for it."""
        self._recorder.ledger.require_warehouse(check_word("warehouse", warehouse))

    def _process(self, form: CheckoutForm, warehouse: str, actor: str | None, now: datetime) -> OrderResult:
        standing = form.standing if self._config.seller_cancellation == "restock" else form.status
        order, carriers = self._recorder.hold(
            form.token_id, form.id, [line.id for line in form.line_items], now
        )
        if order.status == CANCELLED and standing != READY:
            return OrderResult(form.id, "already_cancelled" if standing == CANCELLED else "cancelled")
        if order.status == CANCELLED:
            standing = CANCELLED
        said = {"status": standing, "revision": form.revision, "changed_at": form.updated_at}
        if standing != CANCELLED:
            self._recorder.ledger.require_warehouse(warehouse)
            if order.has_form and not is_newer(
                form,
                order.revision,
                order.form_updated_at,
                seller_turned={standing, order.status} == {READY, SELLER_CANCELLED},
            ):
                if (form.revision, standing) == (order.revision, order.status) and is_later(form, order):
                    # What the seller said before this moment, and comes later, is over.
                    self._database.run(TAKE_FORM, id=order.id, **said, now=now)
                return OrderResult(form.id, "already_updated")
            if standing not in (READY, SELLER_CANCELLED):
                if not order.has_form:
                    # Known by status alone: its lines are taken when it is ready, whatever revision that form has.
                    self._database.run(NOTE_STATUS, id=order.id, status=standing, now=now)
                return OrderResult(form.id, "noted")
        self._database.run(TAKE_FORM, id=order.id, **said, now=now)
        cancelled = standing != READY
        done = self._record(
            order,
            follow(self._recorder, order, form, carriers, warehouse, cancelled=cancelled),
            actor,
            _REASONS.get(standing),
            now,
        )
        if cancelled or done:
            return OrderResult(form.id, "cancelled" if cancelled else "queued", done or ())
        lines = self._recorder.lines.of(order).values()
        if any(line.moved_to for line in lines):
            return OrderResult(form.id, "taken_over")
        return OrderResult(
            form.id, "already_updated" if any(line.sku for line in lines) else "no_stock_lines"
        )

    def _record(
        self,
        order: OrderRow,
        operations: Sequence[Operation],
        actor: str | None,
        reason: str | None,
        now: datetime,
    ) -> list[UUID]:
        for operation in operations:
            operation.actor, operation.reason = actor, operation.reason or reason
        self._recorder.record(order, operations, now)
        return [operation.id for operation in operations]
