"""Connections whose reads end at a deadline, however often a byte comes.

A time-out of urllib3 bounds each read: a remote that sends one header byte a second is never caught by it.
"""

from __future__ import annotations

from collections.abc import Callable
from http.client import HTTPResponse
from socket import SocketIO
from typing import Any


class _Reads(SocketIO):
    """What arrives at a socket while `left` (seconds) is above zero."""

    left: Callable[[], float]

    def readinto(self, buffer: Any) -> int | None:
        left = self.left()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)  # type: ignore[attr-defined]
        return super().readinto(buffer)


def bounded(connection: type[Any], left: Callable[[], float]) -> type[Any]:
    """The same kind of urllib3 connection; its reads wait no longer than the seconds that `left` answers with."""

    class Response(HTTPResponse):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            # In its place: a reader around it would cost each response a buffer more.
            self.fp.raw.__class__ = _Reads
            self.fp.raw.left = left  # type: ignore[attr-defined]

    return type("Bounded", (connection,), {"response_class": Response})
