"""AllegroStockService: whole orders in. All lines of an order are deducted and recorded in one transaction."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from stocksync.domain.checkout_form import (
    CANCELLED,
    READY,
    CheckoutForm,
    FormLine,
    check_word,
    is_newer,
    parse_form,
)
from stocksync.domain.errors import InsufficientStock, InvalidOrder
from stocksync.domain.identifiers import Clock, NewId
from stocksync.service import StockSynchronizationService, content_hash, deduction_key
from stocksync.store.database import Database
from stocksync.store.inventory import Change, Line, OrderLines, StockLedger
from stocksync.store.models import DEFAULT_WAREHOUSE
from stocksync.store.operations import OperationDraft, Operations, OrderRow

log = logging.getLogger(__name__)

QUEUED = "queued"
ALREADY_UPDATED = "already_updated"
NOT_STOCK = "no_stock_lines"
NOTED = "noted"


@dataclass(frozen=True, slots=True)
class OrderResult:
    """What came of one order.

    `status`: `queued` (deducted, its delivery is under way), `already_updated` (nothing new in it),
    `no_stock_lines` (nothing to deduct), `noted` (its status asks for nothing).
    """

    order_id: str
    status: str
    operations: Sequence[UUID] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "order_id": self.order_id,
            "status": self.status,
            "operations": [str(id) for id in self.operations],
        }


class AllegroStockService:
    """Takes orders as Allegro states them and moves stock for them, each line once."""

    def __init__(
        self,
        database: Database,
        operations: Operations,
        lines: OrderLines,
        ledger: StockLedger,
        service: StockSynchronizationService,
        *,
        clock: Clock,
        new_id: NewId,
    ) -> None:
        self._database = database
        self._operations = operations
        self._lines = lines
        self._ledger = ledger
        self._service = service
        self._clock = clock
        self._new_id = new_id

    def process_order_stock_update(
        self,
        order: Any,
        warehouse: str = DEFAULT_WAREHOUSE,
        *,
        token_id: str | None = None,
        actor: str | None = None,
    ) -> OrderResult:
        """Deduct every line of a checkout form that was not deducted before.

        Args:
            order: the form as decoded JSON, or an already parsed `CheckoutForm`.
            warehouse: where the goods go out.
            token_id: the seller account, when the form does not name it.
            actor: who asked, kept with the operations.

        Raises:
            InvalidOrder: the form can't be taken; every fault is named.
            UnknownWarehouse: no stock was ever recorded for it.
            InsufficientStock: every SKU that is short is named. In each case nothing was written.
        """
        form = order if isinstance(order, CheckoutForm) else parse_form(order, token_id)
        warehouse = check_word("warehouse", warehouse)
        with self._database.transaction_scope():
            try:
                return self._process(form, warehouse, actor, self._clock())
            except InsufficientStock as short:
                raise InsufficientStock(short.shortages, form.id) from None

    def require_warehouse(self, warehouse: str) -> None:
        """Raises UnknownWarehouse when no stock was ever recorded for it."""
        with self._database.scope():
            self._ledger.require_warehouse(check_word("warehouse", warehouse))

    def _process(self, form: CheckoutForm, warehouse: str, actor: str | None, now: datetime) -> OrderResult:
        self._ledger.require_warehouse(warehouse)
        order = self._operations.ensure_order(form.token_id, form.id, now)
        if order.has_form and not is_newer(form, order.revision, order.form_updated_at):
            return OrderResult(form.id, ALREADY_UPDATED)
        if form.status != READY:
            return self._note(order, form, now)
        known = self._lines.of(order.id)
        self._refuse_changed_lines(form, known)
        new = [line for line in form.line_items if line.id not in known]
        stocked = [line for line in new if line.sku is not None]
        self._take_form(order, form, now)
        self._lines.add(
            order.id,
            [
                Line(
                    line.id,
                    line.sku,
                    warehouse if line.sku else None,
                    line.quantity,
                    line.quantity if line.sku else 0,
                )
                for line in new
            ],
            now,
        )
        if not stocked:
            had_stock = any(line.sku is not None for line in known.values())
            return OrderResult(form.id, ALREADY_UPDATED if had_stock else NOT_STOCK)
        drafts = [self._draft(form, line, warehouse, actor) for line in stocked]
        # Levels are locked last, after the order, its lines and its operations.
        self._service.record(order, drafts, now)
        self._ledger.take(
            warehouse,
            [
                Change(draft.sku, draft.quantity, "deduction", draft.keys[0], draft.id, actor)
                for draft in drafts
            ],
            now,
        )
        return OrderResult(form.id, QUEUED, [draft.id for draft in drafts])

    def _note(self, order: OrderRow, form: CheckoutForm, now: datetime) -> OrderResult:
        if form.status == CANCELLED:
            # Better refused aloud than noted and then deducted by a late form.
            raise InvalidOrder(
                form.id, ["status CANCELLED: giving an order's stock back is not part of this version"]
            )
        if not order.has_form:
            # Known by status alone: its lines are taken when it is ready, whatever revision that form has.
            self._operations.note_status(order, form.status, now)
        return OrderResult(form.id, NOTED)

    def _take_form(self, order: OrderRow, form: CheckoutForm, now: datetime) -> None:
        updated_at = None if form.updated_at is None else form.updated_at.astimezone(UTC)
        self._operations.take_form(order, form.status, form.revision, updated_at, now)

    def _refuse_changed_lines(self, form: CheckoutForm, known: dict[str, Line]) -> None:
        changed = [
            f"line {line.id}: {known[line.id].quantity} of {known[line.id].sku} became {line.quantity} of {line.sku}"
            for line in form.line_items
            if line.id in known and (known[line.id].quantity, known[line.id].sku) != (line.quantity, line.sku)
        ]
        if changed:
            raise InvalidOrder(
                form.id, [*changed, "lines that were deducted can't be changed by a form in this version"]
            )

    def _draft(self, form: CheckoutForm, line: FormLine, warehouse: str, actor: str | None) -> OperationDraft:
        sku = str(line.sku)
        return OperationDraft(
            self._new_id(),
            "deduction",
            sku,
            line.quantity,
            warehouse,
            line.id,
            (deduction_key(form.token_id, form.id, line.id),),
            content_hash("deduction", form.token_id, form.id, line.id, sku, line.quantity, warehouse),
            moves_stock=True,
            actor=actor,
        )
