"""The orders microservice as its contract describes it: answers requests from orders kept in memory."""

import json
import threading
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from email.message import Message
from operator import attrgetter
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, Field, ValidationError

Text = Annotated[str, Field(min_length=1)]
Headers = Mapping[str, str]
_NO_HEADERS: Headers = {}
_position = attrgetter("position")


@dataclass(frozen=True)
class Answer:
    """One HTTP answer."""

    status: int
    body: bytes
    content_type: str
    headers: Headers


def json_answer(status: int, content: object, headers: Headers = _NO_HEADERS) -> Answer:
    """An answer with `content` as JSON."""
    return Answer(status, json.dumps(content).encode(), "application/json", headers)


def contract_answer(status: int, error: str | None, headers: Headers = _NO_HEADERS) -> Answer:
    """The contract's answer to an update; `error` None means success."""
    return json_answer(status, {"success": error is None, "error": error}, headers)


def page_answer(status: int, title: str, headers: Headers = _NO_HEADERS) -> Answer:
    """An HTML page, as a gateway or a framework sends it."""
    page = f"<!doctype html><title>{title}</title><h1>{title}</h1>\n"
    return Answer(status, page.encode(), "text/html", headers)


_UNKNOWN_ORDER = contract_answer(404, "unknown order")


@dataclass
class Order:
    """One order of one seller, as tests see it. `history`: all values that it was told, oldest first."""

    token_id: str
    order_id: str
    is_stock_updated: bool = False
    updated_at: str = ""
    history: list[bool] = field(default_factory=list)

    @property
    def position(self) -> str:
        """Where it stands in the listing: by time, which has a fixed width, then by id. Also the cursor."""
        return f"{self.updated_at} {self.order_id}"

    def content(self) -> dict[str, object]:
        """What the contract says of it."""
        return {"id": self.order_id, "is_stock_updated": self.is_stock_updated, "updated_at": self.updated_at}


class Update(BaseModel, strict=True):
    """The body of an update."""

    token_id: Text
    is_stock_updated: bool


class Listing(BaseModel):
    """The query of a listing."""

    token_id: Text
    updated_since: AwareDatetime | None = None
    cursor: str = ""
    limit: int = Field(100, ge=1, le=500)


class Microservice:
    """Answers whoever sends `token` as bearer. `clock` dates the updates. Any thread may call its methods."""

    def __init__(self, token: str, clock: Callable[[], datetime]) -> None:
        self._bearer = f"Bearer {token}"
        self._clock = clock
        self._lock = threading.RLock()
        self._orders: dict[tuple[str, str], Order] = {}
        self._listings: dict[str, list[Order]] = {}  # by seller, until its next change
        self._keys: dict[str, tuple[str, str, bool]] = {}
        self._last_change = datetime.min.replace(tzinfo=UTC)
        self._counts: dict[str, Counter[str]] = defaultdict(Counter)

    def answer(
        self, method: str, path: list[str], query: dict[str, str], headers: Message, body: bytes
    ) -> Answer:
        """Do what a request asks for. `path` and `query` are decoded."""
        if (method, path) == ("GET", ["health"]):
            return json_answer(200, {"status": "ok"})
        if headers["Authorization"] != self._bearer:
            return contract_answer(401, "the bearer is missing or wrong")
        try:
            with self._lock:
                match method, path:
                    case "PUT", ["orders", order_id, "stock-status"]:
                        update = Update.model_validate_json(body)
                        return self._update(order_id, update, headers["Idempotency-Key"])
                    case "GET", ["orders", order_id]:
                        order = self._orders.get((query.get("token_id", ""), order_id))
                        return json_answer(200, order.content()) if order else _UNKNOWN_ORDER
                    case "GET", ["orders"]:
                        return self._list(Listing.model_validate(query))
        except ValidationError as error:
            return contract_answer(400, str(error))
        # Not in the contract's words: a client with a wrong base URL must not read this as 'unknown order'.
        return page_answer(404, "Not Found")

    def orders(self) -> list[dict[str, Any]]:
        """All orders of all sellers, with the fields of `Order`, in no particular order."""
        with self._lock:
            return [asdict(order) for order in self._orders.values()]

    def set_orders(self, orders: Iterable[Mapping[str, Any]]) -> None:
        """Set or remove orders as if somebody else had told the microservice.

        Each has `token_id`, `order_id` and either `is_stock_updated`, with an ISO 8601 `updated_at` unless it is now,
        or `removed`: True.
        """
        with self._lock:
            for order in orders:
                key = order["token_id"], order["order_id"]
                if order.get("removed"):
                    self._orders.pop(key, None)
                    self._listings.pop(key[0], None)
                else:
                    dated = order.get("updated_at")
                    moment = datetime.fromisoformat(dated) if dated else None
                    self._set(*key, order["is_stock_updated"], moment)

    def stats(self) -> dict[str, Any]:
        """Counts since the start: `requests` by method, `answers` by status, updates `applied` and `repeated`."""
        with self._lock:
            requests, answers, updates = (dict(self._counts[of]) for of in ("requests", "answers", "updates"))
            return {"applied": 0, "repeated": 0} | updates | {"requests": requests, "answers": answers}

    def count(self, of: str, what: str) -> None:
        """Add one to the statistics."""
        with self._lock:
            self._counts[of][what] += 1

    def _update(self, order_id: str, update: Update, key: str | None) -> Answer:
        content = (update.token_id, order_id, update.is_stock_updated)
        before = self._keys.get(key) if key else None
        # The key of an order removed since is void: a repeat would report success for what is not there.
        if before and before[:2] in self._orders:
            if before != content:
                return contract_answer(422, "this Idempotency-Key came before with other content")
            self.count("updates", "repeated")
            return contract_answer(200, None)
        order = self._set(*content)
        order.history.append(update.is_stock_updated)
        self.count("updates", "applied")
        if key:
            self._keys[key] = content
        return contract_answer(200, None)

    def _set(self, token_id: str, order_id: str, flag: bool, updated_at: datetime | None = None) -> Order:
        # Later than the last change even if the clock stands still: one dated alike could sort before
        # the cursor of a reader, who would never see it.
        self._last_change = max(self._clock(), self._last_change + timedelta(microseconds=1))
        order = self._orders.setdefault((token_id, order_id), Order(token_id, order_id))
        order.is_stock_updated, order.updated_at = flag, _text(updated_at or self._last_change)
        self._listings.pop(token_id, None)
        return order

    def _list(self, query: Listing) -> Answer:
        orders = self._listings.get(query.token_id)
        if orders is None:
            own = (order for order in self._orders.values() if order.token_id == query.token_id)
            orders = self._listings[query.token_id] = sorted(own, key=_position)
        since = _text(query.updated_since) if query.updated_since else ""
        start = max(
            bisect_left(orders, since, key=_position), bisect_right(orders, query.cursor, key=_position)
        )
        page = orders[start : start + query.limit]
        cursor = page[-1].position if start + query.limit < len(orders) else None
        return json_answer(200, {"orders": [order.content() for order in page], "next_cursor": cursor})


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
