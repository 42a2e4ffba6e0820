"""Every error stocksync raises on purpose. One root; each says what happened and what to do."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


class StockSyncError(Exception):
    """Root of all errors raised by stocksync. `str(error)` is fit to be shown to a person."""


class ConfigurationError(StockSyncError):
    """The settings are wrong. `faults` holds every fault found, one sentence each."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("The configuration is wrong:\n" + "\n".join(f"  - {fault}" for fault in self.faults))


class MissingExtra(StockSyncError):
    """A part of stocksync is not installed. `extra` names the extra that brings it, `module` what was not found."""

    def __init__(self, extra: str, module: str) -> None:
        self.extra, self.module = extra, module
        super().__init__(f"{module} is not installed: run `pip install 'stocksync[{extra}]'`")


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Around the imports of an optional part. Raises MissingExtra."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtra(extra, error.name or "a package") from None


class DatabaseUnavailable(StockSyncError):
    """The database can't be opened or reached."""


class SchemaBehind(StockSyncError):
    """The database lacks migrations of this version. `pending` names them."""

    def __init__(self, pending: Sequence[str]) -> None:
        self.pending = tuple(pending)
        super().__init__(
            f"The database schema is behind by {len(self.pending)} migration(s) ({', '.join(self.pending)}). "
            "Run `python -m stocksync migrate` first."
        )


class TablesMissing(StockSyncError):
    """A caller's database lacks tables or columns of stocksync. `database` is its URL, without the password."""

    def __init__(self, database: str) -> None:
        self.database = database
        super().__init__(
            f"the tables of stocksync are missing or behind in {database}. "
            "Run `python -m stocksync migrate` with DATABASE_URL naming that database first."
        )


class SessionUnsuitable(StockSyncError):
    """A caller's session can't be used for this. `reason` says why, and what would do."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"this session can't be used: {reason}")


class InvalidInput(StockSyncError):
    """A value given by the caller can't be taken. `field` names it; nothing was written."""

    def __init__(self, field: str, reason: str) -> None:
        self.field = field
        self.reason = reason
        super().__init__(f"{field}: {reason}")


class InvalidOrder(StockSyncError):
    """A checkout form can't be taken as it is. `faults` holds every fault found; nothing was written."""

    def __init__(self, order_id: str | None, faults: Sequence[str]) -> None:
        self.order_id = order_id
        self.faults = tuple(faults)
        super().__init__(f"order {order_id or '(without id)'}: " + "; ".join(self.faults))


class InvalidReturn(StockSyncError):
    """A return can't be taken as it is. `faults` holds every fault found; nothing was written."""

    def __init__(self, return_id: str | None, faults: Sequence[str]) -> None:
        self.return_id = return_id
        self.faults = tuple(faults)
        super().__init__(f"return {return_id or '(without id)'}: " + "; ".join(self.faults))


class UnknownWarehouse(InvalidInput):
    """No stock was ever recorded for this warehouse. `known` lists those that exist."""

    def __init__(self, warehouse: str, known: Sequence[str]) -> None:
        self.warehouse = warehouse
        self.known = tuple(known)
        hint = f"known: {', '.join(known)}" if known else "no stock is recorded yet: run `stock import` first"
        super().__init__("warehouse", f"{warehouse!r} is unknown ({hint})")


@dataclass(frozen=True, slots=True)
class Shortage:
    """One SKU that is short: `needed` units asked for in all, `available` on hand now."""

    sku: str
    warehouse: str
    needed: int
    available: int


class InsufficientStock(StockSyncError):
    """Stock does not cover what was asked for. `shortages` lists every SKU that is short; nothing was deducted."""

    def __init__(self, shortages: Sequence[Shortage], order_id: str | None = None) -> None:
        self.shortages = tuple(shortages)
        self.order_id = order_id
        lines = ", ".join(f"{s.sku} needs {s.needed}, has {s.available}" for s in self.shortages)
        where = " and ".join(dict.fromkeys(s.warehouse for s in self.shortages)) or "?"
        super().__init__(f"too little stock in warehouse {where}: {lines}")


class NegativeStock(StockSyncError):
    """The movements of a SKU come to less than nothing, which its level may not be; nothing was written."""

    def __init__(self, sku: str, warehouse: str) -> None:
        self.sku = sku
        self.warehouse = warehouse
        super().__init__(
            f"{sku} in warehouse {warehouse}: its movements come to less than nothing, so one that came in is missing; "
            "count it, add that with `InventoryManager.add`, and rebuild again"
        )


