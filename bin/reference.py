"""Writes docs/reference/ and `.env.example` from the code; with `--check` says what is out of date instead."""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
from flask_openapi3 import OpenAPI

from bin.reference_api import api_page
from bin.reference_settings import check_complete, env_example, settings_page
from bin.reference_tables import tables_page
from stocksync import errors
from stocksync.cli.frame import cli
from stocksync.config import StockSyncConfig
from stocksync.runtime import Runtime
from stocksync.store.migrate import migrate

PROJECT = Path(__file__).parents[1]
COMMAND = "bin/reference"
_HEAD = f"<!-- Made by {COMMAND} from the code: change it there. -->\n\n"


def documents() -> dict[str, str]:
    """Every generated file by its path, with its text."""
    check_complete()
    with tempfile.TemporaryDirectory() as folder:
        # Nothing of it is asked for anything: the port is nobody's.
        settings = {"database_url": f"sqlite:///{folder}/empty.sqlite3", "redis_url": "redis://127.0.0.1:1/0"}
        runtime = Runtime(StockSyncConfig.load({}, **settings))
        migrate(runtime.database)
        from stocksync.web import create_app

        app = create_app(runtime)
        pages = {
            "settings": settings_page(),
            "commands": commands_page(),
            "http-api": api_page(app),
            "errors": errors_page(),
            "metrics": metrics_page(app),
            "tables": tables_page(runtime),
        }
        runtime.close()
    made = {f"docs/reference/{name}.md": _HEAD + text for name, text in pages.items()}
    return made | {".env.example": env_example()}


def commands_page() -> str:
    """Every command with its arguments and options."""
    lines = [
        "# Commands",
        "",
        "`python -m stocksync` is the same as `stocksync`. Exit codes: 0 done; 1 the thing checked is wrong, or some of the input was",
        "refused; 2 bad usage or configuration. Results go to stdout, everything said on the way to stderr. With `--json` the result is one",
        "JSON object. `stocksync --verbose COMMAND …` says on stderr what happens inside.",
    ]
    for words, command in _commands(cli, ["stocksync"]):
        context = click.Context(command, info_name=" ".join(words))
        parts = [part for one in command.get_params(context) if isinstance(one, click.Argument)
                 for part in one.get_usage_pieces(context)]  # fmt: skip
        lines += [
            "",
            f"## {' '.join(words[1:])}",
            "",
            "```text",
            " ".join([*words, "[OPTIONS]", *parts]),
            "```",
        ]
        lines += ["", _paragraphs(command.help or "")]
        records = [
            record
            for one in command.get_params(context)
            if "--help" not in one.opts and (record := one.get_help_record(context)) and any(record)
        ]
        if records:
            lines += ["", "| option | meaning |", "|---|---|"]
            lines += [f"| `{re.sub('[|]', ' or ', name)}` | {_cell(said)} |" for name, said in records]
    return "\n".join(lines) + "\n"


def _commands(group: click.Group, words: list[str]) -> Iterator[tuple[list[str], click.Command]]:
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from _commands(command, [*words, name])
        else:
            yield [*words, name], command


def _paragraphs(text: str) -> str:
    """Help of a command, one line a paragraph."""
    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(text).split("\n\n"))


def _cell(text: str) -> str:
    return " ".join(text.replace("|", " or ").split())


def errors_page() -> str:
    """Every error class, in the order of the module, with its fields and what it says."""
    lines = [
        "# Errors",
        "",
        "All are in `stocksync.errors`, and those that a caller meets in `stocksync` too. `except StockSyncError` catches them all. `str(error)`",
        "is fit for a person: it says what happened and what to do. The fields carry the same for programs. In a message below, `{…}` is a field.",
    ]
    classes = [
        one
        for one in vars(errors).values()
        if inspect.isclass(one) and issubclass(one, Exception) and not one.__name__.startswith("_")
    ]
    for one in classes:
        parents = [up for up in one.__mro__[1:] if up in classes and up is not errors.StockSyncError]
        base = f" A kind of [{parents[0].__name__}](#{parents[0].__name__.lower()})." if parents[:1] else ""
        lines += ["", f"## {one.__name__}", "", " ".join((one.__doc__ or "").split()) + base]
        if fields := _fields_of(one):
            lines += ["", "Fields: " + ", ".join(fields) + "."]
        if isinstance(said := getattr(one, "says", None), str):
            lines += ["", f"> {said}"]
    return "\n".join(lines) + "\n"


def _fields_of(error: type[Exception]) -> list[str]:
    names = [field.name for field in dataclasses.fields(error)] if dataclasses.is_dataclass(error) else []
    for one in error.__mro__:
        init = vars(one).get("__init__")
        if inspect.isfunction(init) and init.__code__.co_filename == errors.__file__:
            names += re.findall(r"self\.(\w+) =", inspect.getsource(init))
    return [f"`{name}`" for name in dict.fromkeys(names)]


def metrics_page(app: OpenAPI) -> str:
    """Every family of `/metrics`."""
    from stocksync.web import health

    with app.test_request_context("/metrics"):
        families = list(health._families())
    endings = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}
    lines = [
        "# Metrics",
        "",
        "`GET /metrics` of `stocksync web`, for Prometheus. It needs a key of the role reader, or `STOCK_SYNC_METRICS_OPEN=true`. The figures come from the",
        "database, so every `web` process says the same: ask one of them. Counters go on over restarts.",
        "",
        "| metric | type | labels | meaning |",
        "|---|---|---|---|",
    ]
    for family in families:
        names = "<br>".join(f"`{family.name}{ending}`" for ending in endings.get(family.type, ("",)))
        labels = [*family._labelnames, *(["le"] if family.type == "histogram" else [])]
        shown = ", ".join(f"`{label}`" for label in labels)
        lines.append(f"| {names} | {family.type} | {shown} | {family.documentation} |")
    return "\n".join(lines) + "\n"


def outdated(made: dict[str, str], project: Path = PROJECT) -> list[str]:
    """The files that say something else than the code, or are not there."""
    return [
        name
        for name, text in made.items()
        if not (project / name).is_file() or (project / name).read_text(encoding="utf-8") != text
    ]


def main() -> None:
    """Write the files, or compare them."""
    made = documents()
    old = outdated(made)
    if "--check" in sys.argv[1:]:
        sys.exit(f"reference: run {COMMAND}: out of date: {', '.join(old)}" if old else 0)
    for name in old:
        (PROJECT / name).parent.mkdir(parents=True, exist_ok=True)
        (PROJECT / name).write_text(made[name], encoding="utf-8")
    print("reference:", f"wrote {', '.join(old)}" if old else "nothing to do")


if __name__ == "__main__":
    main()
