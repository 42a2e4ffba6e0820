"""The orders microservice as its contract describes it, with orders kept in memory; and the faults that it can have."""

import json
import random
import threading
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from email.message import Message
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AwareDatetime, BaseModel, Field, ValidationError, validate_call

Share = Annotated[float, Field(ge=0, le=1)]
HeaderValue = Annotated[str, Field(pattern=r"^[\x20-\x7e]+$")]
Text = Annotated[str, Field(min_length=1)]


class Answer(NamedTuple):
    """One HTTP answer. The body is JSON, or a page, which begins with `<`."""

    status: int
    body: bytes
    headers: Mapping[str, str] = {}


def json_answer(status: int, content: object) -> Answer:
    """An answer with `content` as JSON."""
    return Answer(status, json.dumps(content).encode())


def contract_answer(status: int, error: str | None) -> Answer:
    """The contract's answer to an update; `error` None means success."""
    return json_answer(status, {"success": error is None, "error": error})


def page(title: str) -> bytes:
    """An HTML page, as a gateway or a framework sends it."""
    return f"<!doctype html><title>{title}</title><h1>{title}</h1>\n".encode()


class FaultPlan(BaseModel, frozen=True, strict=True, extra="forbid"):
    """The faults in force. A share is the part of the requests, 0 to 1, that meets the fault.

    `latency_ms` and `outage` apply to all requests, the others only to requests for orders. Raises pydantic's
    ValidationError, which is a ValueError, for an unknown fault or a value out of range.
    """

    latency_ms: float = Field(0, ge=0, allow_inf_nan=False)
    """Delay before a request is looked at."""
    outage: Literal["maintenance", "reset"] | None = None
    """All requests fail: with a gateway's page, status 503 and Retry-After, or with a reset connection."""
    reset_share: Share = 0
    """The connection is reset; nothing is applied."""
    rate_limit_share: Share = 0
    """Answered with 429; not applied."""
    retry_after: HeaderValue | None = "1"
    """Sent with 429 and with the maintenance page: seconds or an HTTP date. None: no such header."""
    error_share: Share = 0
    """Answered with `error_status` and the contract's JSON; not applied."""
    error_status: int = Field(503, ge=400, le=599)
    not_success_share: Share = 0
    """Answered with 200 and `success` false; not applied."""
    drop_after_apply_share: Share = 0
    """Applied, then the connection is closed without an answer."""
    bad_body: Literal["redirect", "html", "empty", "no_success"] | None = None
    """Replaces every answer with status 200; the request was applied, except with 'redirect'. One of:

    redirect (302 to `redirect_to`), html (a page), empty, no_success (JSON without `success`).
    """
    redirect_to: HeaderValue = "/login"
    seed: int = 0
    """Start of the random draws: the same requests, one after another, meet the same faults again."""

    def draw(self, source: random.Random, path: list[str]) -> str | None:
        """Draw the fault that one request meets; None: none. Of several that are drawn it is the first field's.

        Every share is drawn each time, so that switching on one fault does not move the others.
        """
        if path[:1] != ["orders"]:
            return self.outage
        met = [name for name, share in self if name.endswith("_share") and source.random() < share]
        return self.outage or (met[0].removesuffix("_share") if met else self.bad_body)

    def answer_instead(self, fault: str | None) -> Answer | None:
        """What a request that meets `fault` gets without being applied; None: it is applied."""
        retry_after = {"Retry-After": self.retry_after} if self.retry_after else {}
        return {
            "maintenance": Answer(503, page("Down for maintenance"), retry_after),
            "rate_limit": contract_answer(429, "too many requests")._replace(headers=retry_after),
            "error": contract_answer(self.error_status, "a fault of the sandbox: error_share"),
            "not_success": contract_answer(200, "a fault of the sandbox: not_success_share"),
            "redirect": Answer(302, page("Found"), {"Location": self.redirect_to}),
        }.get(fault or "")


