"""One action on many operations, each in a transaction of its own: what was done, what was skipped and why."""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from uuid import UUID

from stocksync.errors import DatabaseUnavailable, StockSyncError, TransitionRefused
from stocksync.store.operation_lists import Filter, OperationLists

LONGEST = 20.0
"""Seconds that one call may take; what is left waits for the next."""


@dataclass(slots=True)
class BulkReport:
    """`skipped`: reason -> operations; a status where that was the reason. `next`: go on below it; None: at the end."""

    done: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    next: UUID | None = None


def matching(lists: OperationLists, wanted: Filter, before: UUID | None = None) -> Iterator[UUID]:
    """The ids of all that match, read in slices, the newest first; what is recorded meanwhile is left out."""
    while ids := lists.ids(wanted, 200, before):
        yield from ids
        before = ids[-1]


def act_on(
    ids: Iterable[UUID],
    act: Callable[[UUID], object],
    *,
    longest: float = LONGEST,
    monotonic: Callable[[], float] = time.monotonic,
) -> BulkReport:
    """Call `act` for each; what it refuses is skipped.

    Raises:
        DatabaseUnavailable: what was done before holds.
    """
    report, ends, last = BulkReport(), monotonic() + longest, None
    for operation_id in ids:
        if last is not None and monotonic() >= ends:
            report.next = last
            break
        try:
            act(operation_id)
            report.done += 1
        except DatabaseUnavailable:
            raise
        except TransitionRefused as error:
            report.skipped[error.status] += 1
        except StockSyncError as error:  # `in_doubt`, `unknown_operation`
            report.skipped[re.sub(r"(?<!^)([A-Z])", r"_\1", type(error).__name__).lower()] += 1
        last = operation_id
    return report
