"""The breaker of the remote, shared by all workers: closed, open, half-open (one probe at a time).

What it knows lives in Redis; without Redis it counts as closed, because the row is the truth and a request more
is the lesser harm. A process without Redis keeps the same in its own memory.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Protocol

from redis import Redis
from redis.exceptions import RedisError

from stocksync.store.identifiers import Clock
from stocksync.store.outages import REMOTE, Outage

OUTAGE = "outage"
CREDENTIALS = "credentials"


class Gate(Enum):
    """What a worker may send now."""

    CLOSED = "closed"
    """Everything that is due."""
    PROBE = "probe"
    """One order, or a question for the remote's health; nobody else does the same meanwhile."""
    OPEN = "open"
    """Nothing before `until`."""


@dataclass(frozen=True, slots=True)
class Admission:
    """The breaker's answer. `until` (aware UTC) is when to ask again, where the gate is open."""

    gate: Gate
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """When it opens and how often it probes. Times in seconds."""

    failures_in_a_row: int = 5
    window: float = 30.0
    failing_share: float = 0.5
    fewest_answers: int = 20
    """Of `window` seconds that are judged by the share that failed."""
    first_interval: float = 5.0
    longest_interval: float = 30.0
    credentials_interval: float = 60.0
    probe_lasts: float = 20.0
    """How long a probe is somebody's, if that somebody dies."""


class BreakerMemory(Protocol):
    """Where the breaker's few words are kept. May raise RedisError or OSError."""

    def read(self) -> Mapping[str, str]:
        """All words; empty when there are none."""

    def write(self, words: Mapping[str, str]) -> None:
        """Add or replace words."""

    def add_failures(self, times: int) -> int:
        """Count more failures in a row; answers with the count."""

    def take_probe(self, seconds: float) -> bool:
        """Become the one who probes, for at most `seconds`; False: somebody else is."""

    def give_probe_back(self) -> None:
        """Let the next one probe."""


class RedisBreakerMemory:
    """One hash and one lock under our prefix."""

    def __init__(self, connection: Redis, prefix: str) -> None:
        """`connection`: with short timeouts and no retries."""
        self._redis = connection
        self._key = f"{prefix}:breaker"
        self._probe_key = f"{prefix}:breaker:probe"

    def read(self) -> Mapping[str, str]:
        found: Mapping[bytes, bytes] = self._redis.hgetall(self._key)  # type: ignore[assignment]
        return {name.decode(): value.decode() for name, value in found.items()}

    def write(self, words: Mapping[str, str]) -> None:
        self._redis.hset(self._key, mapping=dict(words))  # type: ignore[arg-type]

    def add_failures(self, times: int) -> int:
        return int(self._redis.hincrby(self._key, "failures", times))

    def take_probe(self, seconds: float) -> bool:
        return bool(self._redis.set(self._probe_key, "1", nx=True, px=int(seconds * 1000)))

    def give_probe_back(self) -> None:
        self._redis.delete(self._probe_key)


