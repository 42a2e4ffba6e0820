"""Every error stocksync raises on purpose. One root; each says what happened and what to do."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar


class StockSyncError(Exception):
    """Root of all errors raised by stocksync. `str(error)` is fit for a person: `says`, with the error's fields in it."""

    says: ClassVar[str | None] = None

    def __str__(self) -> str:
        return self.says.format(**vars(self)) if self.says else super().__str__()


@dataclass(eq=False)
class ConfigurationError(StockSyncError):
    """The settings are wrong. `faults` holds every fault found, one sentence each."""

    faults: Sequence[str]

    def __str__(self) -> str:
        return "The configuration is wrong:\n" + "\n".join(f"  - {fault}" for fault in self.faults)


@dataclass(eq=False)
class MissingExtra(StockSyncError):
    """A part of stocksync is not installed. `extra` names the extra that brings it, `module` what was not found."""

    extra: str
    module: str
    says = "{module} is not installed: run `pip install 'stocksync[{extra}]'`"


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Around the imports of an optional part. Raises MissingExtra."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtra(extra, error.name or "a package") from None


class DatabaseUnavailable(StockSyncError):
    """The database can't be opened or reached."""


@dataclass(eq=False)
class SchemaBehind(StockSyncError):
    """The database lacks migrations of this version. `pending` names them."""

    pending: Sequence[str]

    def __str__(self) -> str:
        missing = f"{len(self.pending)} migration(s) ({', '.join(self.pending)})"
        return f"The database schema is behind by {missing}. Run `python -m stocksync migrate` first."


@dataclass(eq=False)
class TablesMissing(StockSyncError):
    """The database lacks tables or columns of stocksync. `database` is its name, or its URL without the password."""

    database: str
    says = (
        "the tables of stocksync are missing or behind in {database}. "
        "Run `python -m stocksync migrate` with DATABASE_URL naming that database first."
    )


@dataclass(eq=False)
class SessionUnsuitable(StockSyncError):
    """A caller's session can't be used for this. `reason` says why, and what would do."""

    reason: str
    says = "this session can't be used: {reason}"


@dataclass(eq=False)
class InvalidInput(StockSyncError):
    """A value given by the caller can't be taken. `field` names it; nothing was written."""

    field: str
    reason: str
    says = "{field}: {reason}"


@dataclass(eq=False)
class InvalidOrder(StockSyncError):
    """A checkout form can't be taken as it is. `faults` holds every fault found; nothing was written."""

    order_id: str | None
    faults: Sequence[str]

    def __str__(self) -> str:
        return f"order {self.order_id or '(without id)'}: {'; '.join(self.faults)}"


@dataclass(eq=False)
class InvalidReturn(StockSyncError):
    """A return can't be taken as it is. `faults` holds every fault found; nothing was written."""

    return_id: str | None
    faults: Sequence[str]

    def __str__(self) -> str:
        return f"return {self.return_id or '(without id)'}: {'; '.join(self.faults)}"


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


@dataclass(eq=False)
class InsufficientStock(StockSyncError):
    """Stock does not cover what was asked for. `shortages` lists every SKU that is short; nothing was deducted."""

    shortages: Sequence[Shortage]
    order_id: str | None = None

    def __str__(self) -> str:
        where = " and ".join(dict.fromkeys(short.warehouse for short in self.shortages)) or "?"
        return f"too little stock in warehouse {where}: " + ", ".join(
            f"{one.sku} needs {one.needed}, has {one.available}" for one in self.shortages
        )


@dataclass(eq=False)
class NegativeStock(StockSyncError):
    """The movements of a SKU come to less than nothing, which its level may not be; nothing was written."""

    sku: str
    warehouse: str
    says = (
        "{sku} in warehouse {warehouse}: its movements come to less than nothing, so one that came in is missing; "
        "count it, add that with `InventoryManager.add`, and rebuild again"
    )


