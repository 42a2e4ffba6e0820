"""The fault plan of the sandbox: which faults it plays, and what one request meets of them. Pure."""

import random
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from enum import Enum
from typing import Any

from .errors import BadFault

BAD_BODIES = ("html", "empty", "truncated", "no_success", "huge", "endless", "redirect", "slow_headers")


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """The faults in force. A share is the part of the requests, 0 to 1, that meets the fault.

    All but the latency apply to requests about orders only: `/health` tells of outages. Raises `BadFault`
    for a value that makes no sense.
    """

    latency_ms: float = 0
    """Time a request takes before it is looked at, in milliseconds."""
    latency_jitter_ms: float = 0
    """Up to so many milliseconds more, drawn anew for each request."""
    error_share: float = 0
    """Answered with `error_status`, in the contract's JSON; not applied."""
    error_status: int = 503
    drop_after_apply_share: float = 0
    """Applied, then the connection is closed without an answer."""
    reset_share: float = 0
    """The connection is reset before the request is applied."""
    rate_limit_share: float = 0
    """Answered with 429; not applied."""
    retry_after: str | None = "1"
    """Sent as given with 429 and with the maintenance page: seconds or an HTTP date. None sends none."""
    not_success_share: float = 0
    """Answered with 200 and `success` false; not applied."""
    bad_body: str | None = None
    """Spoils every answer that would have been 2xx; the request was applied, but for 'redirect'. One of:

    html (a page), empty, truncated (half of the announced length), no_success (JSON without `success`),
    huge (10 MB), endless (a byte every 50 ms, for a minute), redirect (302 to `redirect_to`, not applied),
    slow_headers (headers that take a minute and never end).
    """
    redirect_to: str = "/login"
    order_faults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Order id to the fields above that differ for this order."""
    seed: int = 0
    """Start of the random draws: the same requests, one after another, meet the same faults again."""

    def __post_init__(self) -> None:
        for name, (is_valid, expected) in _RULES.items():
            value = getattr(self, name)
            if not is_valid(value):
                raise BadFault(f"{name} is {expected}, not {value!r}")
        for order_id, changes in self.order_faults.items():
            if not isinstance(changes, Mapping):
                raise BadFault(f"order_faults of {order_id!r} maps fault to value, and is not {changes!r}")
            _refuse_unknown(changes, allowed=_ORDER_FAULTS, where=f"order_faults of {order_id!r}: ")
            try:
                replace(self, order_faults={}, **changes)
            except BadFault as error:
                raise BadFault(f"order_faults of {order_id!r}: {error}") from None

    def changed(self, changes: Mapping[str, Any]) -> "FaultPlan":
        """Return the plan with some fields changed; `order_faults` is replaced as a whole.

        Raises `BadFault` for a name that is not a fault, and says which are.
        """
        _refuse_unknown(changes, allowed=_ALL_FAULTS)
        return replace(self, **changes)

    def for_order(self, order_id: str) -> "FaultPlan":
        """Return the plan as it is for one order."""
        changes = self.order_faults.get(order_id)
        return replace(self, order_faults={}, **changes) if changes else self

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Instead(Enum):
    """What a request gets instead of being served."""

    RESET = "reset"
    RATE_LIMIT = "rate_limit"
    ERROR = "error"
    REDIRECT = "redirect"
    NOT_SUCCESS = "not_success"


@dataclass(frozen=True, slots=True)
class Fate:
    """What one request meets: a wait; then no service, or service with its answer lost or spoiled."""

    delay_seconds: float = 0
    instead: Instead | None = None
    drop_answer: bool = False
    bad_body: str | None = None


def draw(plan: FaultPlan, source: random.Random) -> Fate:
    """Draw the fate of one request."""
    # All draws are made every time, so that switching one fault on leaves the others where they were.
    jitter, reset, rate_limit, error, not_success, drop = [source.random() for _ in range(6)]
    instead = None
    if reset < plan.reset_share:
        instead = Instead.RESET
    elif rate_limit < plan.rate_limit_share:
        instead = Instead.RATE_LIMIT
    elif error < plan.error_share:
        instead = Instead.ERROR
    elif plan.bad_body == "redirect":
        instead = Instead.REDIRECT
    elif not_success < plan.not_success_share:
        instead = Instead.NOT_SUCCESS
    return Fate(
        delay_seconds=(plan.latency_ms + jitter * plan.latency_jitter_ms) / 1000,
        instead=instead,
        drop_answer=drop < plan.drop_after_apply_share,
        bad_body=plan.bad_body,
    )


def _refuse_unknown(changes: Mapping[str, Any], allowed: tuple[str, ...], where: str = "") -> None:
    unknown = sorted(set(changes) - set(allowed))
    if unknown:
        raise BadFault(f"{where}unknown: {', '.join(unknown)}; allowed: {', '.join(allowed)}")


def _is_number(value: object) -> bool:
    # The bounds keep out infinity and NaN, which JSON as Python reads it may hold.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -1e9 < value < 1e9


def _is_duration(value: Any) -> bool:
    return _is_number(value) and value >= 0


def _is_share(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _is_status(value: Any) -> bool:
    return type(value) is int and 400 <= value <= 599


def _is_header_value(value: object) -> bool:
    return isinstance(value, str) and value.isascii() and value.isprintable()


_Rule = tuple[Callable[[Any], bool], str]
_DURATION: _Rule = (_is_duration, "milliseconds, 0 or more")
_SHARE: _Rule = (_is_share, "a share from 0 to 1")
_RULES: dict[str, _Rule] = {
    "latency_ms": _DURATION,
    "latency_jitter_ms": _DURATION,
    "error_share": _SHARE,
    "error_status": (_is_status, "an HTTP status from 400 to 599"),
    "drop_after_apply_share": _SHARE,
    "reset_share": _SHARE,
    "rate_limit_share": _SHARE,
    "retry_after": (lambda value: value is None or _is_header_value(value), "printable ASCII, or null"),
    "not_success_share": _SHARE,
    "bad_body": (lambda value: value in (None, *BAD_BODIES), f"null or one of {', '.join(BAD_BODIES)}"),
    "redirect_to": (_is_header_value, "an address in printable ASCII"),
    "order_faults": (lambda value: isinstance(value, Mapping), "a mapping of order id to its faults"),
    "seed": (lambda value: type(value) is int, "a whole number"),
}
_ALL_FAULTS = tuple(each.name for each in fields(FaultPlan))
_ORDER_FAULTS = tuple(name for name in _ALL_FAULTS if name not in ("order_faults", "seed"))
