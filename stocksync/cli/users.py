"""`users hash|key`: the lines that let somebody in; passwords and keys themselves are kept nowhere."""

from __future__ import annotations

import secrets
import sys

import click

from stocksync.cli.output import answer, json_option
from stocksync.config import PREFIX
from stocksync.credentials import (
    KEY_HASH,
    MAX_PASSWORD,
    PASSWORD_HASH,
    Role,
    hash_key,
    hash_password,
    read_credentials,
)

_ROLES = click.Choice([role.name.lower() for role in Role])
_SHORTEST = 10


@click.group()
def users() -> None:
    """Who may look at the page and call the API."""


@users.command("hash")
@click.argument("name")
@click.option("--role", type=_ROLES, default="operator", show_default=True)
@json_option
def hash_(name: str, role: str, as_json: bool) -> None:
    """Ask for NAME's password (on a pipe: read it) and print the line for STOCK_SYNC_USERS."""
    if sys.stdin.isatty():
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if not _SHORTEST <= len(password) <= MAX_PASSWORD:
        raise click.UsageError(f"a password of {_SHORTEST} to {MAX_PASSWORD} characters is needed")
    line = f"{name}:{role}:{hash_password(password)}"
    if read_credentials(line, PASSWORD_HASH)[1]:
        raise click.UsageError("NAME: up to 50 letters, digits and . _ @ -")
    answer({"line": line}, as_json, lambda: _lines("USERS", line))


@users.command()
@click.argument("name")
@click.option("--role", type=_ROLES, default="reader", show_default=True)
@json_option
def key(name: str, role: str, as_json: bool) -> None:
    """Make a key for the program NAME: shown once, with the line for STOCK_SYNC_API_KEYS."""
    made = f"stocksync_{secrets.token_urlsafe(32)}"
    line = f"{name}:{role}:{hash_key(made)}"
    if read_credentials(line, KEY_HASH)[1]:
        raise click.UsageError("NAME: up to 50 letters, digits and . _ @ -")
    answer({"key": made, "line": line}, as_json, lambda: [f"key: {made}", *_lines("API_KEYS", line)])


def _lines(variable: str, line: str) -> list[str]:
    return [f"add to {PREFIX}{variable} (apart by commas; in single quotes, for the $ in it):", line]


COMMANDS = (users,)
