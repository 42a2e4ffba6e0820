"""Lists of operations: filtered, in pages, counted as far as counting is quick. The newest first; writes nothing.

Ids rise with time, so a page is read along one index that ends in the id, whatever the size of the table.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from peewee import JOIN, SQL, NodeList, fn

from stocksync.errors import InvalidInput
from stocksync.store.context import Part, connected, planned
from stocksync.store.database import SqliteDatabase, Statement, among, in_order
from stocksync.store.identifiers import first_id_at
from stocksync.store.models import Account, Order, PendingStockOperation as Operation
from stocksync.store.states import COMPLETED, FAILED, PENDING, PROCESSING, STATUSES
from stocksync.store.tallies import Tallies
from stocksync.store.values import as_utc, is_storable

COUNTED = 10_000
"""Matches are counted up to here."""
AGES = (("hour", timedelta(hours=1)), ("day", timedelta(days=1)), ("week", timedelta(days=7)))
"""Of the matrix of error classes; what is older is `older`."""

# fmt: off
_COLUMNS = (
    Operation.id, Operation.order_id, Operation.token_id, Operation.operation_type, Operation.status, Operation.sku,
    Operation.quantity, Operation.warehouse, Operation.line_item_id, Operation.applied, Operation.retry_count,
    Operation.max_retries, Operation.next_retry_at, Operation.created_at, Operation.updated_at,
    Operation.completed_at, Operation.error_class, Operation.error_message, Operation.actor, Operation.reason,
    Operation.order_ref, Order.waiting, Order.due_at, Order.claim_id, Order.is_stock_updated,
    Order.remote_flag,
)
# fmt: on

NEWEST = "-created_at"
_BY_TIME = {"created_at": (Operation.id,)}
# Few: by id SQLite would go through all rows to find them.
_IN_DOUBT_BY_TIME = {"created_at": (Operation.created_at, Operation.id)}
SORTED_BY = _BY_TIME | {
    # A function, so that no database goes along the column's index through all rows to find the few that match.
    "order_id": (fn.COALESCE(Operation.order_id, ""), Operation.id),
    "sku": (fn.COALESCE(Operation.sku, ""), Operation.id),
    "status": (fn.COALESCE(Operation.status, ""), Operation.id),
    "error_class": (fn.COALESCE(Operation.error_class, ""), Operation.id),
    "retry_count": (Operation.retry_count, Operation.id),
}
"""What a list can be sorted by; by anything but the time of recording as long as no more than COUNTED match."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which operations; None and False ask for nothing. `since` and `until` (aware UTC): when it was recorded.

    Raises InvalidInput: there is no such status.
    """

    status: str | None = None
    order_id: str | None = None
    sku: str | None = None
    token_id: str | None = None
    error_class: str | None = None
    in_doubt: bool = False
    since: datetime | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        if self.status is not None and self.status not in STATUSES:
            raise InvalidInput("status", f"one of {', '.join(STATUSES)} is needed, got {self.status!r:.40}")

    def conditions(self, *, sqlite: bool) -> list[Any]:
        """The first condition that is given is looked up, the others are only looked at.

        SQLite keeps no statistics, so the order is ours: completed operations are many, those of any other status few.
        """
        conditions = {
            "order_id": Operation.order_ref.in_(_orders(self.order_id)),
            "in_doubt": Operation.applied == SQL("'unknown'"),  # a constant, as in the condition of its index
            "error_class": Operation.error_class == self.error_class,
            "status": Operation.status == self.status,
            "sku": Operation.sku == self.sku,
            "token_id": Operation.token_id == self.token_id,
        }
        if self.status == COMPLETED:
            conditions["status"] = conditions.pop("status")
        given = {name: getattr(self, name) for name in conditions if getattr(self, name)}
        if not all(is_storable(str(value)) for value in given.values()):
            return [SQL("FALSE")]  # no row can hold it
        parts = [SQL("TRUE"), *(conditions[name] for name in given)]
        if sqlite:
            for condition in parts[2:]:  # with a plus in front, its index is not used
                condition.lhs = NodeList((SQL("+"), condition.lhs), glue="")
        # What is in doubt is few and has an index of its own, which SQLite would leave for a range of ids.
        recorded, bound = (Operation.created_at, as_utc) if self.in_doubt else (Operation.id, first_id_at)
        parts += [recorded >= bound(self.since)] if self.since else []
        parts += [recorded < bound(self.until)] if self.until else []
        return parts


def _orders(order_id: str | None) -> Any:
    """Ids of the orders that are called so. The accounts are few: with them the unique index finds an order by its own id."""
    return Order.select(Order.id).where(
        Order.order_id == order_id, Order.token_id.in_(Account.select(Account.token_id))
    )


@dataclass(frozen=True, slots=True)
class Page:
    """Operations with what their order's delivery says of them. `total` is exact unless `more`: then at least that.

    `next`: the cursor of the page behind this one; None: there is none. `order`: what it is really sorted by.
    """

    operations: list[dict[str, Any]]
    total: int
    more: bool
    next: UUID | None
    order: str = NEWEST


class OperationLists(Part):
    """Pages, counts and the matrix of errors."""

    @planned
    def page(
        self,
        wanted: Filter,
        now: datetime,
        *,
        limit: int = 50,
        offset: int = 0,
        before: UUID | None = None,
        order: str = NEWEST,
    ) -> Page:
        """One page.

        Args:
            limit: 1 to 200 rows.
            offset: rows to skip, at most 100,000; `before`, the cursor of the page in front, is quicker.
            order: one of SORTED_BY, with `-` in front for falling; anything else, and what would be slow here,
                means the newest first. `before` goes with that alone.

        Raises:
            InvalidInput: a value out of bounds.
        """
        if not 1 <= limit <= 200 or not 0 <= offset <= 100_000:
            raise InvalidInput("limit", "1 to 200 rows from an offset of at most 100000")
        total, more = self.count(wanted)
        columns = (_BY_TIME if more or total > COUNTED else SORTED_BY) | (
            _IN_DOUBT_BY_TIME if wanted.in_doubt else {}
        )
        order = order if order.removeprefix("-") in columns else NEWEST
        found = in_order(
            self.matching(wanted, before, *_COLUMNS).join(Order, JOIN.LEFT_OUTER), order, columns
        )
        rows = [_document(row, now) for row in found.limit(limit + 1).offset(offset).dicts()]
        return Page(rows[:limit], total, more, rows[limit - 1]["id"] if len(rows) > limit else None, order)

    @planned
    def count(self, wanted: Filter) -> tuple[int, bool]:
        """How many match, and whether there are more than that; by status alone, or all: always exact."""
        if wanted in (Filter(), Filter(status=wanted.status)):
            counts = self.by_status()
            return (counts[wanted.status] if wanted.status else sum(counts.values())), False
        found = self.matching(wanted).limit(COUNTED + 1).count()
        return min(found, COUNTED), found > COUNTED

    @planned
    def count_all(self, wanted: Filter) -> int:
        """How many match, however many: for what is few while all is well."""
        return int(self.matching(wanted).count())

    @planned
    def ids(self, wanted: Filter, limit: int, before: UUID | None = None) -> list[UUID]:
        """The ids of up to `limit` that match, below `before`."""
        return [row[0] for row in self.matching(wanted, before).limit(limit).tuples()]

    def matching(self, wanted: Filter, before: UUID | None = None, *columns: Any) -> Any:
        """The query for all that match, below `before`; of their ids, unless `columns` are named."""
        query = Operation.select(*columns or [Operation.id]).order_by(Operation.id.desc())
        query = query.where(*wanted.conditions(sqlite=isinstance(self._database, SqliteDatabase)))
        return query if before is None else query.where(Operation.id < before)

    @connected
    def by_status(self) -> dict[str, int]:
        """Operations by status, every status named. Completed ones are not counted anew: the tallies know."""
        # Statuses as constants, here and in `errors`, so that PostgreSQL knows how few these are.
        counts = self._rows(
            Statement(f"""
                SELECT status, COUNT(*) FROM pending_stock_operations
                WHERE status IN {among(status for status in STATUSES if status != COMPLETED)} GROUP BY status""")
        )
        return dict.fromkeys(STATUSES, 0) | dict(counts) | {COMPLETED: Tallies(self.context).completed()}

    def stale(self, now: datetime, hours: float) -> int:
        """Pending operations that were recorded longer ago than that."""
        return self.count_all(Filter(status=PENDING, until=now - timedelta(hours=hours)))

    @connected
    def errors(self, now: datetime) -> dict[str, dict[str, int]]:
        """Operations that fail or have failed: error class -> age (`hour`, `day`, `week`, `older`) -> how many."""
        ages = {name: first_id_at(now - age) for name, age in AGES}
        matrix: dict[str, dict[str, int]] = {}
        for error_class, count, age in self._rows(
            Statement(f"""
                SELECT error_class, COUNT(*),
                       CASE {" ".join(f"WHEN id >= :{age} THEN '{age}'" for age in ages)} ELSE 'older' END
                FROM pending_stock_operations
                WHERE error_class IS NOT NULL AND {{no_index}}status IN {among((PENDING, PROCESSING, FAILED))}
                GROUP BY 1, 3"""),
            **ages,
        ):
            matrix.setdefault(error_class, dict.fromkeys((*ages, "older"), 0))[age] = count
        return dict(sorted(matrix.items()))

    @connected
    def understand(self, wanted: Filter, text: str) -> Filter:
        """`wanted` with what somebody typed in: a seller, an order, else a SKU."""
        if not (text := text.strip()):
            return wanted
        if is_storable(text):
            named = (Account.token_id == text) | (Account.name == text)
            if lane := Account.select(Account.token_id).where(named).limit(1).scalar():
                return replace(wanted, token_id=lane)
            if _orders(text).exists():
                return replace(wanted, order_id=text)
        return replace(wanted, sku=text)


def _document(row: dict[str, Any], now: datetime) -> dict[str, Any]:
    """A row with the tags that its order's delivery gives it."""
    due, claim, ours, remote = (
        row.pop(name) for name in ("due_at", "claim_id", "is_stock_updated", "remote_flag")
    )
    tags = {
        # An order that is due for longer, and free, is one that nobody takes.
        "overdue": due is not None and claim is None and due < now - timedelta(minutes=5),
        "rescued": row["waiting"] == "rescued",
        "in_doubt": row["applied"] == "unknown",
        "differs": due is None and None not in (ours, remote) and ours is not remote,
    }
    return {**row, "tags": [name for name, applies in tags.items() if applies]}
