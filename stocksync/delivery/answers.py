"""What an answer of the remote means (design, section 5): who failed, and so who pays for it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from stocksync.store.values import printable


class Verdict(Enum):
    """Whose failure an answer is."""

    DELIVERED = "delivered"
    REJECTED = "rejected"
    """This order's, perhaps not for good: `success: false`, 404, 408, 409, 425 in the contract's words."""
    INVALID = "invalid"
    """This order's, for good: 400, 410, 422 in the contract's words."""
    THROTTLED = "throttled"
    """Nobody's: the remote asks to come later."""
    CREDENTIALS = "credentials"
    """Ours: 401, 403."""
    UNCLEAR = "unclear"
    """Can't tell: no connection, no answer in time, a 5xx, or words that are not the contract's."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, or the lack of one. `error_class` is a short word for counting and filters, None on success."""

    verdict: Verdict
    error_class: str | None = None
    error: str | None = None
    status: int | None = None
    retry_after: str | None = None

    @property
    def success(self) -> bool:
        """Whether the remote accepted what it was told."""
        return self.verdict is Verdict.DELIVERED


_INVALID = frozenset({400, 410, 422})
_REJECTED = frozenset({404, 408, 409, 425})
_REMEMBERED = 300
"""Characters kept of what the remote said."""


def understand(status: int, document: object, retry_after: str | None = None) -> Answer:
    """The answer in an HTTP status and its decoded JSON body (None: the body was not JSON).

    Args:
        status: the HTTP status code.
        document: the decoded body.
        retry_after: the Retry-After header as sent.
    """
    success = document.get("success") if isinstance(document, dict) else None
    contract = isinstance(success, bool)
    said = document.get("error") if isinstance(document, dict) else None
    words = printable(str(said))[:_REMEMBERED] if said else f"HTTP {status}"
    if 200 <= status < 300 and success is True:
        return Answer(Verdict.DELIVERED, status=status)
    if 200 <= status < 300 and contract:
        return Answer(Verdict.REJECTED, "NotSuccessful", words, status)
    if status == 429 or (status == 503 and retry_after):
        return Answer(Verdict.THROTTLED, f"Http{status}", words, status, retry_after)
    if status in (401, 403):
        return Answer(Verdict.CREDENTIALS, f"Http{status}", words, status)
    if contract and status in _INVALID:
        return Answer(Verdict.INVALID, f"Http{status}", words, status)
    if contract and status in _REJECTED:
        return Answer(Verdict.REJECTED, f"Http{status}", words, status)
    if status >= 500:
        return Answer(Verdict.UNCLEAR, f"Http{status}", words, status)
    return Answer(
        Verdict.UNCLEAR, "NotTheContract", f"HTTP {status} with a body that is not the contract's", status
    )