@dataclass(eq=False)
class IdempotencyConflict(StockSyncError):
    """The key was used before with other content. `operation_id` is the first operation's."""

    key: str
    operation_id: object
    says = (
        "idempotency key {key!r} belongs to operation {operation_id} with other content; "
        "repeat the same content, or use a new key for a new operation"
    )


class LineTaken(IdempotencyConflict):
    """Another order carries the line, whose id is a UUID: it deducts once in all orders. Nothing was written."""

    says = (
        "line {key} is, or was just, in order {order_id}: process the form of the order that has it now, "
        "or give back what is deducted there first"
    )

    def __init__(self, line_id: str, order_id: str) -> None:
        super().__init__(line_id, None)
        self.order_id = order_id


@dataclass(eq=False)
class OrderHasForm(StockSyncError):
    """The order came as a checkout form, so its lines are known; single calls must name one of them."""

    order_id: str
    says = "order {order_id} came as a whole: pass line_item_id or idempotency_key, or process its form again"


@dataclass(eq=False)
class _OfOrder(StockSyncError):
    token_id: str
    order_id: str


class OrderCancelled(_OfOrder):
    """The order was cancelled, which is final: nothing is deducted for it any more."""

    says = "order {order_id} of account {token_id} was cancelled; nothing was deducted, record a new order instead"


@dataclass(eq=False)
class OrphanRefund(_OfOrder):
    """A refund without a known sale: a person must look at it. Nothing was written."""

    sku: str
    line_item_id: str | None = None

    def __str__(self) -> str:
        line = f", line {self.line_item_id}" if self.line_item_id else ""
        return (
            f"no sale of {self.sku} is known for order {self.order_id} of account {self.token_id}{line}; "
            "record the sale first and repeat, or correct the stock by hand"
        )


@dataclass(eq=False)
class RefundExceedsSale(StockSyncError):
    """More was asked back than is left of the sale. Figures are units; nothing was written."""

    order_id: str
    sku: str
    deducted: int
    refunded: int
    asked: int

    def __str__(self) -> str:
        return (
            f"order {self.order_id} has {self.deducted} of {self.sku} deducted and {self.refunded} given back; "
            f"{self.asked} can't come back: ask for at most {self.deducted - self.refunded}"
        )


@dataclass(eq=False)
class InDoubt(StockSyncError):
    """Whether the foreign inventory acted is not known. Nothing is delivered until a person says so."""

    operation_id: object
    says = (
        "operation {operation_id} is in doubt: when no call asks the inventory any more, look there, then run "
        "`operations confirm {operation_id} --deducted` or `--not-deducted`"
    )


@dataclass(eq=False)
class OpenTransaction(StockSyncError):
    """Somebody else was to be asked inside an open transaction, whose rollback would forget that it was."""

    whom: str = "a foreign inventory"
    says = "{whom} can't be called inside an open transaction: commit it first, then call"


@dataclass(eq=False)
class UnknownOperation(StockSyncError):
    """There is no operation with this id (it may have been cleaned up)."""

    operation_id: object
    says = "operation {operation_id} is unknown (completed ones are removed after some weeks)"


class UnknownOrder(_OfOrder):
    """There is no order with this id for this seller account."""

    says = "order {order_id} of account {token_id} is unknown; check both ids"


@dataclass(eq=False)
class UnknownDifference(StockSyncError):
    """Reconciliation has no difference with this id."""

    difference: object
    says = "difference {difference} is unknown; `differences list` shows all"


@dataclass(eq=False)
class RepairRefused(StockSyncError):
    """This can't be repaired in this way. `state` is what it was found to be."""

    what: str
    state: str
    says = "{what} can't be repaired so: it is {state}"


@dataclass(eq=False)
class TransitionRefused(StockSyncError):
    """The operation's status does not allow this. `status` is what it was when asked."""

    operation_id: object
    action: str
    status: str
    says = "operation {operation_id} is {status} and cannot be {action}"


@dataclass(eq=False)
class RemoteError(StockSyncError):
    """The orders microservice could not be asked. `error_class` is the short name shown and counted."""

    error_class: str
    message: str
    says = "{message}"
