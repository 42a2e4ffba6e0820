"""The monitor: looks at everything that can go wrong, keeps the alerts, has people told, and says that it lives."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from redis.exceptions import RedisError

from stocksync.delivery.breaker import Breaker
from stocksync.errors import StockSyncError, needs_extra
from stocksync.store.alerts import Alerts, Condition
from stocksync.store.conditions import Conditions
from stocksync.store.context import Context, Part
from stocksync.store.operation_lists import OperationLists
from stocksync.store.reconciliation import ReconciliationRecords
from stocksync.store.states import FAILED, PENDING
from stocksync.store.tallies import Tallies
from stocksync.upkeep.alert_texts import KINDS, message
from stocksync.upkeep.messenger import LONGEST, Messenger

log = logging.getLogger(__name__)

_IN_DOUBT_AFTER = timedelta(minutes=10)
_PROCESSES = ("worker_silent", "scheduler_silent")


class Monitor(Part):
    """Cheap enough for every minute; the audit, which is not, comes from its last run of the hour."""

    def __init__(
        self,
        context: Context,
        messenger: Messenger,
        breaker: Breaker,
        heard: Callable[[], Mapping[str, bool]],
        audit: Callable[[], list[str]],
    ) -> None:
        """
        Args:
            heard: which processes live; raises RedisError.
            audit: the promises that are broken.
        """
        super().__init__(context)
        self._messenger, self._breaker, self._heard, self._audit = messenger, breaker, heard, audit
        self._alerts, self._tallies = Alerts(context), Tallies(context)
        self._lists, self._conditions = OperationLists(context), Conditions(context)
        self._differences = ReconciliationRecords(context)

    def run(self) -> dict[str, Any]:
        """Look, keep the alerts, send what is owed, ping. Answers with `open` (kind -> how many), `sent`, `unsent`."""
        now = self._clock()
        present, judged = self._look(now)
        self._alerts.observe(present, judged, now, now - timedelta(hours=self._config.alert_repeat_hours))
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
        return message(*words, self._config.alert_language)

    def _look(self, now: datetime) -> tuple[list[Condition], set[str]]:
        """What is the case, and the kinds of which that could be told."""
        config = self._config
        window = timedelta(minutes=config.monitoring_failure_window_minutes)
        found: list[Condition] = []
        judged = set(KINDS)
        counts = self._lists.by_status()
        if counts[PENDING] > config.monitoring_max_pending_operations:
            found.append(("pending", "", {"count": counts[PENDING], "time": f"{now:%Y-%m-%d %H:%M:%S}"}))
        if stale := self._lists.stale(now, config.monitoring_stale_operation_hours):
            found.append(("stale", "", {"count": stale, "hours": config.monitoring_stale_operation_hours}))
        if counts[FAILED] and config.monitoring_alert_on_failed_retries:
            found.append(("failed", "", {"count": counts[FAILED]}))
        tally = self._tallies.since(now - window)
        sends = tally["delivered"] + tally["failed"]
        if (
            sends >= config.monitoring_failure_deliveries
            and tally["failed"] > config.monitoring_failure_share * sends
        ):
            found.append(
                ("failure_rate", "", {"share": tally["failed"] / sends, "minutes": _minutes(window)})
            )
        opened_at, reason = self._breaker.opened()
        if opened_at is not None and now - opened_at >= timedelta(minutes=config.monitoring_breaker_minutes):
            found.append(("breaker", "", {"minutes": _minutes(now - opened_at), "reason": reason}))
        for lane, why in self._conditions.paused():
            found.append(("lane_paused", lane, {"reason": why or "-"}))
        oldest = self._conditions.oldest_due(now)
        if (
            oldest is not None
            and opened_at is None
            and now - oldest >= timedelta(minutes=config.monitoring_unclaimed_minutes)
        ):
            found.append(("unclaimed", "", {"minutes": _minutes(now - oldest)}))
        if doubtful := self._conditions.in_doubt(now - _IN_DOUBT_AFTER):
            found.append(("in_doubt", "", {"count": doubtful}))
        if waiting := self._differences.count_open():
            found.append(("differences", "", {"count": waiting}))
        for lane, details in self._conditions.unfinished(now - timedelta(days=1)):
            known = json.loads(details) if isinstance(details, str) else details
            found.append(("reconciliation", lane, {"reason": known.get("reason") or "-"}))
        try:
            if broken := self._audit():
                found.append(("audit", "", {"checks": ", ".join(broken)}))
        except StockSyncError as error:
            log.warning("the audit could not be run (%s)", error)
            judged.discard("audit")
        try:
            heard = self._heard()
            found += [(f"{process}_silent", "", {}) for process, alive in heard.items() if not alive]
        except (RedisError, OSError):
            found.append(("redis_away", "", {}))
            judged -= set(_PROCESSES)
        return found, judged

    def _ping(self) -> None:
        """Tell a dead-man switch that all of this still runs."""
        url = self._config.monitoring_ping_url
        if url is None:
            return
        with needs_extra("worker"):
            import requests
        try:
            requests.get(url.get_secret_value(), timeout=5, stream=True).close()
        except requests.RequestException as error:
            log.warning("the dead-man address does not answer (%s)", type(error).__name__)


def _minutes(span: timedelta) -> int:
    return int(span.total_seconds() // 60)
