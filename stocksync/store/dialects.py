"""How the two databases' SQL differs: statements stated once are put into each one's words here.

Writers state their SQL with `:name` parameters and markers:

    IN {ids:uuid}              a list handed in as one parameter
    {rows:items(sku text, quantity bigint)}    rows handed in as one parameter, a table expression
    {skip_locked} {for_update} row locks; SQLite needs none, its write transactions exclude each other
    {no_index}column           SQLite, which keeps no statistics, must not choose this column's index
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from stocksync.store.values import to_text

_NAME = re.compile(r"(?<![:\w]):([a-z_][a-z0-9_]*)")
_LIST = re.compile(r"IN \{(\w+):(\w+)\}")
_ROWS = re.compile(r"\{rows:(\w+)\(([^)]*)\)\}")

Parameters = Mapping[str, Any]


class Adapters(dict[type, Callable[[Any], Any]]):
    """By type, what makes a parameter as the driver takes it; heirs go with their parents, others stay as they are."""

    def __missing__(self, kind: type) -> Callable[[Any], Any]:
        known = [self[parent] for parent in kind.__mro__[1:] if parent in self]
        self[kind] = known[0] if known else _as_it_is
        return self[kind]


def _as_it_is(value: Any) -> Any:
    return value


class Statement:
    """SQL stated once, put into each dialect's words at first use and then kept."""

    __slots__ = ("_compiled", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._compiled: dict[str, str] = {}

    def sql(self, dialect: "Dialect") -> str:
        """The text for one dialect, with the driver's own named parameters."""
        compiled = self._compiled.get(dialect.name)
        if compiled is None:
            compiled = self._compiled[dialect.name] = dialect.compile(self.text)
        return compiled


class Dialect(Protocol):
    """What differs between the two databases."""

    name: str

    def compile(self, text: str) -> str:
        """A statement's text in this database's words, with its driver's named parameters."""

    adapters: Adapters


class SqliteDialect:
    """SQLite: time and ids as text, lists and rows through json_each, no row locks."""

    name = "sqlite"
    # Rows written together share their moment; putting it into text costs more than the rest of a row.
    _last_moment: tuple[datetime, str] | None = None

    def compile(self, text: str) -> str:
        def rows(match: re.Match[str]) -> str:
            columns = [column.split()[0] for column in match[2].split(",")]
            picked = ", ".join(f"json_extract(value, '$.{column}') AS {column}" for column in columns)
            # The LIMIT keeps SQLite from flattening this into the join and reading the JSON once per joined row.
            return f"(SELECT {picked} FROM json_each(:{match[1]}) LIMIT -1)"

        text = _ROWS.sub(rows, text)
        text = _LIST.sub(r"IN (SELECT value FROM json_each(:\1))", text)
        return text.replace("{skip_locked}", "").replace("{for_update}", "").replace("{no_index}", "+")

    def __init__(self) -> None:
        encode = json.JSONEncoder(
            ensure_ascii=False, default=lambda value: self.adapters[type(value)](value)
        ).encode
        self.adapters = Adapters(
            {
                datetime: self._moment,
                UUID: lambda value: value.hex,
                dict: encode,
                list: encode,
                tuple: encode,
            }
        )

    def _moment(self, value: datetime) -> str:
        known = self._last_moment
        if known is None or known[0] is not value:
            known = self._last_moment = (value, to_text(value))
        return known[1]


class PostgresDialect:
    """PostgreSQL: own types, arrays for lists, jsonb_to_recordset for rows, FOR NO KEY UPDATE."""

    name = "postgresql"

    def compile(self, text: str) -> str:
        text = text.replace("%", "%%")
        text = _ROWS.sub(r"(SELECT * FROM jsonb_to_recordset(:\1) AS given(\2))", text)
        text = _LIST.sub(r"= ANY(:\1::\2[])", text)
        text = text.replace("{skip_locked}", "FOR NO KEY UPDATE SKIP LOCKED")
        text = text.replace("{for_update}", "FOR NO KEY UPDATE").replace("{no_index}", "")
        return _NAME.sub(r"%(\1)s", text)

    _encode = json.JSONEncoder(ensure_ascii=False, default=str).encode

    def __init__(self) -> None:
        self.adapters = Adapters({dict: self._json, list: self._rows, tuple: self._rows})

    def _rows(self, value: Sequence[Any]) -> Any:
        return self._json(value) if value and isinstance(value[0], dict) else list(value)

    def _json(self, value: Any) -> Any:
        from psycopg.types.json import Jsonb  # only where PostgreSQL is in use

        return Jsonb(value, dumps=self._encode)
