"""Ways to break the product by hand: each must be noticed. A table of names and patches of code or of SQL statements."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from stocksync.delivery import settlement
from stocksync.delivery.answers import Verdict, retry_delay
from stocksync.delivery.breaker import Breaker
from stocksync.orders import interventions, recording, revisions
from stocksync.orders.recording import Recorder
from stocksync.store import cleanup, deliveries, lanes, operations
from stocksync.store.database import Statement
from stocksync.store.deliveries import Deliveries
from stocksync.store.lanes import Lanes
from stocksync.store.operations import Operation
from stocksync.store.order_lines import Line
from stocksync.store.reconciliation import ReconciliationRecords

Patch = tuple[Any, str, Any]
"""Where, which name, what instead."""
Mutation = Callable[[], AbstractContextManager[None]]


@contextmanager
def _patched(patches: Callable[[], list[Patch]]) -> Iterator[None]:
    made = patches()
    before = [(where, name, where.__dict__[name]) for where, name, _ in made]
    try:
        for where, name, instead in made:
            setattr(where, name, instead)
        yield
    finally:
        for where, name, was in before:
            setattr(where, name, was)


def _sql(where: Any, name: str, *changes: tuple[str, str]) -> Patch:
    """A statement with other words. Raises AssertionError when it does not hold the words that are to go."""
    text = str(getattr(where, name))
    for old, new in changes:
        assert old in text, f"{name} does not say {old!r}"
        text = text.replace(old, new)
    return where, name, Statement(text)


def _fence_not_checked() -> list[Patch]:
    free = ("{no_index}claim_id = :claim_id", ":claim_id IS NOT NULL")
    return [_sql(deliveries, "_DELIVERED", free), _sql(deliveries, "_NOT_DELIVERED", free)]


def _wake_up_before_commit() -> list[Patch]:
    def wake(recorder: Recorder, lane: str) -> None:
        recorder.context.wakeups.wake(lane)

    return [(Recorder, "wake_after_commit", wake)]


def _attempt_counted_in_an_outage() -> list[Patch]:
    rightly: Any = vars(settlement)["decide_retry"]

    def decide(answer: Any, **given: Any) -> Any:
        if answer.verdict is not Verdict.UNCLEAR:
            return rightly(answer, **given)
        if given["attempts"] + 1 >= given["config"].retry_max_attempts:
            return True, None, "failed"
        return True, given["now"] + retry_delay(given["config"], given["attempts"] + 1, given["rng"]), "retry"

    return [(settlement, "decide_retry", decide)]


def _key_not_unique() -> list[Patch]:
    asked = Operation.asked.__func__  # type: ignore[attr-defined]

    def without_keys(kind: Any, *args: Any, **given: Any) -> Any:
        operation = asked(kind, *args, **given)
        operation.keys = ()
        return operation

    return [(Operation, "asked", classmethod(without_keys))]


def _lease_never_ends() -> list[Patch]:
    return [
        _sql(
            deliveries,
            "_RESCUE",
            (
                "lease_until NOT BETWEEN :now AND :latest",
                "lease_until NOT BETWEEN :now AND :latest AND FALSE",
            ),
        )
    ]


def _claim_of_another_taken() -> list[Patch]:
    claims = {
        kind: Statement(text.replace("AND claim_id IS NULL AND", "AND"))
        for kind, text in lanes._CLAIMS.items()
    }
    return [(lanes, "_CLAIMS", claims)]


def _due_cleared_at_claim() -> list[Patch]:
    claims = {
        kind: Statement(text.replace("SET claim_id", "SET due_at = NULL, claim_id"))
        for kind, text in lanes._CLAIMS.items()
    }
    return [(lanes, "_CLAIMS", claims)]


def _version_not_bumped() -> list[Patch]:
    still = ("state_version = state_version + 1", "state_version = state_version")
    return [_sql(where, "SCHEDULE_ORDER", still) for where in (recording, interventions, operations)]


def _merge_forgets_the_old_order() -> list[Patch]:
    rightly = revisions._handed_over

    class Forgetful:
        def __init__(self, recorder: Recorder) -> None:
            self._recorder = recorder

        def __getattr__(self, name: str) -> Any:
            return getattr(self._recorder, name)

        def record(self, *_: Any, **__: Any) -> None: ...

    def forget(recorder: Any, *rest: Any) -> Any:
        return rightly(Forgetful(recorder), *rest)  # type: ignore[arg-type]

    return [(revisions, "_handed_over", forget)]


def _lost_fence_not_told_again() -> list[Patch]:
    return [_sql(deliveries, "_TELL_AGAIN", ("WHERE id IN", "WHERE FALSE AND id IN"))]


def _sweep_does_not_rescue() -> list[Patch]:
    return [(Deliveries, "rescue", lambda *_: 0)]


def _sweep_wakes_nobody() -> list[Patch]:
    return [(Lanes, "due_lanes", lambda _: {})]


def _refund_exceeds_its_line() -> list[Patch]:
    def left(line: Line) -> int:
        return line.deducted

    bound = ("AND refunded + given.quantity <= deducted", "")
    return [_sql(recording, "REFUND_LINES", bound), (Line, "left", property(left))]


def _cancelled_after_completion_not_told() -> list[Patch]:
    rightly = recording.order_state

    def state(lines: Any, **given: Any) -> bool | None:
        return rightly(lines, **given) or None

    return [(recording, "order_state", state)]


def _breaker_never_closes() -> list[Patch]:
    return [(Breaker, "served", lambda _: False)]


def _newest_counts_as_delivered() -> list[Patch]:
    return [
        _sql(
            deliveries,
            "_DELIVERED",
            ("delivered_version = claimed_version", "delivered_version = state_version"),
            ("state_version > claimed_version", "FALSE"),
        )
    ]


def _newer_operations_completed() -> list[Patch]:
    return [_sql(deliveries, "_COMPLETE", ("(SELECT delivered_version FROM", "(SELECT state_version FROM"))]


def _newer_version_not_kept_due() -> list[Patch]:
    return [_sql(deliveries, "_DELIVERED", ("state_version > claimed_version", "FALSE"))]


def _clean_up_takes_live_rows() -> list[Patch]:
    return [(cleanup, "_OPERATIONS", (*cleanup._OPERATIONS, "pending", "failed"))]


def _clean_up_forgets_what_it_took() -> list[Patch]:
    return [_sql(cleanup, "_REMEMBER", ("WHERE id IN", "WHERE FALSE AND id IN"))]


def _reconciliation_repairs_nothing() -> list[Patch]:
    return [(ReconciliationRecords, "tell_again", lambda *_: False)]


MUTATIONS: dict[str, Mutation] = {
    patches.__name__.strip("_"): (lambda patches=patches: _patched(patches))  # type: ignore[misc]
    for patches in (
        _fence_not_checked,
        _wake_up_before_commit,
        _attempt_counted_in_an_outage,
        _key_not_unique,
        _lease_never_ends,
        _claim_of_another_taken,
        _due_cleared_at_claim,
        _version_not_bumped,
        _merge_forgets_the_old_order,
        _lost_fence_not_told_again,
        _sweep_does_not_rescue,
        _sweep_wakes_nobody,
        _refund_exceeds_its_line,
        _cancelled_after_completion_not_told,
        _breaker_never_closes,
        _newest_counts_as_delivered,
        _newer_operations_completed,
        _newer_version_not_kept_due,
        _clean_up_takes_live_rows,
        _clean_up_forgets_what_it_took,
        _reconciliation_repairs_nothing,
    )
}
