"""Time-ordered ids: UUID version 7 (RFC 9562, section 5.7), with the clock and the randomness handed in.

Rows written together get neighbouring ids, so that inserting costs the same in a large table as in a small one.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from datetime import datetime
from uuid import UUID

NewId = Callable[[], UUID]
Clock = Callable[[], datetime]


class IdFactory:
    """Makes ids; those of one factory rise strictly (RFC 9562, section 6.2), so that rows of one moment keep order."""

    def __init__(self, clock: Clock, rng: random.Random) -> None:
        self._clock = clock
        self._rng = rng
        self._lock = threading.Lock()
        self._last = 0

    def __call__(self) -> UUID:
        milliseconds = int(self._clock().timestamp() * 1000) & 0xFFFF_FFFF_FFFF
        draw = self._rng.getrandbits(74)
        value = milliseconds << 80 | 0x7 << 76 | (draw >> 62) << 64 | 0b10 << 62 | draw & (1 << 62) - 1
        with self._lock:
            if value <= self._last or value >> 80 == self._last >> 80:
                # Same millisecond (or the clock went back): a small random step up within the random bits.
                value = self._last + 1 + self._rng.getrandbits(24)
            self._last = value
        return UUID(int=value)
