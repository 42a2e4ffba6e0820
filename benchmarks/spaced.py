"""Calls with pauses, so that each finds an idle worker."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

_MOST_SECONDS = 30.0


def call_one_by_one(
    names: Sequence[str], call: Callable[[str], object], is_done: Callable[[str], bool], pause: float = 0.0
) -> dict[str, float]:
    """When (monotonic seconds) `call` returned for each name; the next call comes once `is_done` says so.

    Args:
        pause: most seconds to wait between two calls, beside 20 to 50 ms, as chance has it.
    """
    returned = {}
    for name in names:
        call(name)
        returned[name] = time.monotonic()
        deadline = returned[name] + _MOST_SECONDS
        time.sleep(0.02)  # whoever asks at once disturbs what is measured
        while not is_done(name):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name} was not delivered within {_MOST_SECONDS:g} s")
            time.sleep(0.02)
        time.sleep(random.uniform(0.02, 0.05) + random.uniform(0.0, pause))
    return returned
