"""The context: what every part works with. A part takes it alone and reads a setting where it uses it."""

import random
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from stocksync.config import StockSyncConfig
from stocksync.store.database import Database
from stocksync.store.identifiers import Clock, NewId


class Wakeups(Protocol):
    """Brings a lane's next delivery about. Never raises: the row is the truth, and the sweep finds what is missed."""

    def wake(self, lane: str, *, force: bool = False) -> bool:
        """Have the lane drained soon. `force`: even if a wake-up seems to wait. False: nobody could be told."""

    def wake_at(self, lane: str, moment: datetime | None) -> None:
        """Have the lane drained at `moment` (aware UTC) and at no other planned time; None: at no time."""


@dataclass(frozen=True)
class Context:
    """Shared by all parts of one runtime. `clock` answers with aware UTC; `rng` is for jitter and ids."""

    config: StockSyncConfig
    database: Database
    wakeups: Wakeups
    clock: Clock
    new_id: NewId
    rng: random.Random


class Part:
    """Whatever works with a context."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._config, self._database = context.config, context.database
        self._clock, self._new_id = context.clock, context.new_id
