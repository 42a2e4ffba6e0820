"""What the calls of the API answer with: the fields that are shown, most of them columns of our tables."""

from datetime import datetime
from typing import Any, Literal, TypeAlias
from uuid import UUID

from pydantic import BaseModel, RootModel, create_model

from stocksync.store.models import (
    Account,
    Alert,
    Discrepancy,
    Order,
    OrderLine,
    PendingStockOperation,
    StockSynchronizationLog,
)

Status: TypeAlias = Literal["pending", "processing", "completed", "failed", "cancelled"]


_TYPES = {"UUID": UUID, "BOOL": bool, "INT": int, "BIGINT": int, "UTCTIME": datetime, "JSON": dict[str, Any]}


def _columns(table: Any, names: str) -> dict[str, Any]:
    """Columns of a table as fields of an answer: each of its type, or null where the column may be NULL."""
    return {
        column.column_name: kind | None if column.null else kind
        for column in [table._meta.columns[name] for name in names.split()]
        for kind in [_TYPES.get(column.field_type, str)]
    }


def answer(name: str, about: str | None = None, /, base: type[BaseModel] = BaseModel, **shown: Any) -> Any:
    """The model of an answer: `shown` holds each field's type, or its type and what it is when nothing is given."""
    given: dict[str, Any] = {
        field: kind if isinstance(kind, tuple) else (kind, ...) for field, kind in shown.items()
    }
    return create_model(name, __base__=base, __doc__=about, __module__=__name__, **given)


Fault: Any = answer("Fault", "Every error: what happened and what to do, in words.", detail=str)
Success: Any = answer(
    "Success",
    "Of a span of time; None where nothing was delivered, or nothing retried.",
    delivered_operations=int,
    first_attempt_share=float | None,
    mean_retry_seconds=float | None,
    mean_wait_seconds=float | None,
    recovered_operations=int,
    given_up_operations=int,
    failed_attempts=int,
)
StatusAnswer: Any = answer(
    "StatusAnswer",
    status=Literal["healthy", "warning"],
    statistics=answer(
        "Statistics",
        pending_operations=int,
        failed_operations=int,
        completed_today=int,
        stale_operations=int,
    ),
    last_updated=datetime,
    operations=dict[str, int],
    orders_waiting=int,
    next_due_at=datetime | None,
    lost=int,
    lines_without_sku=int,
    success=dict[str, Success],
)
BreakerAnswer: Any = answer(
    "BreakerAnswer",
    "While it is open: since when, why, and `asked_again_at`, when the next probe goes out.",
    state=Literal["open", "closed"],
    opened_at=datetime | None,
    reason=str | None,
    asked_again_at=datetime | None,
    served_at=datetime | None,
)

PendingOperation: Any = answer(
    "PendingOperation",
    **_columns(
        PendingStockOperation,
        "id order_id sku quantity status retry_count created_at next_retry_at error_message",
    )
    | {"status": Status},
)
ShownOperation: Any = answer(
    "ShownOperation",
    base=PendingOperation,
    **_columns(
        PendingStockOperation,
        "token_id operation_type warehouse line_item_id applied max_retries updated_at completed_at"
        " error_class actor reason",
    ),
)
ListedOperation: Any = answer("ListedOperation", base=ShownOperation, tags=list[str])
OperationsAnswer: Any = answer(
    "OperationsAnswer",
    "`total` is exact, or `total_is_more`: at least that. `next`: the cursor of the page behind; None: the last one.",
    operations=list[ListedOperation],
    total=int,
    total_is_more=bool,
    next=UUID | None,
)
LogEntry: Any = answer(
    "LogEntry", **_columns(StockSynchronizationLog, "action status details timestamp execution_time_ms")
)
Done: Any = answer("Done", message=str, operation_id=UUID)
BulkAnswer: Any = answer(
    "BulkAnswer",
    "`matched` as `total` of a list. `skipped`: reason -> operations. `next`: call again with it as cursor.",
    matched=int,
    matched_is_more=bool,
    dry_run=bool,
    done=(int, 0),
    skipped=(dict[str, int], {}),
    next=(UUID | None, None),
)

ShownLine: Any = answer(
    "OrderLine",
    **_columns(OrderLine, "line_id sku warehouse quantity deducted refunded waived moved_to"),
)
OrderAnswer: Any = answer(
    "OrderAnswer",
    "`is_stock_updated`: what we say; `remote_flag`: what the remote last said or accepted.",
    **_columns(Order, "order_id token_id status revision is_stock_updated remote_flag remote_seen_at"),
    differs=bool,
    **_columns(Order, "due_at waiting attempts created_at updated_at"),
    lines=list[ShownLine],
    operations=list[ShownOperation],
)

Queued: Any = answer("Queued", task_id=UUID, status=(Literal["queued"], "queued"))
Difference: Any = answer(
    "Difference", **_columns(Discrepancy, "order_id kind status ours remote") | {"status": (str, "open")}
)
Reconciled: Any = answer(
    "Reconciled",
    token_id=str,
    status=str,
    reason=str | None,
    checked=int,
    discrepancies=list[Difference],
    fixed=int,
    complete=bool,
    buckets=dict[str, int],
)
ReconcileAnswer: Any = answer(
    "ReconcileAnswer",
    "Of one account its run; of all of them the job that goes on with their runs.",
    base=RootModel[Queued | Reconciled],
)
ListedDifference: Any = answer(
    "ListedDifference",
    base=Difference,
    **_columns(Discrepancy, "id token_id first_seen_at last_seen_at resolved_at actor reason"),
)
Outcome: Any = answer(
    "Outcome",
    "`fixed`: told again; `gone`: both sides agree by now; `left`: it stays.",
    outcome=Literal["fixed", "gone", "left"],
)

ShownAlert: Any = answer(
    "Alert",
    "`text`: what is the matter and what to do, in the language of the settings.",
    **_columns(Alert, "id kind subject"),
    text=str,
    **_columns(Alert, "details raised_at last_seen_at resolved_at acknowledged_at acknowledged_by"),
)
Lane: Any = answer(
    "Lane",
    **_columns(Account, "token_id name active paused paused_reason snoozed_until"),
    orders_waiting=int,
    next_due_at=datetime | None,
)
LaneAnswer: Any = answer("LaneAnswer", token_id=str, paused=bool)
