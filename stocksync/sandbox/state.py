"""What the sandbox knows while it runs: orders, faults, outage and counts, behind one lock."""

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, TypedDict

from .contract import Microservice
from .errors import BadFault
from .faults import Fate, FaultPlan, draw
from .orders import OrderBook, OrderRow, Outcome, UnknownOrders, as_moment
from .wire import Request, Response

OUTAGES = ("500", "502", "503", "timeout", "maintenance", "reset", "refuse", "off")
_ORDER_FIELDS = {"token_id", "order_id", "is_stock_updated", "updated_at", "removed"}


class Stats(TypedDict):
    """Counts since the start or the last reset; the control API's own requests are not among them."""

    requests: dict[str, int]
    """By method."""
    answers: dict[str, int]
    """By status, as text."""
    unanswered: dict[str, int]
    """By what befell the request: reset, dropped, hung, slow_headers."""
    applied: int
    repeated: int
    """Known by their idempotency key, answered again and not applied."""
    key_conflicts: int
    max_concurrent: int
    """Most requests in hand at one time."""
    connections: int
    """Connections accepted."""
    flagged_true: int
    flagged_false: int


class SandboxState:
    """All that changes while the sandbox runs. Every method may be called from any thread."""

    def __init__(
        self,
        faults: FaultPlan,
        clock: Callable[[], datetime],
        token: str | None,
        jwt_secret: str | None,
        unknown_orders: UnknownOrders,
    ) -> None:
        self._lock = threading.Lock()
        self._clock = clock
        self._book = OrderBook(unknown_orders)
        self._service = Microservice(self._book, clock, token, jwt_secret)
        self._first_plan = faults
        self._clear()

    def _clear(self) -> None:
        self._plan = self._first_plan
        self._random = random.Random(self._plan.seed)
        self._requests: Counter[str] = Counter()
        self._answers: Counter[str] = Counter()
        self._unanswered: Counter[str] = Counter()
        self._outcomes: Counter[Outcome] = Counter()
        self._in_hand = 0
        self._max_concurrent = 0
        self._connections = 0

    def reset(self) -> None:
        """Be as at the start: no orders, no keys, no counts, the first faults, the first draw."""
        with self._lock:
            in_hand = self._in_hand
            self._book.clear()
            self._clear()
            self._in_hand = self._max_concurrent = in_hand

    # Faults

    def faults(self) -> FaultPlan:
        with self._lock:
            return self._plan

    def change_faults(self, changes: Mapping[str, Any]) -> FaultPlan:
        """Change some faults and return the plan; naming `seed` starts the draws anew. Raises `BadFault`."""
        with self._lock:
            self._plan = self._plan.changed(changes)
            if "seed" in changes:
                self._random.seed(self._plan.seed)
            return self._plan

    def meet(self, request: Request) -> tuple[Fate, FaultPlan]:
        """Return what the request meets, and the plan that holds for it."""
        with self._lock:
            plan = self._plan
            if request.segments[:1] != ("orders",):
                # No draw: health probes come at their own times and must not shift the orders' fates.
                return Fate(delay_seconds=plan.latency_ms / 1000), plan
            if len(request.segments) > 1:
                plan = plan.for_order(request.segments[1])
            return draw(plan, self._random), plan

    # Orders

    def serve(self, request: Request) -> Response:
        """Return the contract's answer; what the request asks for is done then."""
        with self._lock:
            response, outcome = self._service.answer(request)
            if outcome is not None:
                self._outcomes[outcome] += 1
            return response

    def refusal(self, request: Request) -> Response | None:
        """Return 401 for a request without a good bearer, None for one with it."""
        refused = self._service.refusal(request)
        return refused and refused[0]

    def orders(self) -> list[OrderRow]:
        with self._lock:
            return [order.as_row() for order in self._book]

    def set_orders(self, orders: Iterable[Mapping[str, Any]]) -> int:
        """Make orders so, as if somebody else had; return how many. All or, with `BadFault`, none.

        Each has `token_id`, `order_id` and either `is_stock_updated` (with `updated_at`, an ISO 8601 text,
        when the change is to be dated otherwise than now) or `removed`: true.
        """
        checked = [_checked_order(order) for order in orders]
        with self._lock:
            now = self._clock()
            for token_id, order_id, flag, updated_at in checked:
                if flag is None:
                    self._book.remove(token_id, order_id)
                else:
                    self._book.put(token_id, order_id, flag, now, updated_at)
        return len(checked)

    # Counts

    def connected(self) -> None:
        with self._lock:
            self._connections += 1

    def taken(self, method: str) -> None:
        with self._lock:
            self._requests[method] += 1
            self._in_hand += 1
            self._max_concurrent = max(self._max_concurrent, self._in_hand)

    def done(self) -> None:
        with self._lock:
            self._in_hand -= 1

    def answered(self, status: int) -> None:
        with self._lock:
            self._answers[str(status)] += 1

    def left_unanswered(self, how: str) -> None:
        with self._lock:
            self._unanswered[how] += 1

    def stats(self) -> Stats:
        with self._lock:
            flagged = Counter(order.is_stock_updated for order in self._book)
            return {
                "requests": dict(self._requests),
                "answers": dict(self._answers),
                "unanswered": dict(self._unanswered),
                "applied": self._outcomes[Outcome.APPLIED],
                "repeated": self._outcomes[Outcome.REPEATED],
                "key_conflicts": self._outcomes[Outcome.KEY_CONFLICT],
                "max_concurrent": self._max_concurrent,
                "connections": self._connections,
                "flagged_true": flagged[True],
                "flagged_false": flagged[False],
            }


def check_outage(kind: object, seconds: object) -> tuple[str, float | None]:
    """Return a valid outage as given; raises `BadFault` for one that is not."""
    if not isinstance(kind, str) or kind not in OUTAGES:
        raise BadFault(f"kind is one of {', '.join(OUTAGES)}, not {kind!r}")
    if seconds is None:
        return kind, None
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds <= 86400:
        raise BadFault(f"seconds is a number above 0 and up to 86400, not {seconds!r}")
    return kind, float(seconds)


def _checked_order(order: object) -> tuple[str, str, bool | None, datetime | None]:
    if not isinstance(order, Mapping):
        raise BadFault(f"an order is an object, not {order!r}")
    if unknown := sorted(set(order) - _ORDER_FIELDS):
        allowed = ", ".join(sorted(_ORDER_FIELDS))
        raise BadFault(f"unknown: {', '.join(map(str, unknown))}; allowed: {allowed}")
    token_id, order_id = order.get("token_id"), order.get("order_id")
    if not (isinstance(token_id, str) and token_id and isinstance(order_id, str) and order_id):
        raise BadFault(f"an order has a token_id and an order_id, both texts: {dict(order)!r}")
    if order.get("removed") is True:
        return token_id, order_id, None, None
    flag = order.get("is_stock_updated")
    if not isinstance(flag, bool):
        raise BadFault(f"is_stock_updated of order {order_id} is true or false, not {flag!r}")
    try:
        updated_at = as_moment(order["updated_at"]) if order.get("updated_at") is not None else None
    except (TypeError, ValueError, OverflowError) as error:
        raise BadFault(f"updated_at of order {order_id} is an ISO 8601 moment with its offset") from error
    return token_id, order_id, flag, updated_at
