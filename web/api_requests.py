"""What the calls of the API take, in their path and query: requests are checked by these models."""

import re
from dataclasses import fields
from typing import Annotated, Any, Literal, TypeAlias
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, BeforeValidator, Field

from stocksync.orders.checkout_form import written_out
from stocksync.store.models import DEFAULT_WAREHOUSE
from stocksync.store.operation_lists import Filter

Status: TypeAlias = Literal["pending", "processing", "completed", "failed", "cancelled"]


def _written_as(pattern: str, said: str) -> BeforeValidator:
    """Refuse a text that is written otherwise; pydantic alone would take `yes` for True and `5.0` for 5."""

    def check(given: Any) -> Any:
        if isinstance(given, str) and not re.fullmatch(pattern, given):
            raise ValueError(said)
        return given

    return BeforeValidator(check)


_whole_number = _written_as("-?[0-9]{1,18}", "a whole number is needed")
YesNo = Annotated[bool, _written_as("true|false", "true or false is needed")]
Moment = Annotated[AwareDatetime, BeforeValidator(written_out)]
ShortText = Annotated[str, Field(min_length=1, max_length=200)]
# One line that says something.
OneLine = Annotated[ShortText, Field(pattern=r"^[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*$")]


class OperationPath(BaseModel):
    operation_id: ShortText


class DifferencePath(BaseModel):
    difference_id: ShortText


class AlertPath(BaseModel):
    alert_id: UUID


class LanePath(BaseModel):
    token_id: ShortText


class OrderPath(LanePath):
    order_id: ShortText


class LimitQuery(BaseModel):
    limit: Annotated[int, Field(ge=1, le=200), _whole_number] = 50


class PageQuery(LimitQuery):
    offset: Annotated[int, Field(ge=0, le=100_000), _whole_number] = 0


class PendingQuery(PageQuery):
    status: Status = "pending"


class MatchingQuery(BaseModel):
    order_id: ShortText | None = None
    sku: ShortText | None = None
    token_id: ShortText | None = None
    error_class: ShortText | None = None
    in_doubt: YesNo = False
    since: Annotated[Moment | None, Field(description="recorded at or after this time")] = None
    until: Annotated[Moment | None, Field(description="recorded before this time")] = None
    cursor: Annotated[UUID | None, Field(description="`next` of the answer before")] = None

    def filter(self) -> Filter:
        """What it asks for."""
        return Filter(**{each.name: getattr(self, each.name) for each in fields(Filter)})


class OperationsQuery(MatchingQuery, PageQuery):
    status: Status | None = None


class ReasonQuery(BaseModel):
    reason: OneLine | None = None


class WhyQuery(BaseModel):
    reason: OneLine


class CancelQuery(ReasonQuery):
    put_back: Annotated[
        YesNo, Field(description="the units come back into our stock; else they stay deducted")
    ] = False


class ConfirmQuery(ReasonQuery):
    deducted: Annotated[YesNo, Field(description="whether the foreign inventory did it")]


class BulkQuery(MatchingQuery):
    dry_run: Annotated[YesNo, Field(description="only count")] = False


class RetryAllQuery(BulkQuery, ReasonQuery):
    status: Literal["pending", "failed"]


class CancelAllQuery(BulkQuery, CancelQuery):
    status: Literal["pending", "processing", "failed"]
    reason: OneLine


class ReconcileQuery(BaseModel):
    token_id: ShortText | None = None


class ProcessQuery(BaseModel):
    warehouse: OneLine = DEFAULT_WAREHOUSE


class DifferencesQuery(LimitQuery):
    status: Literal["open", "fixed", "left", "gone"] = "open"
    cursor: UUID | None = None


class AlertsQuery(PageQuery):
    status: Literal["open", "all"] = "open"
