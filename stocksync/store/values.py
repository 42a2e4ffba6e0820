"""What a column can hold: texts and quantities of callers, checked before anything is written; moments in UTC."""

import re
from datetime import UTC, datetime
from typing import Any

from peewee import Field

from stocksync.errors import InvalidInput

DEFAULT_WAREHOUSE = "Ирина"
MAX_QUANTITY = 1_000_000_000
"""Units in one line; far above any shop, far below what a database integer holds."""
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_NOT_STORABLE = "contains a NUL byte, or half of a surrogate pair"


def is_storable(text: str) -> bool:
    """Whether a database can hold `text`: no NUL, no half of a surrogate pair."""
    return _UNSTORABLE.search(text) is None


def storable(text: str) -> str:
    """`text`, if a database can hold it. Raises ValueError."""
    if not is_storable(text):
        raise ValueError(_NOT_STORABLE)
    return text


def printable(text: str) -> str:
    """What a stranger said, in characters that a database can hold and a terminal can show."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


def check_word(field: str, value: Any) -> str:
    """`value` as a non-empty text of at most 200 characters. Raises InvalidInput naming `field`."""
    if not isinstance(value, str) or not value.strip():
        raise InvalidInput(field, f"a non-empty text is needed, got {value!r:.60}")
    text = value.strip()
    if len(text) > 200:
        raise InvalidInput(field, f"at most 200 characters, got {len(text)}")
    if not is_storable(text):
        raise InvalidInput(field, _NOT_STORABLE)
    return text


def optional_word(field: str, value: Any) -> str | None:
    """As `check_word`; None stays None."""
    return None if value is None else check_word(field, value)


def check_token(field: str, value: Any) -> str:
    """A seller account, which callers may hold as a number or UUID. Raises InvalidInput naming `field`."""
    return check_word(field, value if value is None else str(value))


def check_quantity(field: str, value: Any, least: int = 1) -> int:
    """`value` as a whole number from `least` to MAX_QUANTITY; a signed one is not 0. Raises InvalidInput naming `field`."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidInput(field, f"a whole number is needed, got {value!r:.60}")
    if not least <= value <= MAX_QUANTITY or (value == 0 and least < 0):
        but = " and not 0" if least < 0 else ""
        raise InvalidInput(field, f"must be between {least} and {MAX_QUANTITY}{but}, got {in_words(value)}")
    return value


def in_words(number: int) -> str:
    """The number for a message."""
    # Python refuses to put a number of thousands of digits into words.
    return repr(number) if number.bit_length() <= 128 else f"a number of {number.bit_length()} bits"


def to_text(moment: datetime) -> str:
    """`moment` (aware) as fixed-width UTC text. Raises ValueError for a naive datetime."""
    if moment.tzinfo is None:
        raise ValueError(f"a naive datetime has no place here: {moment!r}")
    # Fixed width, so that text sorts and compares as time does. PostgreSQL reads the same text as timestamptz.
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def as_utc(value: Any) -> datetime | None:
    """What either database returned for a time column, as aware UTC; None stays None."""
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment and moment.astimezone(UTC)


class UtcDateTimeField(Field):  # type: ignore[misc]
    """Timestamptz on PostgreSQL, fixed-width UTC text on SQLite, aware UTC in Python. Field type `UTCTIME` is named in both databases' type maps."""

    field_type = "UTCTIME"

    adapt = staticmethod(to_text)
    python_value = staticmethod(as_utc)
