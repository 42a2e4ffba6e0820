"""The fault plan of the sandbox: which faults there are, and which one a request meets. Pure."""

import random
from typing import Annotated, Literal

from pydantic import BaseModel, Field

_DRAWN = ("reset", "rate_limit", "error", "not_success", "drop_after_apply")
Share = Annotated[float, Field(ge=0, le=1)]
HeaderValue = Annotated[str, Field(pattern=r"^[\x20-\x7e]+$")]


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
    bad_body: (
        Literal["redirect", "html", "empty", "no_success", "truncated", "huge", "endless", "slow_headers"]
        | None
    ) = None
    """Replaces every answer with status 200; the request was applied, except with 'redirect'. One of:

    redirect (302 to `redirect_to`), html (a page), empty, no_success (JSON without `success`), truncated (half of
    the announced length), huge (10 MB), endless (a byte every 50 ms for a minute), slow_headers (the same for headers).
    """
    redirect_to: HeaderValue = "/login"
    seed: int = 0
    """Start of the random draws: the same requests, one after another, meet the same faults again."""

    def draw(self, source: random.Random) -> str | None:
        """Draw the fault that one request for orders meets; None: none.

        Every share is drawn each time, so that switching on one fault does not move the others.
        """
        met = [fault for fault in _DRAWN if source.random() < getattr(self, f"{fault}_share")]
        return met[0] if met else self.bad_body
