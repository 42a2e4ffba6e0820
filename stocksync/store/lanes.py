"""Lanes: pausing, snoozing and resuming the work of one seller account. The only writer of their state."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from stocksync.store.context import Part
from stocksync.store.database import Statement
from stocksync.store.fields import as_utc

_STATE = Statement(
    "SELECT paused, paused_reason, snoozed_until FROM stock_sync_accounts WHERE token_id = :lane"
)
_SNOOZE = Statement("""
    UPDATE stock_sync_accounts SET snoozed_until = :until, paused_reason = :reason
    WHERE token_id = :lane AND NOT paused""")
_PAUSE = Statement("""
    UPDATE stock_sync_accounts SET paused = TRUE, paused_reason = :reason WHERE token_id = :lane AND NOT paused
    RETURNING token_id""")
_RESUME = Statement("""
    UPDATE stock_sync_accounts SET paused = FALSE, paused_reason = NULL, snoozed_until = NULL
    WHERE token_id = :lane RETURNING token_id""")


@dataclass(frozen=True, slots=True)
class LaneState:
    """Whether a lane is worked on. `reason`: why not, or why it is only tried with one order at a time."""

    paused: bool = False
    reason: str | None = None
    snoozed_until: datetime | None = None


class Lanes(Part):
    """Reads and changes lanes, each change a transaction of its own."""

    def state(self, lane: str) -> LaneState:
        """The lane as it is; a lane never seen is an open one."""
        row = self._database.run(_STATE, lane=lane).fetchone()
        return LaneState() if row is None else LaneState(bool(row[0]), row[1], as_utc(row[2]))

    def snooze(self, lane: str, until: datetime, reason: str | None = None) -> None:
        """Leave the lane alone until `until`."""
        with self._database.transaction_scope():
            self._database.run(_SNOOZE, lane=lane, until=until, reason=reason)

    def pause(self, lane: str, reason: str) -> bool:
        """Leave the lane alone until a person resumes it. False: it was paused already."""
        with self._database.transaction_scope():
            return self._database.run(_PAUSE, lane=lane, reason=reason).fetchone() is not None

    def resume(self, lane: str) -> bool:
        """Work on the lane again. False: there is no such lane."""
        with self._database.transaction_scope():
            return self._database.run(_RESUME, lane=lane).fetchone() is not None
