"""The context: what every part works with. A part takes it alone and reads a setting where it uses it."""

import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from typing import Any, TypeVar, cast
from uuid import UUID

from stocksync.config import StockSyncConfig
from stocksync.store.database import Database, Statement, uuid_of
from stocksync.store.identifiers import Clock, NewId

Method = TypeVar("Method", bound=Callable[..., Any])


class Wakeups:
    """Brings a lane's next delivery about. Never raises: the row is the truth, and the sweep finds what is missed.

    This one wakes nobody: for callers that drain by themselves.
    """

    def wake(self, lane: str, *, force: bool = False) -> bool:  # noqa: ARG002
        """Have the lane drained soon. `force`: even if a wake-up seems to wait. False: nobody could be told."""
        return True

    def wake_at(self, lane: str, moment: datetime | None) -> None:
        """Have the lane drained at `moment` (aware UTC) and at no other planned time; None: at no time."""

    def again(self, task_name: str, job_id: str | None = None) -> None:
        """Have a periodic task go on soon with what is left of its work."""

    def begin(self, lane: str) -> None:
        """The lane's job looks for work: from here on a new wake-up is needed."""

    def others_wait(self, lane: str) -> bool:  # noqa: ARG002
        """Whether another lane, or a periodic task, waits for a worker."""
        return False


Span = Callable[..., AbstractContextManager[str | None]]
"""As `delivery.tracing.Tracing.span`."""


def no_span(*_: Any, **__: Any) -> AbstractContextManager[str | None]:
    """Nothing is traced."""
    return nullcontext()


@dataclass(frozen=True)
class Context:
    """Shared by all parts of one runtime.

    `clock` answers with aware UTC; `rng` is for jitter and ids.
    """

    config: StockSyncConfig
    database: Database
    wakeups: Wakeups
    clock: Clock
    new_id: NewId
    rng: random.Random
    span: Span = no_span


class Part:
    """Whatever works with a context."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._config, self._database = context.config, context.database
        self._clock, self._new_id = context.clock, context.new_id

    def _rows(self, statement: Statement, **parameters: Any) -> Sequence[tuple[Any, ...]]:
        """What `statement` selects or returns, read at once."""
        return cast(Sequence[tuple[Any, ...]], self._database.run(statement, **parameters).fetchall())

    def _ids(self, statement: Statement, **parameters: Any) -> set[UUID]:
        """The ids in the first column of what `statement` selects or returns."""
        return {uuid_of(row[0]) for row in self._rows(statement, **parameters)}


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
planned = _inside(lambda database: database.unprepared())
"""As `connected`, for questions whose best way depends on what is asked for."""
atomic = _inside(lambda database: database.transaction_scope())
"""Decorator of a part's method: the call is one write transaction. Raises DatabaseUnavailable."""
