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
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, NewType
from uuid import UUID

from stocksync.store.values import to_text

_LIST = re.compile(r"IN \{(\w+):(\w+)\}")
_ROWS = re.compile(r"\{rows:(\w+)\(([^)]*)\)\}")

Statement = NewType("Statement", str)
"""SQL as writers state it."""
Parameters = Mapping[str, Any]


class Adapters(dict[type, Callable[[Any], Any]]):
    """By type, what makes a parameter as the driver takes it; heirs go with their parents, others stay as they are."""

    def __missing__(self, kind: type) -> Callable[[Any], Any]:
        self[kind] = next(
            (self[parent] for parent in kind.__mro__[1:] if parent in self), lambda value: value
        )
        return self[kind]


@dataclass(frozen=True)
class Dialect:
    """What differs between the two databases.

    `snapshot`: how a transaction that sees one moment begins. `sql`: a statement in this database's words, with its
    driver's named parameters.
    """

    name: str
    snapshot: str
    sql: Callable[[Statement], str]
    adapters: Adapters

    def bound(self, parameters: Parameters) -> dict[str, Any]:
        """Each parameter as the driver takes it."""
        return {name: self.adapters[type(value)](value) for name, value in parameters.items()}


@lru_cache(1000)  # more than there are: the texts of lists vary with their filters
def _sqlite_sql(text: str) -> str:
    def rows(match: re.Match[str]) -> str:
        # The LIMIT keeps SQLite from flattening this into the join and reading the JSON once per joined row.
        picked = re.sub(r"(\w+) [^,]+", r"json_extract(value, '$.\1') AS \1", match[2])
        return f"(SELECT {picked} FROM json_each(:{match[1]}) LIMIT -1)"

    text = _LIST.sub(r"IN (SELECT value FROM json_each(:\1))", _ROWS.sub(rows, text))
    return text.replace("{skip_locked}", "").replace("{for_update}", "").replace("{no_index}", "+")


_sqlite_json = json.JSONEncoder(
    ensure_ascii=False, default=lambda value: SQLITE.adapters[type(value)](value)
).encode

SQLITE: Dialect = Dialect(
    "sqlite",
    "DEFERRED",
    _sqlite_sql,
    Adapters(
        {
            # Rows written together share their moments, and putting one into text costs more than the rest of a row.
            datetime: lru_cache(100)(to_text),
            UUID: lambda value: value.hex,
            dict: _sqlite_json,
            list: _sqlite_json,
            tuple: _sqlite_json,
        }
    ),
)
"""SQLite: time and ids as text, lists and rows through json_each, no row locks."""


@lru_cache(1000)
def _postgres_sql(text: str) -> str:
    text = _ROWS.sub(r"(SELECT * FROM jsonb_to_recordset(:\1) AS given(\2))", text.replace("%", "%%"))
    text = (
        _LIST.sub(r"= ANY(:\1::\2[])", text)
        .replace("{skip_locked}", "FOR NO KEY UPDATE SKIP LOCKED")
        .replace("{for_update}", "FOR NO KEY UPDATE")
        .replace("{no_index}", "")
    )
    return re.sub(r"(?<![:\w]):([a-z_][a-z0-9_]*)", r"%(\1)s", text)


_postgres_json = json.JSONEncoder(ensure_ascii=False, default=str).encode


def _postgres_list(value: Sequence[Any]) -> Any:
    return _postgres_json(value) if value and isinstance(value[0], dict) else list(value)


POSTGRES = Dialect(
    "postgresql",
    "REPEATABLE READ",
    _postgres_sql,
    Adapters({dict: _postgres_json, list: _postgres_list, tuple: _postgres_list}),
)
"""PostgreSQL: own types, arrays for lists, jsonb_to_recordset for rows. JSON goes as text, which every driver takes."""
