"""Reading documents: Allegro's checkout form and a return, checked field by field before anything is written.

Source: Allegro REST API, `GET /order/checkout-forms/{id}` (`id`, `status`, `lineItems`, `revision`,
`updatedAt`). `revision` is opaque: compared for equality only; `updatedAt` orders the forms of one order.
"""

import re
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from stocksync.errors import InvalidInput, InvalidOrder, InvalidReturn
from stocksync.store.values import MAX_QUANTITY, check_quantity, check_word, in_words, storable

READY = "READY_FOR_PROCESSING"
CANCELLED = "CANCELLED"
SELLER_CANCELLED = "SELLER_CANCELLED"
"""Ours: ready at Allegro, and marked as cancelled by the seller, who may take that back at any time."""


Word = Annotated[
    str,
    StringConstraints(strict=True, strip_whitespace=True, min_length=1, max_length=200),
    AfterValidator(storable),
    Field(json_schema_extra={"pattern": r"^[^\x00]*[^\s\x00\x1c-\x1f][^\x00]*$"}),
]
Quantity = Annotated[int, Field(strict=True, ge=1, le=MAX_QUANTITY)]


M = TypeVar("M", bound=BaseModel)


class _Part(BaseModel):
    model_config = ConfigDict(populate_by_name=True, extra="ignore", frozen=True)


class _External(_Part):
    # An empty text says nothing.
    id: Annotated[
        Word | None, BeforeValidator(lambda id: None if isinstance(id, str) and not id.strip() else id)
    ] = None


class _Offer(_Part):
    external: _External | None = None


