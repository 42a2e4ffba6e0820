"""The log: one line an event on stdout, words for people or JSON for a platform, never a secret.

Events carry `lane`, `order`, `operation`, `attempt` and `task` as `extra`, where they concern one.
"""

import json
import logging
import os
import sys
from collections.abc import Collection
from datetime import UTC, datetime
from typing import TextIO
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from stocksync.config import StockSyncConfig
from stocksync.store.values import printable

FIELDS = ("lane", "order", "operation", "attempt", "task")
_SHORTEST_SECRET = 6
"""Characters; what is shorter would take ordinary words out of the log."""


class EventFormatter(logging.Formatter):
    """One line an event, UTC, without secrets: words and then the fields for people, or a JSON object for a platform."""

    def __init__(self, secrets: Collection[str], as_json: bool) -> None:
        super().__init__()
        self._secrets = sorted(secrets, key=len, reverse=True)  # a URL before the password in it
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        """For people a traceback's lines are joined with ⏎."""
        said = super().format(record)
        for secret in self._secrets:
            said = said.replace(secret, "***")
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields = {name: record.__dict__[name] for name in FIELDS if name in record.__dict__}
        if self._as_json:
            event = {"time": at, "level": record.levelname, "logger": record.name, "message": said, **fields}
            return json.dumps(event, ensure_ascii=False, default=str)
        line = printable(said.replace("\n", " ⏎ "))
        about = "".join(f" {name}={_word(value)}" for name, value in fields.items())
        return f"{at} {record.levelname:<7} {line}{about}"


def set_up(config: StockSyncConfig, stream: TextIO | None = None) -> None:
    """Have the process log to `stream` (default: stdout), as the configuration says."""
    on_platform = "DYNO" in os.environ
    as_json = config.log_format == "json" or (config.log_format == "auto" and on_platform)
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(EventFormatter(secrets_of(config), as_json))
    logging.basicConfig(level=config.log_level, handlers=[handler], force=True)


def secrets_of(config: StockSyncConfig) -> set[str]:
    """What must never be shown: every secret setting, its parts where it is a list, and passwords inside URLs."""
    found = {
        value.get_secret_value()
        for name in type(config).model_fields
        if isinstance(value := getattr(config, name), SecretStr)
    }
    found |= {*config.messengers, config.jwt_token() or ""}
    for url in tuple(found):
        if "://" in url and (password := urlsplit(url).password):
            found |= {password, unquote(password)}
    return {secret for secret in found if len(secret) >= _SHORTEST_SECRET}


def _word(value: object) -> str:
    text = printable(str(value))
    return json.dumps(text, ensure_ascii=False) if " " in text or not text else text
