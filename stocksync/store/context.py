"""The context: what every part works with. A part takes it alone and reads a setting where it uses it."""

import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from typing import Any, Protocol, TypeVar, cast

from stocksync.config import StockSyncConfig
from stocksync.store.database import Database
from stocksync.store.identifiers import Clock, NewId

Method = TypeVar("Method", bound=Callable[..., Any])


class Wakeups(Protocol):
    """Brings a lane's next delivery about. Never raises: the row is the truth, and the sweep finds what is missed."""

    def wake(self, lane: str, *, force: bool = False) -> bool:
        """Have the lane drained soon. `force`: even if a wake-up seems to wait. False: nobody could be told."""

    def wake_at(self, lane: str, moment: datetime | None) -> None:
        """Have the lane drained at `moment` (aware UTC) and at no other planned time; None: at no time."""

    def again(self, task: str, job_id: str | None = None) -> bool:
        """Have a periodic task run soon, in a job of that id. False: nobody could be told; its next time comes."""


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


def _inside(block: Callable[[Database], AbstractContextManager[None]]) -> Callable[[Method], Method]:
    def decorate(method: Method) -> Method:
        @wraps(method)
        def inside(part: Part, /, *args: Any, **kwargs: Any) -> Any:
            with block(part.context.database):
                return method(part, *args, **kwargs)

        return cast(Method, inside)

    return decorate


connected = _inside(lambda database: database.scope())
"""Decorator of a part's method: its thread has a connection for as long as the call lasts."""
atomic = _inside(lambda database: database.transaction_scope())
"""Decorator of a part's method: the call is one write transaction. Raises DatabaseUnavailable."""
