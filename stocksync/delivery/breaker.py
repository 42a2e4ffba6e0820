"""The breaker of the remote, shared by all workers: closed, open, half-open (one probe at a time).

Its state is a hash in Redis. Without Redis it counts as closed, because the row is the truth and a request more is
the lesser harm. A process that works without Redis keeps the same in its own memory.
"""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

from redis import Redis
from redis.exceptions import RedisError

from stocksync.store.identifiers import Clock
from stocksync.store.outages import REMOTE, Outage

OUTAGE, CREDENTIALS = "outage", "credentials"
"""Why it is open."""
Gate = Literal["closed", "probe", "open"]
"""What a worker may send now: everything that is due; one order, or a question for the remote's health; nothing."""

FAILURES_IN_A_ROW = 5
# Or this share of at least so many answers in a window of so many seconds.
FAILING_SHARE, FEWEST_ANSWERS, WINDOW = 0.5, 20, 30
FIRST_INTERVAL, LONGEST_INTERVAL, CREDENTIALS_INTERVAL = 5.0, 30.0, 60.0
"""Seconds between probes."""
PROBE_LASTS = 20_000
"""Milliseconds that a probe is somebody's, if that somebody dies."""


class LocalMemory(dict[bytes, bytes]):
    """The Redis commands that the breaker uses, within one process. There one drain at a time may probe anyway."""

    def hgetall(self, _key: str) -> dict[bytes, bytes]:
        return self

    def hset(self, _key: str, mapping: Mapping[str, str]) -> None:
        self.update({name.encode(): value.encode() for name, value in mapping.items()})

    def hincrby(self, key: str, name: str, amount: int) -> int:
        self.hset(key, {name: str(int(self.get(name.encode(), 0)) + amount)})
        return int(self[name.encode()])

    def set(self, *_: str, **__: object) -> bool:
        return True


class Breaker:
    """Decides whether to send. Never raises: a memory that can't be reached counts as closed."""

    def __init__(self, memory: Redis | LocalMemory, prefix: str, clock: Clock) -> None:
        """`memory`: a Redis client with short timeouts and no retries, or this process's own."""
        self._memory: Any = memory
        self._key = f"{prefix}:breaker"
        self._clock = clock
        self._served_at: datetime | None = None
        self._window: Counter[tuple[int, bool]] = Counter()
        """Answers by the second in which they came, and whether they failed."""
        self._outage = Outage(REMOTE, clock)

    def open_until(self) -> datetime | None:
        """When to ask again; None: it is closed."""
        state = self._read()
        return state.get("probe_at") if state.get("state") == "open" else None

    def opened(self) -> tuple[datetime | None, str | None]:
        """Since when it has been open, and why (`outage`, `credentials`); (None, None): it is closed."""
        state = self._read()
        is_open = state.get("state") == "open"
        return (state.get("opened_at"), state.get("reason", OUTAGE)) if is_open else (None, None)

    def served_at(self) -> datetime | None:
        """When the remote last served anybody, as far as is known (aware UTC)."""
        return self._read().get("served_at") or self._served_at

    def _read(self) -> dict[str, Any]:
        """The state, with its moments as such; without anything, if it can't be read, it counts as closed."""
        try:
            return {
                name.decode(): datetime.fromisoformat(value.decode())
                if name.endswith(b"_at")
                else value.decode()
                for name, value in self._memory.hgetall(self._key).items()
            }
        except (RedisError, OSError, ValueError):
            return {}

    def admit(self) -> Gate:
        """What may be sent now. After `probe` the caller says `served` or `failed`."""
        state = self._read()
        # No state at all says nothing of the remote.
        if state.get("state") == "closed":
            self._outage.ends()
        until = state.get("probe_at")
        if state.get("state") != "open" or until is None:
            return "closed"
        self._outage.begins(state.get("reason", OUTAGE), state.get("opened_at"))
        ahead = (until - self._clock()).total_seconds()
        try:
            # Further ahead than any: whoever opened it has a clock that is hours ahead.
            probes = not 0 < ahead <= CREDENTIALS_INTERVAL and self._memory.set(
                f"{self._key}:probe:{until.isoformat()}",  # of this interval: each has one
                "1",
                nx=True,
                px=PROBE_LASTS,
            )
            return "probe" if probes else "open"
        except (RedisError, OSError):
            return "probe"  # it was open a moment ago, and now nobody can be asked who probes

    def tally(self, served: int, failed: int) -> bool:
        """Count answers of this process. True: a high share of those in the window failed.

        The window is each worker's own: all ask the same remote, and what one concludes they share.
        """
        now = int(self._clock().timestamp())
        fresh = Counter({key: number for key, number in self._window.items() if abs(now - key[0]) <= WINDOW})
        # Of threads that count at once one may lose its few answers; the share hardly changes.
        self._window = window = fresh + Counter({(now, False): served, (now, True): failed})
        failures = sum(number for (_, is_failure), number in window.items() if is_failure)
        return window.total() >= FEWEST_ANSWERS and failures >= FAILING_SHARE * window.total()

    def served(self) -> bool:
        """The remote answered somebody in a way that shows it works. True: this closed the breaker."""
        self._served_at = now = self._clock()
        self._outage.ends()
        was_open = self._read().get("state") == "open"
        try:
            self._memory.hset(
                self._key, mapping={"state": "closed", "failures": "0", "served_at": now.isoformat()}
            )
            return was_open
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
            failures = self._memory.hincrby(self._key, "failures", times)
            if failures < FAILURES_IN_A_ROW and reason == OUTAGE and not probing and not mostly:
                return False
            self._window = Counter()
            known = self._read()
            was_open = known.get("state") == "open"
            interval = CREDENTIALS_INTERVAL if reason == CREDENTIALS else FIRST_INTERVAL
            if was_open and reason == OUTAGE:
                if not probing:  # those that were under way say nothing new
                    return True
                interval = min(float(known.get("interval", interval)) * 2, LONGEST_INTERVAL)
            now = self._clock()
            self._memory.hset(
                self._key,
                mapping={
                    "state": "open",
                    "reason": reason,
                    "interval": str(interval),
                    "probe_at": (now + timedelta(seconds=interval)).isoformat(),
                    **({} if was_open else {"opened_at": now.isoformat()}),
                },
            )
            self._outage.begins(reason)
            return True
        except (RedisError, OSError):
            return False
