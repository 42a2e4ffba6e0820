"""The log: one line an event on stdout, words for people or JSON for a platform, never a secret.

Events carry `lane`, `order`, `operation`, `attempt` and `task` as `extra`, where they concern one.
"""

from __future__ import annotations

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


class _Formatter(logging.Formatter):
    """What both have in common: one line, without secrets."""

    def __init__(self, secrets: Collection[str]) -> None:
        super().__init__()
        self._secrets = sorted(secrets, key=len, reverse=True)  # a URL before the password in it

    def said(self, record: logging.LogRecord) -> str:
        """The message with its traceback."""
        text = record.getMessage()
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    @staticmethod
    def moment(record: logging.LogRecord) -> str:
        """When it was, UTC."""
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


class Lines(_Formatter):
    """For people: time, level, words, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """One line; a traceback's lines are joined with ⏎."""
        fields = "".join(
            f" {name}={_word(record.__dict__[name])}" for name in FIELDS if name in record.__dict__
        )
        text = printable(self.said(record).replace("\n", " ⏎ "))
        return f"{self.moment(record)} {record.levelname:<7} {text}{fields}"


class JsonLines(_Formatter):
    """For a platform: one JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Time, level, logger, message, and the fields."""
        event = {"time": self.moment(record), "level": record.levelname, "logger": record.name}
        fields = {name: record.__dict__[name] for name in FIELDS if name in record.__dict__}
        return json.dumps({**event, "message": self.said(record), **fields}, ensure_ascii=False, default=str)


def set_up(config: StockSyncConfig, stream: TextIO | None = None) -> None:
    """Have the process log to `stream` (default: stdout), as the configuration says."""
    on_platform = "DYNO" in os.environ
    as_json = config.log_format == "json" or (config.log_format == "auto" and on_platform)
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter((JsonLines if as_json else Lines)(secrets_of(config)))
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
