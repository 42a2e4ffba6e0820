"""When a failed delivery is tried again, and when it is given up. Pure; randomness is handed in."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential delay with jitter: due uniformly in [d/2, d], d = min(initial * base^(n-1), maximum)."""

    max_attempts: int = 5
    """Failures in all, then failed."""
    initial_delay: float = 60.0
    """Seconds after the first failure, before jitter."""
    max_delay: float = 3600.0
    """Seconds, the cap of every delay."""
    exponential_base: float = 2.0
    jitter: bool = True

    @classmethod
    def of(cls, config: Any) -> RetryPolicy:
        """As the settings `retry_*` say."""
        return cls(*(getattr(config, f"retry_{each.name}") for each in fields(cls)))

    def gives_up(self, attempts: int) -> bool:
        """Whether an order with this many failures behind it is not tried again by itself."""
        return attempts >= self.max_attempts

    def longest(self, attempts: int) -> float:
        """Seconds: the upper bound of the delay after failure number `attempts` (from 1)."""
        if attempts < 1:
            raise ValueError("attempts counts from 1")
        # Compared as logarithms, so that a thousand failures do not overflow a float.
        exponent = (attempts - 1) * math.log(self.exponential_base)
        if self.initial_delay <= 0:
            return 0.0
        if math.log(self.initial_delay) + exponent >= math.log(self.max_delay):
            return float(self.max_delay)
        return float(self.initial_delay * math.exp(exponent))

    def delay(self, attempts: int, rng: random.Random) -> timedelta:
        """How long to wait after failure number `attempts` (from 1)."""
        longest = self.longest(attempts)
        return timedelta(seconds=rng.uniform(longest / 2, longest) if self.jitter else longest)
