"""Time-ordered ids: UUID version 7 (RFC 9562, section 5.7), with the clock and the randomness handed in.

Rows written together get neighbouring ids, so that inserting costs the same in a large table as in a small one.
"""

import hashlib
import json
import random
import re
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

NewId = Callable[[], UUID]
Clock = Callable[[], datetime]

_RANDOM_BITS = 74
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def joined(*parts: str) -> str:
    """`parts` with colons between, so that no two lists of parts give one text; colons inside are escaped."""
    return ":".join(part.replace("%", "%25").replace(":", "%3A") for part in parts)


def stored_key(*parts: str) -> str:
    """`joined`, by its digest where it would be longer than a key's column."""
    key = joined(*parts)
    return key if len(key) <= 1024 else f"{parts[0]}:{hashlib.sha256(key.encode()).hexdigest()}"


def carried_key(token_id: str, line_id: str) -> str | None:
    """What a line is called over all orders of its seller; None: its id is no UUID, and unique in its order alone."""
    return f"{token_id}:{line_id.lower()}" if _UUID.fullmatch(line_id) else None


def content_hash(*parts: Any) -> str:
    """A short digest of what an idempotency key stands for."""
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest()[:32]


def first_id_at(moment: datetime) -> UUID:
    """The lowest id that can have been made at `moment` or later: time in a question about ids."""
    return UUID(
        int=(max(0, int(moment.timestamp() * 1000)) & 0xFFFF_FFFF_FFFF) << 80 | 0x7 << 76 | 0b10 << 62
    )


class IdFactory:
    """Makes ids; those of one factory rise strictly (RFC 9562, section 6.2), so that rows of one moment keep order."""

    def __init__(self, clock: Clock, rng: random.Random) -> None:
        self._clock = clock
        self._rng = rng
        self._lock = threading.Lock()
        self._last = 0

    def __call__(self) -> UUID:
        milliseconds = int(self._clock().timestamp() * 1000) & 0xFFFF_FFFF_FFFF
        drawn = milliseconds << _RANDOM_BITS | self._rng.getrandbits(_RANDOM_BITS)
        with self._lock:
            if drawn >> _RANDOM_BITS <= self._last >> _RANDOM_BITS:
                # Same millisecond, or the clock went back: a small random step up, carried into the time if need be.
                drawn = self._last + 1 + self._rng.getrandbits(24)
            self._last = drawn
        time, high, low = drawn >> _RANDOM_BITS, drawn >> 62 & 0xFFF, drawn & (1 << 62) - 1
        return UUID(int=time << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low)
