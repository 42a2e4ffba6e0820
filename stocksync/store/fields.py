"""The one column type for time: timestamptz on PostgreSQL, fixed-width UTC text on SQLite, aware UTC in Python."""

from datetime import UTC, datetime
from typing import Any

from peewee import Field

# Fixed width, so that text sorts and compares as time does. PostgreSQL reads the same text as timestamptz.
_TEXT = "%Y-%m-%dT%H:%M:%S.%fZ"


def to_text(moment: datetime) -> str:
    """`moment` (aware) as fixed-width UTC text. Raises ValueError for a naive datetime."""
    if moment.tzinfo is None:
        raise ValueError(f"a naive datetime has no place here: {moment!r}")
    return moment.astimezone(UTC).strftime(_TEXT)


def from_text(text: str) -> datetime:
    """The aware UTC datetime of a text written by `to_text`."""
    return datetime.fromisoformat(text)


def as_utc(value: Any) -> datetime | None:
    """What either database returned for a time column, as aware UTC; None stays None."""
    if value is None:
        return None
    moment = value if isinstance(value, datetime) else from_text(value)
    return moment.astimezone(UTC)


class UtcDateTimeField(Field):  # type: ignore[misc]
    """See the module. Field type `UTCTIME` is named in both databases' type maps."""

    field_type = "UTCTIME"

    def db_value(self, value: datetime | None) -> str | None:
        return None if value is None else to_text(value)

    def python_value(self, value: Any) -> datetime | None:
        return as_utc(value)
