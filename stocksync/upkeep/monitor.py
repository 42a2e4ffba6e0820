"""The monitor: looks at everything that can go wrong, keeps the alerts, has people told, and says that it lives."""

import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from redis.exceptions import RedisError

from stocksync.delivery.breaker import Breaker
from stocksync.errors import StockSyncError, needs_extra
from stocksync.store.context import Context, Part
from stocksync.store.operation_lists import Filter, OperationLists
from stocksync.store.queries import Queries
from stocksync.store.reconciliation import ReconciliationRecords
from stocksync.store.states import FAILED, PENDING
from stocksync.store.tallies import Tallies
from stocksync.store.upkeep import Alerts, Condition
from stocksync.upkeep.alert_texts import KINDS, message

log = logging.getLogger(__name__)


class Monitor(Part):
    """Cheap enough for every minute; the audit, which is not, comes from its last run of the hour."""

    def __init__(
        self,
        context: Context,
        send: Callable[[str], bool],
        breaker: Breaker,
        heard: Callable[[], Mapping[str, bool]],
        audit: Callable[[], list[str]],
    ) -> None:
        """
        Args:
            send: has people told, in one message or several; False: not everybody got all of it.
            heard: which processes live; raises RedisError.
            audit: the promises that are broken.
        """
        super().__init__(context)
        self._send, self._breaker, self._heard, self._audit = send, breaker, heard, audit
        self._alerts, self._records = Alerts(context), ReconciliationRecords(context)

    def run(self) -> dict[str, Any]:
        """Look, keep the alerts, send what is pending, ping. Returns `open` (kind -> how many), `sent`, `unsent`."""
        now = self._clock()
        present, judged = self._look(now)
        self._alerts.observe(present, judged, now, now - timedelta(hours=self._config.alert_repeat_hours))
        pending, language = self._alerts.pending_notifications(), self._config.alert_language
        texts = [
            message(one["kind"], one["subject"], one["details"], one["pending_notification"], language)
            for one in pending
        ]
        took = not texts or self._send("\n\n".join(texts))
        if took:
            self._alerts.notified(pending, now)
        else:
            self._alerts.not_notified(pending)
        if took and len(judged) == len(KINDS):
            self._ping()
        sent = len(pending) if took else 0
        return {"open": self._alerts.kinds_open(), "sent": sent, "unsent": len(pending) - sent}

    def _look(self, now: datetime) -> tuple[list[Condition], set[str]]:
        """What is the case, and the kinds of which that could be told."""
        config, lists = self._config, OperationLists(self.context)
        counts = lists.by_status()
        stale = lists.stale(now, config.monitoring_stale_operation_hours)
        window = config.monitoring_failure_window_minutes
        tally = Tallies(self.context).since(now - timedelta(minutes=window))
        sends = tally["delivered"] + tally["failed"]
        share = tally["failed"] / sends if sends >= config.monitoring_failure_deliveries else 0.0
        opened_at, reason = self._breaker.opened()
        away = _minutes(opened_at, now)
        unclaimed = _minutes(Queries(self.context).oldest_due(now), now)
        doubtful = lists.count_all(Filter(in_doubt=True, until=now - timedelta(minutes=10)))
        differences = self._records.count_open()
        overall: tuple[tuple[str, Any, dict[str, Any]], ...] = (
            (
                "pending",
                counts[PENDING] > config.monitoring_max_pending_operations,
                {"count": counts[PENDING], "time": f"{now:%Y-%m-%d %H:%M:%S}"},
            ),
            ("stale", stale, {"count": stale, "hours": config.monitoring_stale_operation_hours}),
            (
                "failed",
                counts[FAILED] and config.monitoring_alert_on_failed_retries,
                {"count": counts[FAILED]},
            ),
            ("failure_rate", share > config.monitoring_failure_share, {"share": share, "minutes": window}),
            ("breaker", away >= config.monitoring_breaker_minutes, {"minutes": int(away), "reason": reason}),
            (
                "unclaimed",
                opened_at is None and unclaimed >= config.monitoring_unclaimed_minutes,
                {"minutes": int(unclaimed)},
            ),
            ("in_doubt", doubtful, {"count": doubtful}),
            ("differences", differences, {"count": differences}),
        )
        found = [(kind, "", details) for kind, is_so, details in overall if is_so] + self._of_sellers(now)
        return found, set(KINDS) - self._ask_others(found)

    def _of_sellers(self, now: datetime) -> list[Condition]:
        """Who is paused, and whose newest reconciliation did not come to its end."""
        return [
            *(
                ("lane_paused", lane["token_id"], {"reason": lane["paused_reason"] or "-"})
                for lane in Queries(self.context).lanes()
                if lane["paused"]
            ),
            *(
                ("reconciliation", seller, {"reason": run.get("reason") or "-"})
                for seller, run in self._records.unfinished(now - timedelta(days=1))
            ),
        ]

    def _ask_others(self, found: list[Condition]) -> set[str]:
        """Add what the audit and Redis say; returns the kinds of which they could say nothing."""
        unknown: set[str] = set()
        try:
            if broken := self._audit():
                found.append(("audit", "", {"checks": ", ".join(broken)}))
        except StockSyncError as error:
            log.warning("the audit could not be run (%s)", error)
            unknown.add("audit")
        try:
            found += [(f"{process}_silent", "", {}) for process, alive in self._heard().items() if not alive]
        except (RedisError, OSError):
            found.append(("redis_away", "", {}))
            unknown |= {"worker_silent", "scheduler_silent"}
        return unknown

    def _ping(self) -> None:
        """Tell a dead-man switch that all of this still runs."""
        if url := self._config.monitoring_ping_url:
            with needs_extra("worker"):
                import requests
            try:
                requests.get(url.get_secret_value(), timeout=5, stream=True).close()
            except requests.RequestException as error:
                log.warning("the dead-man address does not answer (%s)", type(error).__name__)


def _minutes(since: datetime | None, now: datetime) -> float:
    """Minutes since then; -1: nothing has begun."""
    return -1 if since is None else (now - since) / timedelta(minutes=1)
