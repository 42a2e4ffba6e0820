"""How commands answer: a table for people, or with `--json` one JSON object on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import click

T = TypeVar("T")

json_option = click.option("--json", "as_json", is_flag=True, help="Answer with one JSON object on stdout.")


def answer(document: Mapping[str, Any], as_json: bool, lines: Callable[[], Iterable[str]]) -> None:
    """Print `document` as JSON, or `lines()` for a person."""
    if as_json:
        click.echo(_printable(json.dumps(document, ensure_ascii=False, default=_plain)))
    else:
        for line in lines():
            click.echo(_printable(line))


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> Iterator[str]:
    """`rows` in columns as wide as what is in them."""
    cells = [[_shown(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in [list(columns), *cells]) for i in range(len(columns))]
    for line in [list(columns), *cells]:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


def progress(items: Iterable[T], label: str, length: int | None = None) -> Iterator[T]:
    """`items`, with a bar on a terminal and nothing on a pipe."""
    hidden = not sys.stderr.isatty()
    with click.progressbar(items, label=label, length=length, file=sys.stderr, hidden=hidden) as bar:
        yield from bar


def _printable(text: str) -> str:
    """Half a surrogate pair has no UTF-8; it is shown as its escape."""
    return text.encode("utf-8", "backslashreplace").decode()


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    text = "".join(char if char.isprintable() else "�" for char in str(value))
    return text if len(text) <= 60 else f"{text[:59]}…"
