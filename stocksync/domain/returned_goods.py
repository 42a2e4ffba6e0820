"""Reading a return: goods of one order line that came back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from stocksync.domain.checkout_form import Quantity, Word, fault_in_words
from stocksync.domain.errors import InvalidReturn


class ReturnedGoods(BaseModel):
    """`line_item_id` None: the line is found by SKU."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    return_id: Word
    token_id: Word
    order_id: Word
    line_item_id: Word | None = None
    sku: Word
    quantity: Quantity


def parse_return(document: Any, token_id: str | None = None) -> ReturnedGoods:
    """The return in `document` (decoded JSON).

    Args:
        token_id: the seller account, when the document does not name it.

    Raises:
        InvalidReturn: with every fault found; nothing was written.
    """
    if not isinstance(document, Mapping):
        raise InvalidReturn(None, [f"expected a JSON object, got {type(document).__name__}"])
    given = dict(document)
    if given.get("token_id") is None and token_id is not None:
        given["token_id"] = token_id
    return_id = given.get("return_id") if isinstance(given.get("return_id"), str) else None
    try:
        return ReturnedGoods.model_validate(given)
    except ValidationError as error:
        raise InvalidReturn(
            return_id, [fault_in_words(fault) for fault in error.errors(include_url=False)]
        ) from None
