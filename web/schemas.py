"""What the API takes and answers with: its document is made from these models, and requests are checked by them."""

from __future__ import annotations

import re
from dataclasses import fields
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeAlias
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, RootModel

from stocksync.orders.checkout_form import written_out
from stocksync.store.models import DEFAULT_WAREHOUSE
from stocksync.store.operation_lists import Filter

PRINTABLE = r"^[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*$"
"""One line that says something."""

Status: TypeAlias = Literal["pending", "processing", "completed", "failed", "cancelled"]


def _whole(given: Any) -> Any:
    if isinstance(given, str) and not re.fullmatch(r"-?[0-9]{1,18}", given):
        raise ValueError("a whole number is needed")
    return given


def _yes_or_no(given: Any) -> Any:
    if given not in ("true", "false", True, False):
        raise ValueError("true or false is needed")
    return given


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:  # in the first hours or the last ones that there are
        return moment.replace(tzinfo=UTC)


YesNo = Annotated[bool, BeforeValidator(_yes_or_no)]
Moment = Annotated[AwareDatetime, BeforeValidator(written_out), AfterValidator(_in_utc)]
Wanted = Annotated[str, Field(min_length=1, max_length=200)]
Words = Annotated[str, Field(min_length=1, max_length=200, pattern=PRINTABLE)]
Limit = Annotated[int, Field(ge=1, le=200), BeforeValidator(_whole)]
Offset = Annotated[int, Field(ge=0, le=100_000), BeforeValidator(_whole)]


class Given(BaseModel):
    """Query parameters and path: what is not named here is refused."""

    model_config = ConfigDict(extra="forbid")


class Shown(BaseModel):
    """An answer, or a part of one; of a row only what is named here is shown."""

    model_config = ConfigDict(from_attributes=True)


class OperationPath(Given):
    operation_id: Wanted


class DifferencePath(Given):
    difference_id: Wanted


class AlertPath(Given):
    alert_id: UUID


class OrderPath(Given):
    token_id: Wanted
    order_id: Wanted


class LanePath(Given):
    token_id: Wanted


class PendingQuery(Given):
    limit: Limit = 50
    offset: Offset = 0
    status: Status = "pending"


class _Matching(Given):
    order_id: Wanted | None = None
    sku: Wanted | None = None
    token_id: Wanted | None = None
    error_class: Wanted | None = None
    in_doubt: YesNo = False
    since: Annotated[Moment | None, Field(description="recorded at or after this time")] = None
    until: Annotated[Moment | None, Field(description="recorded before this time")] = None
    cursor: Annotated[UUID | None, Field(description="`next` of the answer before")] = None

    def filter(self) -> Filter:
        """What it asks for."""
        return Filter(**{each.name: getattr(self, each.name) for each in fields(Filter)})


class OperationsQuery(_Matching):
    status: Status | None = None
    limit: Limit = 50
    offset: Offset = 0


class ReasonQuery(Given):
    reason: Words | None = None


class WhyQuery(Given):
    reason: Words


class CancelQuery(ReasonQuery):
    put_back: Annotated[
        YesNo, Field(description="the units come back into our stock; else they stay deducted")
    ] = False


class ConfirmQuery(ReasonQuery):
    deducted: Annotated[YesNo, Field(description="whether the foreign inventory did it")]


class RetryAllQuery(_Matching, ReasonQuery):
    status: Literal["pending", "failed"]
    dry_run: Annotated[YesNo, Field(description="only count")] = False


class CancelAllQuery(_Matching, CancelQuery):
    status: Literal["pending", "processing", "failed"]
    reason: Words
    dry_run: Annotated[YesNo, Field(description="only count")] = False


class ReconcileQuery(Given):
    token_id: Wanted | None = None


class ProcessQuery(Given):
    warehouse: Words = DEFAULT_WAREHOUSE


class DifferencesQuery(Given):
    status: Literal["open", "fixed", "left", "gone"] = "open"
    limit: Limit = 50
    cursor: UUID | None = None


class AlertsQuery(Given):
    status: Literal["open", "all"] = "open"
    limit: Limit = 50
    offset: Offset = 0


# Answers


class Fault(Shown):
    """Every error: what happened and what to do, in words."""

    detail: str


class Statistics(Shown):
    pending_operations: int
    failed_operations: int
    completed_today: int
    stale_operations: int


class Success(Shown):
    """Of a span of time; None where nothing was delivered, or nothing retried."""

    delivered_operations: int
    first_attempt_share: float | None
    mean_retry_seconds: float | None
    mean_wait_seconds: float | None
    recovered_operations: int
    given_up_operations: int
    failed_attempts: int


