"""Connections whose reads end at a deadline, however often a byte comes.

A time-out of urllib3 bounds each read: a remote that sends one header byte a second is never caught by it.
"""

from __future__ import annotations

from collections.abc import Callable
from http.client import HTTPResponse
from io import BufferedReader, RawIOBase
from typing import Any


class _Reads(RawIOBase):
    """What arrives at a socket, for as long as `left` (seconds) is above zero."""

    def __init__(self, sock: Any, raw: Any, left: Callable[[], float]) -> None:
        self._sock, self._raw, self._left = sock, raw, left

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> Any:
        left = self._left()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


def bounded(connection: type[Any], left: Callable[[], float]) -> type[Any]:
    """The same kind of urllib3 connection; its reads wait no longer than the seconds that `left` answers with."""

    class Response(HTTPResponse):
        def __init__(self, sock: Any, *args: Any, **options: Any) -> None:
            super().__init__(sock, *args, **options)
            self.fp = BufferedReader(_Reads(sock, self.fp.detach(), left))

    return type("Bounded", (connection,), {"response_class": Response})
