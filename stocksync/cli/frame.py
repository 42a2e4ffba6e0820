"""What every command shares: the group, the runtime it works with, and its answer as lines or (`--json`) as one object."""

import functools
import getpass
import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

import click

from stocksync import __version__
from stocksync.runtime import current

T = TypeVar("T")

_JSON = click.Option(["--json", "as_json"], is_flag=True, help="Answer with one JSON object on stdout.")


class Answer(NamedTuple):
    """What a command came to. Not `ok`: the thing checked is wrong, or some of the input was refused; exit code 1."""

    document: Mapping[str, Any]
    lines: Iterable[str]
    ok: bool = True


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, "-V", "--version")
@click.option("-v", "--verbose", is_flag=True, help="Say on stderr what happens inside.")
def cli(verbose: bool) -> None:
    """Reliable delivery of stock operations to the orders microservice."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(levelname)s %(message)s",
        stream=sys.stderr,
    )


def command(
    group: click.Group = cli, name: str | None = None, *, on_runtime: bool = True
) -> Callable[[Callable[..., Answer]], click.Command]:
    """Make a function a command of `group`.

    `on_runtime`: it is called with the runtime, whose schema is current, and a connection; otherwise with its options
    alone.
    """

    def register(act: Callable[..., Answer]) -> click.Command:
        @group.command(name, params=[_JSON])
        @functools.wraps(act)
        def run(as_json: bool, **options: Any) -> None:
            if not on_runtime:
                return show(act(**options), as_json)
            runtime = current()
            runtime.require_schema()
            with runtime.database.scope():
                return show(act(runtime, **options), as_json)

        return run

    return register


def show(answer: Answer, as_json: bool) -> None:
    """Print `answer`. Raises click's Exit unless it is `ok`."""
    as_text = json.dumps(answer.document, ensure_ascii=False, default=_plain) if as_json else None
    for line in answer.lines if as_text is None else [as_text]:
        # Half a surrogate pair has no UTF-8; it is shown as its escape.
        click.echo(line.encode("utf-8", "backslashreplace").decode())
    if not answer.ok:
        raise click.exceptions.Exit(1)


def names_and_values(document: Mapping[str, Any]) -> Answer:
    """A flat document, one line each."""
    return Answer(document, [f"{name}: {value}" for name, value in document.items()])


def table(rows: Sequence[Mapping[str, Any]], *columns: str) -> Iterator[str]:
    """`rows` in columns as wide as what is in them."""
    lines = [columns, *([_cell(row.get(column)) for column in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        yield "  ".join(map(str.ljust, line, widths)).rstrip()


def progress(items: Iterable[T], label: str) -> Iterator[T]:
    """`items`, with a bar on a terminal and nothing on a pipe."""
    with click.progressbar(items, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        yield from bar


def actor() -> str:
    """The person at the command line, for the log."""
    try:
        return f"{getpass.getuser()} (command line)"
    except (KeyError, OSError):
        return "command line"


def database_says(error: Exception) -> str:
    """The first line of an error of the database, without its statement."""
    return f"the database says: {(str(error).strip() or type(error).__name__).splitlines()[0]}"


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    text = "".join(char if char.isprintable() else "�" for char in str(value))
    return text if len(text) <= 60 else f"{text[:59]}…"
