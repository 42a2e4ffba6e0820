"""What every command shares: the group and how it ends, the runtime, and the answer as lines or (`--json`) one object."""

import functools
import getpass
import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

import click
from peewee import PeeweeException

from stocksync import __version__
from stocksync.errors import ConfigurationError, MissingExtra, StockSyncError
from stocksync.runtime import current

T = TypeVar("T")

JSON = click.Option(["--json", "as_json"], is_flag=True, help="Answer with one JSON object on stdout.")


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


def main() -> None:
    """Run the command of `sys.argv`; errors are said in words, with the exit code they stand for."""
    try:
        sys.exit(cli.main(standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has gone
    except click.Abort:
        print("stopped", file=sys.stderr)
    except (ConfigurationError, MissingExtra) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except (StockSyncError, PeeweeException, OSError) as error:
        print("error:", "".join(filter(str.isprintable, in_words(error))), file=sys.stderr)
    sys.exit(1)


def command(
    group: click.Group = cli, name: str | None = None
) -> Callable[[Callable[..., Answer]], click.Command]:
    """Make a function a command of `group`: it is called with the runtime, whose schema is current, and a connection."""

    def register(act: Callable[..., Answer]) -> click.Command:
        @group.command(name, params=[JSON])
        @functools.wraps(act)
        def run(as_json: bool, **options: Any) -> None:
            runtime = current()
            runtime.require_schema()
            with runtime.database.scope():
                show(act(runtime, **options), as_json)

        return run

    return register


def show(answer: Answer, as_json: bool) -> None:
    """Print `answer`. Raises click's Exit unless it is `ok`."""
    lines = (
        [
            json.dumps(
                answer.document,
                ensure_ascii=False,
                default=lambda value: value.isoformat() if isinstance(value, datetime) else str(value),
            )
        ]
        if as_json
        else answer.lines
    )
    for line in lines:
        # What would move a terminal's cursor is shown as its escape, and so is half a surrogate pair, which has no UTF-8.
        click.echo("".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in line))
    if not answer.ok:
        raise click.exceptions.Exit(1)


def names_and_values(document: Mapping[str, Any]) -> Answer:
    """A flat document, one line each."""
    return Answer(document, [f"{name}: {value}" for name, value in document.items()])


def table(rows: Sequence[Mapping[str, Any]], names: str) -> Iterator[str]:
    """`rows` in columns as wide as what is in them. `names` of the columns, apart by blanks."""
    columns = names.split()
    lines = [columns, *([cell(row.get(column)) for column in columns] for row in rows)]
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


def in_words(error: Exception) -> str:
    """The error for a person; of the database's the first line, without its statement."""
    if isinstance(error, PeeweeException):
        return f"the database says: {(str(error).strip() or type(error).__name__).splitlines()[0]}"
    if isinstance(error, OSError):
        return ": ".join(map(str, filter(None, (error.strerror or error, error.filename))))
    return str(error)


def cell(value: Any) -> str:
    """As people read it; None: a dash."""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    text = "".join(char if char.isprintable() else "�" for char in str("-" if value is None else value))
    return text if len(text) <= 60 else f"{text[:59]}…"
