"""docs/reference/tables.md: the models' columns and words, and what the migrated database itself enforces."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

from peewee import Field, Model

from stocksync.runtime import Runtime
from stocksync.store.migrate import COLUMN_TYPES
from stocksync.store.models import MODELS

_KINDS = {
    "UUIDField": "uuid", "UtcDateTimeField": "time", "JSONField": "json", "BooleanField": "bool",
    "BigIntegerField": "big", "IntegerField": "INTEGER", "TextField": "TEXT",
}  # fmt: skip
_CONSTRAINT = re.compile(r"^(CHECK|FOREIGN KEY|UNIQUE|PRIMARY KEY) ?")


def tables_page(runtime: Runtime) -> str:
    """The page without its head. The runtime's database is a migrated SQLite."""
    lines = [
        "# Tables",
        "",
        "stocksync keeps its tables in the database of `DATABASE_URL` and touches no other. `stocksync migrate` brings them up to date;",
        "the names of applied migrations are in `stock_sync_migrations`.",
        "",
        "Types by database:",
        "",
        "| here | SQLite | PostgreSQL |",
        "|---|---|---|",
        *(
            f"| {kind} | `{COLUMN_TYPES['sqlite'][kind]}` | `{COLUMN_TYPES['postgresql'][kind]}` |"
            for kind in COLUMN_TYPES["sqlite"]
        ),
        "",
        "Times are UTC. Every row id is a UUID of version 7, which rises with time.",
    ]
    statements = _statements(runtime)
    for model in MODELS:
        lines += ["", *_table(model, statements)]
    return "\n".join(lines) + "\n"


def _statements(runtime: Runtime) -> list[tuple[str, str, str]]:
    """Table, kind (`table` or `index`) and the statement of everything in the schema."""
    with runtime.database.scope():
        rows = runtime.database.execute_sql(
            "SELECT tbl_name, type, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid"
        )
        return [(table, kind, " ".join(text.split())) for table, kind, text in rows]


def _table(model: type[Model], statements: list[tuple[str, str, str]]) -> Iterator[str]:
    name = model._meta.table_name
    notes = _notes(model)
    yield from (f"## {name}", "", inspect.cleandoc(model.__doc__ or ""), "")
    yield from ("| column | type | may be NULL | note |", "|---|---|---|---|")
    for field in model._meta.sorted_fields:
        null = "yes" if field.null else ""
        yield f"| `{field.column_name}` | {_kind(field)} | {null} | {notes.get(field.name, '')} |"
    own = [(kind, text) for table, kind, text in statements if table == name]
    constraints = [part for kind, text in own if kind == "table" for part in _constraints(text)]
    indexes = [text.replace(f" ON {name} ", " ON ") for kind, text in own if kind == "index"]
    for title, texts in (("Constraints", constraints), ("Indexes", indexes)):
        if texts:
            yield from ("", f"{title}:", "", *(f"- `{text.removeprefix('CREATE ')}`" for text in texts))


def _kind(field: Any) -> str:
    if field.__class__.__name__ == "ForeignKeyField":
        target: Field = field.rel_field
        return (
            f"{_kind(target)}, see [{field.rel_model._meta.table_name}](#{field.rel_model._meta.table_name})"
        )
    if field.__class__.__name__ == "CharField":
        return "word" if field.max_length == 255 else f"`VARCHAR({field.max_length})`"
    return _KINDS[field.__class__.__name__]


def _notes(model: type[Model]) -> dict[str, str]:
    """The comments of the model's source, by the field that they stand above or behind."""
    notes: dict[str, str] = {}
    above: list[str] = []
    for line in inspect.getsource(model).splitlines():
        if comment := re.fullmatch(r" +# (.+)", line):
            above.append(comment[1])
        elif field := re.match(r"    (\w+) = \w+Field\(.*?\)(?: +# (.+))?$", line):
            notes[field[1]] = " ".join([*above, *([field[2]] if field[2] else [])])
            above = []
    return notes


def _constraints(statement: str) -> Iterator[str]:
    """The parts of a CREATE TABLE that are no columns."""
    for part in _parts(statement[statement.index("(") + 1 : statement.rindex(")")]):
        if _CONSTRAINT.match(part):
            yield part
        elif "PRIMARY KEY" in part:
            yield f"PRIMARY KEY ({part.split()[0]})"


def _parts(text: str) -> Iterator[str]:
    """Split at the commas outside of parentheses."""
    depth, start = 0, 0
    for place, letter in enumerate(text):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            yield text[start:place].strip()
            start = place + 1
    yield text[start:].strip()
