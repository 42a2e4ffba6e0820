"""Lists of operations: filtered, in pages, counted as far as counting is quick. The newest first; writes nothing.

Ids rise with time, so a page is read along one index that ends in the id, whatever the size of the table.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Self
from uuid import UUID

from stocksync.errors import InvalidInput
from stocksync.store.context import Context, Part
from stocksync.store.database import Statement, among, rows_of, uuid_of
from stocksync.store.identifiers import first_id_at
from stocksync.store.states import COMPLETED, FAILED, LIVE, PENDING, STATUSES
from stocksync.store.tallies import Tallies
from stocksync.store.values import as_utc, is_storable

COUNTED = 10_000
"""Matches are counted up to here."""
OVERDUE = timedelta(minutes=5)
"""An order that is due for longer, and free, is one that nobody takes."""
AGES = (("hour", timedelta(hours=1)), ("day", timedelta(days=1)), ("week", timedelta(days=7)))
"""Of the matrix of error classes; what is older is `older`."""

_COLUMNS = """o.id, o.order_id, o.token_id, o.operation_type, o.status, o.sku, o.quantity, o.warehouse, o.line_item_id,
  o.applied, o.retry_count, o.max_retries, o.next_retry_at, o.created_at, o.updated_at, o.completed_at,
  o.error_class, o.error_message, o.actor, o.reason, o.order_ref"""
_NAMES = tuple(name.strip().removeprefix("o.") for name in _COLUMNS.split(","))
_TIMES = frozenset({"next_retry_at", "created_at", "updated_at", "completed_at"})
_PAGE = f"""
    SELECT {_COLUMNS}, r.due_at, r.claim_id, r.waiting, r.is_stock_updated, r.remote_flag
    FROM pending_stock_operations AS o LEFT JOIN stock_sync_orders AS r ON r.id = o.order_ref
    WHERE {{where}} ORDER BY o.id DESC LIMIT :limit OFFSET :offset"""
_IDS = "SELECT o.id FROM pending_stock_operations AS o WHERE {where} ORDER BY o.id DESC LIMIT :limit"
_COUNT = "SELECT COUNT(*) FROM (SELECT 1 FROM pending_stock_operations AS o WHERE {where} LIMIT :limit) AS matching"
_BY_STATUS = Statement(f"""
    SELECT status, COUNT(*) FROM pending_stock_operations
    WHERE status IN {among(status for status in STATUSES if status != COMPLETED)} GROUP BY status""")
_ERRORS = Statement(f"""
    SELECT error_class, CASE {" ".join(f"WHEN id >= :{name} THEN '{name}'" for name, _ in AGES)} ELSE 'older' END,
           COUNT(*) FROM pending_stock_operations
    WHERE error_class IS NOT NULL AND {{no_index}}status IN {among((*LIVE, FAILED))} GROUP BY 1, 2""")
_IS_LANE = Statement(
    "SELECT token_id FROM stock_sync_accounts WHERE token_id = :text OR name = :text LIMIT 1"
)
# The accounts are few: with them the unique index finds an order by its own id.
_OF_ORDER = """o.order_ref IN (SELECT id FROM stock_sync_orders WHERE order_id = :order_id
               AND token_id IN (SELECT token_id FROM stock_sync_accounts))"""
_IS_ORDER = Statement("""
    SELECT 1 FROM stock_sync_orders WHERE order_id = :text
      AND token_id IN (SELECT token_id FROM stock_sync_accounts) LIMIT 1""")


@dataclass(frozen=True, slots=True)
class Filter:
    """Which operations; None and False ask for nothing. `since` and `until` (aware UTC): when it was recorded."""

    status: str | None = None
    order_id: str | None = None
    sku: str | None = None
    token_id: str | None = None
    error_class: str | None = None
    in_doubt: bool = False
    since: datetime | None = None
    until: datetime | None = None

    def checked(self) -> Self:
        """This filter. Raises InvalidInput: there is no such status."""
        if self.status is not None and self.status not in STATUSES:
            raise InvalidInput("status", f"one of {', '.join(STATUSES)} is needed, got {self.status!r:.40}")
        return self

    def where(self) -> tuple[str, dict[str, Any]]:
        """The condition and its parameters. The first one given is looked up, the others are only looked at.

        SQLite keeps no statistics, so the order is ours: completed operations are many, those of any other status few.
        """
        conditions = {
            "order_id": _OF_ORDER,
            "in_doubt": "o.applied = 'unknown'",
            "error_class": "o.error_class = :error_class",
            "status": "o.status = :status",
            "sku": "o.sku = :sku",
            "token_id": "o.token_id = :token_id",
        }
        if self.status == COMPLETED:
            conditions["status"] = conditions.pop("status")
        given = [text for name, text in conditions.items() if getattr(self, name)]
        parts = given[:1] + [text.replace("o.", "{no_index}o.", 1) for text in given[1:]]
        parameters = {
            name: value
            for name in ("order_id", "error_class", "status", "sku", "token_id")
            if (value := getattr(self, name))
        }
        if not all(is_storable(text) for text in parameters.values()):
            return "FALSE", {}  # no row can hold it
        for name, sign, moment in (("since", ">=", self.since), ("until", "<", self.until)):
            if moment is not None:
                parts.append(f"o.id {sign} :{name}")
                parameters[name] = first_id_at(moment)
        return " AND ".join(parts) or "TRUE", parameters


@dataclass(frozen=True, slots=True)
class Page:
    """Operations with what their order's delivery says of them. `total` is exact unless `more`: then at least that.

    `next`: the cursor of the page behind this one; None: there is none.
    """

    operations: list[dict[str, Any]]
    total: int
    more: bool
    next: UUID | None


class OperationLists(Part):
    """Pages, counts and the matrix of errors."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._tallies = Tallies(context)

    def page(
        self,
        wanted: Filter,
        now: datetime,
        *,
        limit: int = 50,
        offset: int = 0,
        before: UUID | None = None,
    ) -> Page:
        """One page.

        Args:
            limit: 1 to 200 rows.
            offset: rows to skip, at most 100,000; `before`, the cursor of the page in front, is quicker.

        Raises:
            InvalidInput: a value out of bounds.
        """
        if not 1 <= limit <= 200 or not 0 <= offset <= 100_000:
            raise InvalidInput("limit", "1 to 200 rows from an offset of at most 100000")
        where, parameters = wanted.checked().where()
        if before is not None:
            where, parameters = f"{where} AND o.id < :before", parameters | {"before": before}
        page = Statement(_PAGE.format(where=where))
        with self._database.scope():
            total, more = self.count(wanted)
            rows = rows_of(self._database.run(page, limit=limit + 1, offset=offset, **parameters))
        operations = [_operation(row, now) for row in rows[:limit]]
        return Page(operations, total, more, operations[-1]["id"] if len(rows) > limit else None)

    def count(self, wanted: Filter) -> tuple[int, bool]:
        """How many match, and whether there are more than that; by status alone, or all: always exact."""
        if wanted in (Filter(), Filter(status=wanted.status)):
            counts = self.by_status()
            return (counts[wanted.status] if wanted.status else sum(counts.values())), False
        where, parameters = wanted.checked().where()
        statement = Statement(_COUNT.format(where=where))
        with self._database.scope():
            found = int(self._database.run(statement, limit=COUNTED + 1, **parameters).fetchone()[0])
        return min(found, COUNTED), found > COUNTED

    def ids(self, wanted: Filter, limit: int, before: UUID | None = None) -> list[UUID]:
        """The ids of up to `limit` that match, below `before`."""
        where, parameters = wanted.checked().where()
        if before is not None:
            where, parameters = f"{where} AND o.id < :before", parameters | {"before": before}
        with self._database.scope():
            rows = rows_of(self._database.run(Statement(_IDS.format(where=where)), limit=limit, **parameters))
        return [uuid_of(row[0]) for row in rows]

    def by_status(self) -> dict[str, int]:
        """Operations by status, every status named. Completed ones are not counted anew: the tallies know."""
        with self._database.scope():
            counts = dict(rows_of(self._database.run(_BY_STATUS)))
            return dict.fromkeys(STATUSES, 0) | counts | {COMPLETED: self._tallies.completed()}

    def stale(self, now: datetime, hours: float) -> int:
        """Pending operations that were recorded longer ago than that."""
        with self._database.scope():
            where, parameters = Filter(status=PENDING, until=now - timedelta(hours=hours)).where()
            count = Statement(f"SELECT COUNT(*) FROM pending_stock_operations AS o WHERE {where}")
            return int(self._database.run(count, **parameters).fetchone()[0])

    def errors(self, now: datetime) -> dict[str, dict[str, int]]:
        """Operations that fail or have failed: error class -> age (`hour`, `day`, `week`, `older`) -> how many."""
        ages = {name: first_id_at(now - age) for name, age in AGES}
        matrix: dict[str, dict[str, int]] = {}
        with self._database.scope():
            for error_class, age, count in rows_of(self._database.run(_ERRORS, **ages)):
                matrix.setdefault(error_class, dict.fromkeys((*ages, "older"), 0))[age] = count
        return dict(sorted(matrix.items()))

    def understand(self, wanted: Filter, text: str) -> Filter:
        """`wanted` with what somebody typed in: a seller, an order, else a SKU."""
        if not (text := text.strip()):
            return wanted
        if not is_storable(text):
            return replace(wanted, sku=text)
        with self._database.scope():
            if lane := self._database.run(_IS_LANE, text=text).fetchone():
                return replace(wanted, token_id=lane[0])
            if self._database.run(_IS_ORDER, text=text).fetchone():
                return replace(wanted, order_id=text)
        return replace(wanted, sku=text)


def _operation(row: tuple[Any, ...], now: datetime) -> dict[str, Any]:
    """A row as a document, with the tags that its order's delivery gives it."""
    found = dict(zip(_NAMES, row, strict=False))
    due_at, claim_id, waiting, ours, remote = row[len(_NAMES) :]
    due = as_utc(due_at)
    tags = {
        "overdue": due is not None and claim_id is None and due < now - OVERDUE,
        "rescued": waiting == "rescued",
        "in_doubt": found["applied"] == "unknown",
        "differs": due is None and ours is not None and remote is not None and bool(ours) is not bool(remote),
    }
    return {
        **{name: as_utc(value) if name in _TIMES else value for name, value in found.items()},
        "id": uuid_of(found["id"]),
        "order_ref": None if found["order_ref"] is None else uuid_of(found["order_ref"]),
        "waiting": waiting,
        "tags": [name for name, applies in tags.items() if applies],
    }
