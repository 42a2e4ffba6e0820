"""The monitor: looks at everything that can go wrong, keeps the alerts, has people told, and says that it lives."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import urllib3
from redis.exceptions import RedisError

from stocksync.domain.alerts import KINDS, message
from stocksync.domain.errors import StockSyncError
from stocksync.domain.identifiers import Clock
from stocksync.domain.states import FAILED, PENDING
from stocksync.remote.breaker import Breaker
from stocksync.store.alerts import Alerts, Condition
from stocksync.store.conditions import Conditions
from stocksync.store.operation_lists import OperationLists
from stocksync.store.reconciliation import ReconciliationRecords
from stocksync.store.tallies import Tallies
from stocksync.upkeep.alerts import LONGEST, Messenger

log = logging.getLogger(__name__)

_IN_DOUBT_AFTER = timedelta(minutes=10)
_PROCESSES = ("worker_silent", "scheduler_silent")


@dataclass(frozen=True, slots=True)
class MonitorSettings:
    """From when on something is an alert; see the README's settings. `repeat`: told again after so long."""

    max_pending: int = 1000
    stale_hours: float = 6
    alert_on_failed: bool = True
    failure_share: float = 0.2
    failure_deliveries: int = 10
    failure_window: timedelta = timedelta(minutes=60)
    breaker_after: timedelta = timedelta(minutes=10)
    unclaimed_after: timedelta = timedelta(minutes=10)
    repeat: timedelta = timedelta(hours=6)
    language: str = "ru"
    ping_url: str | None = None


@dataclass(frozen=True, slots=True)
class Sources:
    """What the monitor looks at. `heard`: which processes live (raises RedisError); `audit`: promises that are broken."""

    lists: OperationLists
    tallies: Tallies
    conditions: Conditions
    differences: ReconciliationRecords
    breaker: Breaker
    heard: Callable[[], Mapping[str, bool]]
    audit: Callable[[], list[str]]


class Monitor:
    """Cheap enough for every minute; the audit, which is not, comes from its last run of the hour."""

    def __init__(
        self, sources: Sources, alerts: Alerts, messenger: Messenger, settings: MonitorSettings, clock: Clock
    ) -> None:
        self._sources = sources
        self._alerts = alerts
        self._messenger = messenger
        self._settings = settings
        self._clock = clock

    def run(self) -> dict[str, Any]:
        """Look, keep the alerts, send what is owed, ping. Answers with `open` (kind -> how many), `sent`, `unsent`."""
        now = self._clock()
        present, judged = self._look(now)
        self._alerts.observe(present, judged, now, now - self._settings.repeat)
        owed = self._alerts.owed()
        sent = self._tell(owed, now)
        unsent = len(owed) - sent
        if not unsent and len(judged) == len(KINDS):
            self._ping()
        return {"open": self._alerts.kinds_open(), "sent": sent, "unsent": unsent}

    def _tell(self, owed: Sequence[Mapping[str, Any]], now: datetime) -> int:
        """Send alerts in as few messages as hold them, until one is not taken. Answers with how many were told."""
        told = 0
        while told < len(owed):
            text, end = self._message(owed[told]), told + 1
            while end < len(owed) and len(more := f"{text}\n\n{self._message(owed[end])}") <= LONGEST:
                text, end = more, end + 1
            if not self._messenger.send(text):
                self._alerts.not_told(owed[told:])
                break
            self._alerts.told(owed[told:end], now)
            told = end
        return told

    def _message(self, alert: Mapping[str, Any]) -> str:
        words = (alert["kind"], alert["subject"], alert["details"], alert["owed"])
        return message(*words, self._settings.language)

    def _look(self, now: datetime) -> tuple[list[Condition], set[str]]:
        """What is the case, and the kinds of which that could be told."""
        settings, sources = self._settings, self._sources
        found: list[Condition] = []
        judged = set(KINDS)
        counts = sources.lists.by_status()
        if counts[PENDING] > settings.max_pending:
            found.append(("pending", "", {"count": counts[PENDING], "time": f"{now:%Y-%m-%d %H:%M:%S}"}))
        if stale := sources.lists.stale(now, settings.stale_hours):
            found.append(("stale", "", {"count": stale, "hours": settings.stale_hours}))
        if counts[FAILED] and settings.alert_on_failed:
            found.append(("failed", "", {"count": counts[FAILED]}))
        tally = sources.tallies.since(now - settings.failure_window)
        sends = tally["delivered"] + tally["failed"]
        if sends >= settings.failure_deliveries and tally["failed"] > settings.failure_share * sends:
            minutes = round(settings.failure_window.total_seconds() / 60)
            found.append(("failure_rate", "", {"share": tally["failed"] / sends, "minutes": minutes}))
        opened_at, reason = sources.breaker.opened()
        if opened_at is not None and now - opened_at >= settings.breaker_after:
            found.append(("breaker", "", {"minutes": _minutes(now - opened_at), "reason": reason}))
        for lane, why in sources.conditions.paused():
            found.append(("lane_paused", lane, {"reason": why or "-"}))
        oldest = sources.conditions.oldest_due(now)
        if oldest is not None and opened_at is None and now - oldest >= settings.unclaimed_after:
            found.append(("unclaimed", "", {"minutes": _minutes(now - oldest)}))
        if doubtful := sources.conditions.in_doubt(now - _IN_DOUBT_AFTER):
            found.append(("in_doubt", "", {"count": doubtful}))
        if waiting := sources.differences.count_open():
            found.append(("differences", "", {"count": waiting}))
        for lane, details in sources.conditions.unfinished(now - timedelta(days=1)):
            known = json.loads(details) if isinstance(details, str) else details
            found.append(("reconciliation", lane, {"reason": known.get("reason") or "-"}))
        try:
            if broken := sources.audit():
                found.append(("audit", "", {"checks": ", ".join(broken)}))
        except StockSyncError as error:
            log.warning("the audit could not be run (%s)", error)
            judged.discard("audit")
        try:
            heard = sources.heard()
            found += [(f"{process}_silent", "", {}) for process, alive in heard.items() if not alive]
        except (RedisError, OSError):
            found.append(("redis_away", "", {}))
            judged -= set(_PROCESSES)
        return found, judged

    def _ping(self) -> None:
        """Tell a dead-man switch that all of this still runs."""
        if self._settings.ping_url is None:
            return
        try:
            with urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(total=5)) as pool:
                pool.request("GET", self._settings.ping_url).close()
        except urllib3.exceptions.HTTPError as error:
            log.warning("the dead-man address does not answer (%s)", type(error).__name__)


def _minutes(span: timedelta) -> int:
    return int(span.total_seconds() // 60)