@dataclass
class Order:
    """One order of one seller, as tests see it. `history`: all values that it was told, oldest first."""

    token_id: str
    order_id: str
    is_stock_updated: bool = False
    updated_at: str = ""
    history: list[bool] = field(default_factory=list)

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


class Microservice:
    """Answers whoever sends `token` as bearer. `clock` dates the updates. Any thread may call its methods."""

    def __init__(self, token: str, clock: Callable[[], datetime]) -> None:
        self._bearer = f"Bearer {token}"
        self._clock = clock
        self._lock = threading.RLock()
        self._orders: dict[tuple[str, str], Order] = {}
        self._keys: dict[str, tuple[str, str, bool]] = {}
        self._last_change = datetime.min.replace(tzinfo=UTC)
        self._stats: dict[str, Any] = {
            "applied": 0,
            "repeated": 0,
            "requests": Counter(),
            "answers": Counter(),
        }

    def answer(
        self, method: str, path: list[str], query: dict[str, Any], headers: Message, body: bytes
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
                        return self._update(
                            order_id, Update.model_validate_json(body), headers["Idempotency-Key"]
                        )
                    case "GET", ["orders", order_id]:
                        order = self._orders.get((query.get("token_id", ""), order_id))
                        return (
                            json_answer(200, order.content())
                            if order
                            else contract_answer(404, "unknown order")
                        )
                    case "GET", ["orders"]:
                        return self._list(**query)
        except ValidationError as error:
            return contract_answer(400, str(error))
        # Not in the contract's words: a client with a wrong base URL must not read this as 'unknown order'.
        return Answer(404, page("Not Found"))

    def orders(self) -> list[dict[str, Any]]:
        """All orders of all sellers, with the fields of `Order`, in no particular order."""
        with self._lock:
            return [asdict(order) for order in self._orders.values()]

    def stats(self) -> dict[str, Any]:
        """Counts since the start: `requests` by method, `answers` by status, updates `applied` and `repeated`."""
        with self._lock:
            return deepcopy(self._stats)

    def count(self, of: str, what: str) -> None:
        """Add one to the statistics of `requests` or `answers`."""
        with self._lock:
            self._stats[of][what] += 1

    def _update(self, order_id: str, update: Update, key: str | None) -> Answer:
        content = (update.token_id, order_id, update.is_stock_updated)
        before = self._keys.get(key) if key else None
        # The key of an order removed since is void: a repeat would report success for what is not there.
        if before and before[:2] in self._orders:
            if before != content:
                return contract_answer(422, "this Idempotency-Key came before with other content")
            self._stats["repeated"] += 1
        else:
            self._set(*content).history.append(update.is_stock_updated)
            self._stats["applied"] += 1
            if key:
                self._keys[key] = content
        return contract_answer(200, None)

    def _set(self, token_id: str, order_id: str, flag: bool, updated_at: str | None = None) -> Order:
        # Later than the last change even if the clock stands still: one dated alike could sort before
        # the cursor of a reader, who would never see it.
        self._last_change = max(self._clock(), self._last_change + timedelta(microseconds=1))
        order = self._orders.setdefault((token_id, order_id), Order(token_id, order_id))
        order.is_stock_updated = flag
        order.updated_at = _text(datetime.fromisoformat(updated_at) if updated_at else self._last_change)
        return order

    @validate_call
    def _list(
        self,
        /,
        token_id: Text,
        updated_since: AwareDatetime | None = None,
        cursor: str = "",
        limit: Annotated[int, Field(ge=1, le=500)] = 100,
        **_: Any,
    ) -> Answer:
        """One page of a seller's orders; the arguments are those of the query."""
        orders = sorted(
            (order for order in self._orders.values() if order.token_id == token_id), key=Order.position
        )
        start = max(
            bisect_left(orders, _text(updated_since) if updated_since else "", key=Order.position),
            bisect_right(orders, cursor, key=Order.position),
        )
        listed = orders[start : start + limit]
        return json_answer(
            200,
            {
                "orders": [order.content() for order in listed],
                "next_cursor": listed[-1].position() if start + limit < len(orders) else None,
            },
        )


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
