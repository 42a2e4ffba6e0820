"""What the monolith had before: its orders, its stock, and the checkout form as Allegro sends it."""

from __future__ import annotations

from pydantic import BaseModel, Field as FormField
from sqlmodel import Field, SQLModel


class AllegroOrder(SQLModel, table=True):
    """An order; `is_stock_updated` once its stock is deducted here."""

    __tablename__ = "allegro_orders"

    id: str = Field(primary_key=True)
    token_id: str
    is_stock_updated: bool = False


class Stock(SQLModel, table=True):
    """Units on hand."""

    sku: str = Field(primary_key=True)
    warehouse: str = Field(primary_key=True)
    quantity: int


class External(BaseModel):
    id: str


class Offer(BaseModel):
    external: External | None = None


class FormLine(BaseModel):
    id: str
    quantity: int = FormField(ge=1)
    offer: Offer


class CheckoutForm(BaseModel):
    """The part of a checkout form that selling needs."""

    id: str
    token_id: str = "shop"
    line_items: list[FormLine] = FormField(alias="lineItems")