def written_out(moment: Any) -> Any:
    """A time as text must be one that a person can read: a bare number could mean seconds or anything."""
    unreadable = isinstance(moment, str) and not re.match(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d", moment)
    if unreadable or not isinstance(moment, str | datetime | None):
        raise ValueError("a time like 2026-03-01T12:00:00Z is needed")
    return moment


def _in_utc(moment: datetime | None) -> datetime | None:
    try:
        return moment and moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("a time that UTC has no year for") from None


class FormLine(_Part):
    """One line of a form. `sku` None: it has no external id, or an empty one, and is not stock."""

    id: Word
    quantity: Quantity
    offer: _Offer

    @property
    def sku(self) -> str | None:
        return self.offer.external.id if self.offer.external else None


class _Fulfillment(_Part):
    status: Word | None = None


class CheckoutForm(_Part):
    """An order as Allegro states it, with the seller account it belongs to."""

    id: Word
    token_id: Word
    status: Word
    fulfillment: _Fulfillment | None = None
    line_items: Annotated[tuple[FormLine, ...], Field(alias="lineItems", max_length=5_000)]
    revision: Word | None = None
    updated_at: Annotated[
        AwareDatetime | None, BeforeValidator(written_out), AfterValidator(_in_utc), Field(alias="updatedAt")
    ] = None

    @property
    def standing(self) -> str:
        """Its status, or SELLER_CANCELLED."""
        if self.status == READY and self.fulfillment is not None and self.fulfillment.status == CANCELLED:
            return SELLER_CANCELLED
        return self.status


def parse_form(document: Any, token_id: str | None = None) -> CheckoutForm:
    """The form in `document`, whose lines can be told from each other and from those of calls without line id.

    Args:
        document: the checkout form as decoded JSON, or built by hand; its own `token_id` wins over the argument.
        token_id: the seller account, when the document does not name it.

    Raises:
        InvalidOrder: with every fault found; nothing was written.
    """
    form = read(CheckoutForm, document, token_id, "id", InvalidOrder)
    faults = [
        f"lineItems: id {line_id} appears more than once"
        for line_id, count in Counter(line.id for line in form.line_items).items()
        if count > 1
    ]
    faults += [
        f"lineItems: id {line.id} is kept for calls without line id"
        for line in form.line_items
        if line.sku is not None and line.id.startswith(f"{line.sku}@")
    ]
    if faults:
        raise InvalidOrder(form.id, faults)
    return form


def read(
    model: type[M],
    document: Any,
    token_id: str | None,
    id_field: str,
    refused: type[InvalidOrder | InvalidReturn],
) -> M:
    """`document` (decoded JSON, or a `model`) as a `model`, of the account `token_id` where it names none.

    Raises `refused` with every fault found, and with what `id_field` holds.
    """
    if not isinstance(document, (Mapping, model)):
        raise refused(None, [f"expected a JSON object, got {type(document).__name__}"])
    given = dict(document)
    if given.get("token_id") is None and token_id is not None:
        given["token_id"] = token_id
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise refused(
            given[id_field] if isinstance(given.get(id_field), str) else None,
            [fault_in_words(fault) for fault in error.errors(include_url=False)],
        ) from None


def form_of(order: Any, token_id: str | None = None) -> CheckoutForm:
    """The form in an object shaped like the plan's `AllegroOrder`.

    Read are `id`, `token_id` and `order_items`, each with `line_item.id`, `line_item.external_id` and, where there
    is one, its own `quantity` (else an item is one unit). Items of one line are added up. `revision`, `updated_at`
    (naive: UTC) and the status BOUGHT, FILLED_IN or CANCELLED are respected where present; any other order is ready.

    Raises:
        InvalidOrder: with every fault found; nothing was written.
    """
    faults = [] if order.order_items is not None else ["order_items: missing; load them first"]
    quantities, skus = Counter[str](), dict[str, str | None]()
    for number, item in enumerate(order.order_items or ()):
        line_item, quantity = getattr(item, "line_item", None), getattr(item, "quantity", None)
        sku = text_of(line_item, "external_id")
        try:
            line_id = check_word("line_item.id", text_of(line_item, "id"))
            quantities[line_id] += check_quantity("quantity", 1 if quantity is None else quantity)
        except InvalidInput as fault:
            faults.append(f"order_items.{number}.{fault}")
        else:
            if skus.setdefault(line_id, sku) != sku:
                faults.append(f"order_items.{number}: line {line_id} has another external_id before")
    document = {name: text_of(order, name) for name in ("id", "token_id", "revision")}
    if faults:
        raise InvalidOrder(document["id"], faults)
    status, updated_at = text_of(order, "status"), getattr(order, "updated_at", None)
    if isinstance(updated_at, datetime) and updated_at.tzinfo is None:
        updated_at = updated_at.replace(tzinfo=UTC)
    return parse_form(
        document
        | {
            "status": status if status in ("BOUGHT", "FILLED_IN", CANCELLED) else READY,
            "lineItems": [
                {"id": line_id, "quantity": quantity, "offer": {"external": {"id": skus[line_id]}}}
                for line_id, quantity in quantities.items()
            ],
            "updatedAt": updated_at,
        },
        token_id,
    )


def text_of(thing: Any, name: str) -> str | None:
    """Ids may be numbers or UUIDs there, and a status an enum; an empty text says nothing."""
    value = getattr(thing, name, None)
    value = getattr(value, "value", value)
    return None if value is None or value == "" else str(value)


def is_newer(
    form: CheckoutForm,
    known_revision: str | None,
    known_updated_at: datetime | None,
    *,
    seller_turned: bool = False,
) -> bool:
    """Whether `form` says something that was not taken before: another revision, from a later time.

    A form without revision and time is always looked at: its lines decide.

    Args:
        seller_turned: it says otherwise than before whether the seller cancelled, which changes neither revision nor,
            always, the time.
    """
    if form.revision is not None and form.revision == known_revision and not seller_turned:
        return False
    return (
        form.updated_at is None
        or known_updated_at is None
        or form.updated_at > known_updated_at
        or (seller_turned and form.updated_at == known_updated_at)
    )


def fault_in_words(fault: Any) -> str:
    """One of pydantic's faults, with its place and what was given."""
    said = f"{'.'.join(map(str, fault['loc']))}: {fault['msg'].removeprefix('Value error, ')}"
    if fault["type"] == "missing":
        return said
    given = fault["input"]
    return f"{said}, got {in_words(given) if isinstance(given, int) else f'{given!r:.40}'}"


class ReturnedGoods(_Part):
    """`line_item_id` None: the line is found by SKU."""

    return_id: Word
    token_id: Word
    order_id: Word
    line_item_id: Word | None = None
    sku: Word
    quantity: Quantity
