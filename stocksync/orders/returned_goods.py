"""Reading a return: goods of one order line that came back."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from stocksync.errors import InvalidReturn
from stocksync.orders.checkout_form import Quantity, Word, read


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
    return read(ReturnedGoods, document, token_id, "return_id", InvalidReturn)