class LocalBreakerMemory:
    """The same within one process, for those that work without Redis. Its clock decides when a probe is over."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._words: dict[str, str] = {}
        self._probe_until: datetime | None = None

    def read(self) -> Mapping[str, str]:
        return dict(self._words)

    def write(self, words: Mapping[str, str]) -> None:
        self._words.update(words)

    def add_failures(self, times: int) -> int:
        self._words["failures"] = str(int(self._words.get("failures", "0")) + times)
        return int(self._words["failures"])

    def take_probe(self, seconds: float) -> bool:
        if self._probe_until is not None and self._clock() < self._probe_until:
            return False
        self._probe_until = self._clock() + timedelta(seconds=seconds)
        return True

    def give_probe_back(self) -> None:
        self._probe_until = None


class Breaker:
    """Decides whether to send. Never raises: a memory that can't be reached counts as closed."""

    def __init__(self, memory: BreakerMemory, settings: BreakerSettings, clock: Clock) -> None:
        self._memory = memory
        self._settings = settings
        self._clock = clock
        self._served_at: datetime | None = None
        self._window: deque[tuple[datetime, int, int]] = deque()
        self._counting = threading.Lock()
        self._outage = Outage(REMOTE, clock)

    def open_until(self) -> datetime | None:
        """When to ask again; None: it is closed."""
        return _while_open(self._read(), "probe_at")

    def opened(self) -> tuple[datetime | None, str | None]:
        """Since when it has been open, and why (`outage`, `credentials`); (None, None): it is closed."""
        words = self._read()
        since = _while_open(words, "opened_at")
        return since, None if since is None else words.get("reason", OUTAGE)

    def _read(self) -> Mapping[str, str]:
        try:
            return self._memory.read()
        except (RedisError, OSError):
            return {}  # counts as closed, as everywhere here

    def admit(self) -> Admission:
        """What may be sent now. After `Gate.PROBE` the caller says `served` or `failed`."""
        words = self._read()
        until = _while_open(words, "probe_at")
        if (
            words.get("state") == "closed"
        ):  # by whoever noticed first; no word at all says nothing of the remote
            self._outage.ends()
        if until is None:
            return Admission(Gate.CLOSED)
        self._outage.begins(words.get("reason", OUTAGE), _while_open(words, "opened_at"))
        if until > self._clock():
            return Admission(Gate.OPEN, until)
        try:
            if self._memory.take_probe(self._settings.probe_lasts):
                return Admission(Gate.PROBE)
        except (RedisError, OSError):
            return Admission(Gate.CLOSED)
        return Admission(Gate.OPEN, self._clock() + timedelta(seconds=self._settings.first_interval))

    def tally(self, served: int, failed: int) -> bool:
        """Count answers of this process. True: a high share of those in the window failed.

        The window is each worker's own: all ask the same remote, and what one concludes they share.
        """
        now = self._clock()
        with self._counting:
            self._window.append((now, served, failed))
            while (now - self._window[0][0]).total_seconds() > self._settings.window:
                self._window.popleft()
            failures = sum(failed for _, _, failed in self._window)
            answers = failures + sum(served for _, served, _ in self._window)
        return answers >= self._settings.fewest_answers and failures >= self._settings.failing_share * answers

    def served(self) -> bool:
        """The remote answered somebody in a way that shows it works. True: this closed the breaker."""
        self._served_at = self._clock()
        self._outage.ends()
        try:
            opened = self._memory.read().get("state") == "open"
            self._memory.write({"state": "closed", "failures": "0", "served_at": self._clock().isoformat()})
            if opened:
                self._memory.give_probe_back()
            return opened
        except (RedisError, OSError):
            return False

    def failed(
        self, reason: str = OUTAGE, *, times: int = 1, probing: bool = False, mostly: bool = False
    ) -> bool:
        """The remote gave no answer that tells anything, or refuses our credentials. True: the breaker is open.

        Args:
            times: failures in a row since the remote last served anybody.
            probing: the one that was let through to see.
            mostly: `tally` says so, whatever came last.
        """
        try:
            failures = self._memory.add_failures(times)
            few = failures < self._settings.failures_in_a_row
            if few and reason == OUTAGE and not probing and not mostly:
                return False
            with self._counting:
                self._window.clear()
            self._open(reason, probing)
            return True
        except (RedisError, OSError):
            return False

    def served_at(self) -> datetime | None:
        """When the remote last served anybody, as far as is known (aware UTC)."""
        try:
            return datetime.fromisoformat(self._read()["served_at"]).astimezone(UTC)
        except (KeyError, ValueError):
            return self._served_at

    def _open(self, reason: str, probing: bool) -> None:
        known = self._memory.read()
        was_open, settings = known.get("state") == "open", self._settings
        interval = settings.first_interval
        if reason == CREDENTIALS:
            interval = settings.credentials_interval
        elif was_open:
            last = float(known.get("interval", interval))
            # Only a probe's failure makes the waits longer; those that were under way say nothing new.
            interval = min(last * 2, settings.longest_interval) if probing else last
            if not probing:
                return
        until = self._clock() + timedelta(seconds=interval)
        words = {"state": "open", "reason": reason, "interval": str(interval), "probe_at": until.isoformat()}
        words |= {} if was_open else {"opened_at": self._clock().isoformat()}
        self._memory.write(words)
        self._memory.give_probe_back()
        self._outage.begins(reason)


def _while_open(words: Mapping[str, str], name: str) -> datetime | None:
    """A moment among the words; None: the breaker is not open, or it can't be read, which counts as that."""
    try:
        return datetime.fromisoformat(words[name]) if words.get("state") == "open" else None
    except (KeyError, ValueError):
        return None
