"""Outages of what we depend on: in the log a line when one begins and a line when it ends, of each process."""

import logging
import threading
from datetime import UTC, datetime, timedelta
from sqlite3 import SQLITE_ERROR

from peewee import DatabaseError, InterfaceError, OperationalError

from stocksync.errors import DatabaseUnavailable, StockSyncError
from stocksync.store.identifiers import Clock

log = logging.getLogger(__name__)

# What is said when it begins, with the reason, and when it ends.
REDIS = (
    "Redis does not answer (%s). Deliveries wait for it; nothing is lost, what is due is in the database. REDIS_URL says where it is.",
    "Redis answers again",
)
DATABASE = (
    "the database does not answer (%s). Deliveries and periodic tasks wait for it; nothing is lost.",
    "the database answers again",
)
REMOTE = (
    "the remote does not serve us (%s). Deliveries wait, but for one probe at a time; nothing is lost.",
    "the remote answers again",
)


def utc_now() -> datetime:
    """The wall clock, aware UTC."""
    return datetime.now(UTC)


class Outage:
    """Whether one thing does not answer, as this process sees it. Threads may share it."""

    def __init__(self, words: tuple[str, str], clock: Clock = utc_now) -> None:
        """`words`: for its begin, with a `%s` for the reason, and for its end."""
        self._begun, self._over = words
        self._clock = clock
        self._lock = threading.RLock()  # a signal's handler may come back in here
        self._since: datetime | None = None

    @property
    def lasts(self) -> bool:
        """It has begun and not ended."""
        return self._since is not None

    def begins(self, reason: BaseException | str, since: datetime | None = None) -> None:
        """Note that it begins; nothing is said while it lasts.

        Args:
            reason: of an error that is not ours the name alone is logged: its words may quote a secret.
            since: aware UTC; None: now.
        """
        if isinstance(reason, BaseException) and not isinstance(reason, StockSyncError):
            reason = type(reason).__name__
        with self._lock:
            if self._since is None:
                self._since = since or self._clock()
                log.warning(self._begun, reason)

    def ends(self) -> None:
        """Note that it is over, where it had begun."""
        with self._lock:
            since, self._since = self._since, None
            if since is not None:
                log.warning(
                    "%s, after %s (since %s UTC)",
                    self._over,
                    timedelta(seconds=round((self._clock() - since).total_seconds())),
                    f"{since:%Y-%m-%d %H:%M:%S}",
                )


def is_unavailable(error: BaseException) -> bool:
    """The database can't be reached, is broken, or keeps us waiting: nothing that a change of our code would fix."""
    cause = error.__cause__ if isinstance(error, DatabaseUnavailable) else error
    # SQLite has one class for that and for a statement that is wrong.
    return getattr(getattr(cause, "orig", None), "sqlite_errorcode", None) != SQLITE_ERROR and (
        isinstance(error, (DatabaseUnavailable, OperationalError, InterfaceError))
        or type(error) is DatabaseError
    )