class IdempotencyConflict(StockSyncError):
    """The key was used before with other content. `operation_id` is the first operation's."""

    def __init__(self, key: str, operation_id: object) -> None:
        self.key = key
        self.operation_id = operation_id
        super().__init__(
            f"idempotency key {key!r} belongs to operation {operation_id} with other content; "
            "repeat the same content, or use a new key for a new operation"
        )


class LineTaken(IdempotencyConflict):
    """Another order carries the line: one whose id is a UUID deducts once, whichever order it is in.

    Nothing was written.
    """

    def __init__(self, line_id: str, order_id: str) -> None:
        super().__init__(line_id, None)
        self.order_id = order_id
        self.args = (
            f"line {line_id} is, or was just, in order {order_id}: process the form of the order that has it now, "
            "or give back what is deducted there first",
        )


class OrderHasForm(StockSyncError):
    """The order came as a checkout form, so its lines are known; single calls must name one of them."""

    def __init__(self, order_id: str) -> None:
        self.order_id = order_id
        super().__init__(
            f"order {order_id} came as a whole: pass line_item_id or idempotency_key, or process its form again"
        )


class OrderCancelled(StockSyncError):
    """The order was cancelled, which is final: nothing is deducted for it any more."""

    def __init__(self, token_id: str, order_id: str) -> None:
        self.token_id = token_id
        self.order_id = order_id
        super().__init__(
            f"order {order_id} of account {token_id} was cancelled; nothing was deducted, record a new order instead"
        )


class OrphanRefund(StockSyncError):
    """A refund without a known sale: a person must look at it. Nothing was written."""

    def __init__(self, token_id: str, order_id: str, sku: str, line_item_id: str | None = None) -> None:
        self.token_id = token_id
        self.order_id = order_id
        self.sku = sku
        self.line_item_id = line_item_id
        line = f", line {line_item_id}" if line_item_id else ""
        super().__init__(
            f"no sale of {sku} is known for order {order_id} of account {token_id}{line}; "
            "record the sale first and repeat, or correct the stock by hand"
        )


class RefundExceedsSale(StockSyncError):
    """More was asked back than is left of the sale. Figures are units; nothing was written."""

    def __init__(self, order_id: str, sku: str, *, deducted: int, refunded: int, asked: int) -> None:
        self.order_id = order_id
        self.sku = sku
        self.deducted = deducted
        self.refunded = refunded
        self.asked = asked
        super().__init__(
            f"order {order_id} has {deducted} of {sku} deducted and {refunded} given back; "
            f"{asked} can't come back: ask for at most {deducted - refunded}"
        )


class InDoubt(StockSyncError):
    """Whether the foreign inventory acted is not known. Nothing is delivered until a person says so."""

    def __init__(self, operation_id: object) -> None:
        self.operation_id = operation_id
        super().__init__(
            f"operation {operation_id} is in doubt: look in the inventory, then run "
            f"`operations confirm {operation_id} --deducted` or `--not-deducted`"
        )


class OpenTransaction(StockSyncError):
    """Somebody else was to be asked inside an open transaction, whose rollback would forget that it was."""

    def __init__(self, whom: str = "a foreign inventory") -> None:
        super().__init__(f"{whom} can't be called inside an open transaction: commit it first, then call")


class UnknownOperation(StockSyncError):
    """There is no operation with this id (it may have been cleaned up)."""

    def __init__(self, operation_id: object) -> None:
        self.operation_id = operation_id
        super().__init__(f"operation {operation_id} is unknown (completed ones are removed after some weeks)")


class UnknownOrder(StockSyncError):
    """There is no order with this id for this seller account."""

    def __init__(self, token_id: str, order_id: str) -> None:
        self.token_id = token_id
        self.order_id = order_id
        super().__init__(f"order {order_id} of account {token_id} is unknown; check both ids")


class UnknownDifference(StockSyncError):
    """Reconciliation has no difference with this id."""

    def __init__(self, difference: object) -> None:
        self.difference = difference
        super().__init__(f"difference {difference} is unknown; `differences list` shows all")


class RepairRefused(StockSyncError):
    """This can't be repaired in this way. `state` is what it was found to be."""

    def __init__(self, what: str, state: str) -> None:
        self.state = state
        super().__init__(f"{what} can't be repaired so: it is {state}")


class TransitionRefused(StockSyncError):
    """The operation's status does not allow this. `status` is what it was when asked."""

    def __init__(self, operation_id: object, action: str, status: str) -> None:
        self.operation_id = operation_id
        self.action = action
        self.status = status
        super().__init__(f"operation {operation_id} is {status} and cannot be {action}")


class RemoteError(StockSyncError):
    """The orders microservice could not be asked. `error_class` is the short name shown and counted."""

    def __init__(self, error_class: str, message: str) -> None:
        self.error_class = error_class
        super().__init__(message)
