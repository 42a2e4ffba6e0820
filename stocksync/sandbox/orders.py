"""The order book of the sandbox: what it was told of each order, how often, and since when. Pure."""

from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Literal, TypedDict

Position = tuple[datetime, str]
"""Where an order stands in the listing of its account: last change, then id."""

UnknownOrders = Literal["create", "refuse"]

_KEPT_HISTORY = 100
_MAX_KEYS = 100_000


class Outcome(Enum):
    """What came of telling the book about an order."""

    APPLIED = "applied"
    REPEATED = "repeated"
    """The same key with the same content came before: answered again, not applied again."""
    KEY_CONFLICT = "key_conflict"
    """The same key came before with other content."""
    UNKNOWN_ORDER = "unknown_order"


class OrderRow(TypedDict):
    """One order as tests and operators see it."""

    token_id: str
    order_id: str
    is_stock_updated: bool
    updated_at: str
    times_applied: int
    history: list[bool]


@dataclass(slots=True)
class Order:
    """One order of one account. `history` holds the last 100 values it was told, oldest first."""

    token_id: str
    order_id: str
    is_stock_updated: bool
    updated_at: datetime
    times_applied: int = 0
    history: deque[bool] = field(default_factory=lambda: deque(maxlen=_KEPT_HISTORY))

    @property
    def position(self) -> Position:
        return self.updated_at, self.order_id

    def as_row(self) -> OrderRow:
        return {
            "token_id": self.token_id,
            "order_id": self.order_id,
            "is_stock_updated": self.is_stock_updated,
            "updated_at": as_text(self.updated_at),
            "times_applied": self.times_applied,
            "history": list(self.history),
        }


class OrderBook:
    """Orders by account and id, with the idempotency keys they were changed under.

    `unknown_orders` says what an order never heard of is: 'create' makes it on the spot, 'refuse' refuses it.
    At most `max_keys` keys are remembered; the oldest go first.
    """

    def __init__(self, unknown_orders: UnknownOrders = "create", max_keys: int = _MAX_KEYS) -> None:
        if unknown_orders not in ("create", "refuse"):
            raise ValueError(f"unknown_orders is 'create' or 'refuse', not {unknown_orders!r}")
        self._unknown_orders = unknown_orders
        self._max_keys = max_keys
        self.clear()

    def clear(self) -> None:
        """Forget all orders and all keys."""
        self._orders: dict[tuple[str, str], Order] = {}
        self._positions: dict[str, list[Position]] = {}
        self._keys: OrderedDict[str, tuple[str, str, bool]] = OrderedDict()
        self._last_change = datetime.min.replace(tzinfo=UTC)

    def __iter__(self) -> Iterator[Order]:
        return iter(self._orders.values())

    def find(self, token_id: str, order_id: str) -> Order | None:
        return self._orders.get((token_id, order_id))

    def tell(
        self, token_id: str, order_id: str, is_stock_updated: bool, key: str | None, now: datetime
    ) -> Outcome:
        """Record what the sender says of an order. `key` is its idempotency key; None means none was sent."""
        content = (token_id, order_id, is_stock_updated)
        before = None if key is None else self._keys.get(key)
        # The key of an order removed since is void: a repeat would report success on what is not there.
        if before is not None and before[:2] in self._orders:
            return Outcome.REPEATED if before == content else Outcome.KEY_CONFLICT
        if self._unknown_orders == "refuse" and (token_id, order_id) not in self._orders:
            # Not remembered under its key: the order may turn up, and the same intention is then good.
            return Outcome.UNKNOWN_ORDER
        order = self._write(token_id, order_id, is_stock_updated, self._next_moment(now))
        order.times_applied += 1
        order.history.append(is_stock_updated)
        if key is not None:
            self._keys[key] = content
            if len(self._keys) > self._max_keys:
                self._keys.popitem(last=False)
        return Outcome.APPLIED

    def put(
        self,
        token_id: str,
        order_id: str,
        is_stock_updated: bool,
        now: datetime,
        updated_at: datetime | None = None,
    ) -> None:
        """Make the order so, as if somebody else had changed it: not counted as told.

        `updated_at` dates the change; None dates it `now`.
        """
        self._write(token_id, order_id, is_stock_updated, updated_at or self._next_moment(now))

    def remove(self, token_id: str, order_id: str) -> None:
        """Forget the order; one that is not there is no error."""
        order = self._orders.pop((token_id, order_id), None)
        if order is not None:
            self._drop_position(order)

    def page(
        self, token_id: str, limit: int, since: datetime | None = None, after: Position | None = None
    ) -> tuple[list[Order], Position | None]:
        """Return up to `limit` orders of an account by last change, and the position to go on after.

        `since` keeps those changed at that moment or later; `after` starts behind that position.
        The position is None when nothing is left.
        """
        positions = self._positions.get(token_id, [])
        start = 0 if since is None else bisect_left(positions, (since, ""))
        if after is not None:
            start = max(start, bisect_right(positions, after))
        chosen = positions[start : start + limit]
        more = start + limit < len(positions)
        return [self._orders[token_id, order_id] for _, order_id in chosen], chosen[-1] if more else None

    def _write(self, token_id: str, order_id: str, is_stock_updated: bool, moment: datetime) -> Order:
        order = self._orders.get((token_id, order_id))
        if order is None:
            order = self._orders[token_id, order_id] = Order(token_id, order_id, is_stock_updated, moment)
        else:
            self._drop_position(order)
            order.is_stock_updated = is_stock_updated
            order.updated_at = moment
        insort(self._positions.setdefault(token_id, []), order.position)
        return order

    def _drop_position(self, order: Order) -> None:
        positions = self._positions[order.token_id]
        del positions[bisect_left(positions, order.position)]

    def _next_moment(self, now: datetime) -> datetime:
        # Always later than the last change, though the clock may stand still or go back: a change dated
        # like one already listed could sort behind a reader's cursor, and the reader would never see it.
        self._last_change = max(now, self._last_change + timedelta(microseconds=1))
        return self._last_change


def as_text(moment: datetime) -> str:
    """Return an aware moment as the contract writes it: ISO 8601, UTC, microseconds."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def as_moment(text: str) -> datetime:
    """Return the moment an ISO 8601 text names; raises ValueError for one without its offset."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a moment needs its offset, such as 2024-05-01T12:00:00Z")
    return moment.astimezone(UTC)