class StatusAnswer(Shown):
    status: Literal["healthy", "warning"]
    statistics: Statistics
    last_updated: datetime
    operations: dict[str, int]
    orders_waiting: int
    next_due_at: datetime | None
    lost: int
    lines_without_sku: int
    success: dict[str, Success]


class PendingOperation(Shown):
    id: UUID
    order_id: str | None
    sku: str
    quantity: int
    status: Status
    retry_count: int
    created_at: datetime
    next_retry_at: datetime | None
    error_message: str | None


class PendingAnswer(Shown):
    operations: list[PendingOperation]
    total: int
    limit: int
    offset: int


class ShownOperation(PendingOperation):
    token_id: str
    operation_type: str
    warehouse: str
    line_item_id: str | None
    applied: str
    max_retries: int
    updated_at: datetime
    completed_at: datetime | None
    error_class: str | None
    actor: str | None
    reason: str | None


class ListedOperation(ShownOperation):
    tags: list[str]


class OperationsAnswer(Shown):
    """`total` is exact, or `total_is_more`: at least that. `next`: the cursor of the page behind; None: the last one."""

    operations: list[ListedOperation]
    total: int
    total_is_more: bool
    next: UUID | None


class LogEntry(Shown):
    action: str
    status: str
    details: dict[str, Any]
    timestamp: datetime
    execution_time_ms: int | None


class OperationAnswer(ShownOperation):
    log: list[LogEntry]


class Done(Shown):
    message: str
    operation_id: UUID


class BulkAnswer(Shown):
    """`matched` as `total` of a list. `skipped`: reason -> operations. `next`: call again with it as cursor."""

    matched: int
    matched_is_more: bool
    dry_run: bool
    done: int = 0
    skipped: dict[str, int] = {}
    next: UUID | None = None


class OrderLine(Shown):
    line_id: str
    sku: str | None
    warehouse: str | None
    quantity: int
    deducted: int
    refunded: int
    waived: bool
    moved_to: str | None


class OrderAnswer(Shown):
    """`is_stock_updated`: what we say; `remote_flag`: what the remote last said or accepted."""

    order_id: str
    token_id: str
    status: str | None
    revision: str | None
    is_stock_updated: bool | None
    remote_flag: bool | None
    remote_seen_at: datetime | None
    differs: bool
    due_at: datetime | None
    waiting: str | None
    attempts: int
    created_at: datetime
    updated_at: datetime
    lines: list[OrderLine]
    operations: list[ShownOperation]


class ProcessAnswer(Shown):
    order_id: str
    status: str
    operations: list[UUID]


class Queued(Shown):
    task_id: UUID
    status: Literal["queued"] = "queued"


class Difference(Shown):
    order_id: str
    kind: str
    status: str = "open"
    ours: bool | None
    remote: bool | None


class Reconciled(Shown):
    token_id: str
    status: str
    reason: str | None
    checked: int
    discrepancies: list[Difference]
    fixed: int
    complete: bool
    buckets: dict[str, int]


class ReconcileAnswer(RootModel[Queued | Reconciled]):
    """Of one account its run; of all of them the job that goes on with their runs."""


class ListedDifference(Difference):
    id: UUID
    token_id: str
    first_seen_at: datetime
    last_seen_at: datetime
    resolved_at: datetime | None
    actor: str | None
    reason: str | None


class DifferencesAnswer(Shown):
    discrepancies: list[ListedDifference]
    next: UUID | None


class Outcome(Shown):
    """`fixed`: told again; `gone`: both sides agree by now; `left`: it stays."""

    outcome: Literal["fixed", "gone", "left"]


class Alert(Shown):
    """`text`: what is the matter and what to do, in the language of the settings."""

    id: UUID
    kind: str
    subject: str
    text: str
    details: dict[str, Any]
    raised_at: datetime
    last_seen_at: datetime
    resolved_at: datetime | None
    acknowledged_at: datetime | None
    acknowledged_by: str | None


class AlertsAnswer(Shown):
    alerts: list[Alert]


class Acknowledged(Shown):
    alert_id: UUID
    acknowledged_by: str


class BreakerAnswer(Shown):
    """While it is open: since when, why, and `asked_again_at`, when the next probe goes out."""

    state: Literal["open", "closed"]
    opened_at: datetime | None
    reason: str | None
    asked_again_at: datetime | None
    served_at: datetime | None


class Lane(Shown):
    token_id: str
    name: str | None
    active: bool
    paused: bool
    paused_reason: str | None
    snoozed_until: datetime | None
    orders_waiting: int
    next_due_at: datetime | None


class LanesAnswer(Shown):
    lanes: list[Lane]


class LaneAnswer(Shown):
    token_id: str
    paused: bool
