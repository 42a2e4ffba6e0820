"""A total deadline for a blocking call: past it the call's socket is shut down by a watching thread.

A time-out of urllib3 bounds each read; a remote that sends one header byte a second is never caught by it.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from urllib3 import PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

_LOOKS_EVERY = 0.25
"""Seconds between two looks; a call outlives its deadline by no more than that."""


class Watch:
    """Ends calls that outlive their deadline. Its thread runs only while there is something to watch."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._sockets: dict[int, socket.socket] = {}
        self._deadlines: dict[int, float] = {}
        self._watching = False

    def over(self, manager: PoolManager) -> None:
        """Have the connections of `manager` known to the watch; each belongs to the thread that opens it."""
        manager.pool_classes_by_scheme = {
            "http": _pool_of(HTTPConnectionPool, _watched(HTTPConnection, self._sockets)),
            "https": _pool_of(HTTPSConnectionPool, _watched(HTTPSConnection, self._sockets)),
        }

    @contextlib.contextmanager
    def until(self, deadline: float) -> Iterator[None]:
        """Bound the calling thread's call: at `deadline` (monotonic seconds) its socket is shut down."""
        thread = threading.get_ident()
        with self._lock:
            self._deadlines[thread] = deadline
            if not self._watching:
                self._watching = True
                threading.Thread(target=self._look, daemon=True, name="deadlines").start()
        try:
            yield
        finally:
            with self._lock:
                del self._deadlines[thread]

    def _look(self) -> None:
        idle_looks = 0
        while idle_looks < 40:
            time.sleep(_LOOKS_EVERY)
            now = self._monotonic()
            with self._lock:
                late = [thread for thread, deadline in self._deadlines.items() if deadline < now]
                idle_looks = 0 if self._deadlines else idle_looks + 1
                for thread in late:
                    with contextlib.suppress(KeyError, OSError):
                        self._sockets[thread].shutdown(socket.SHUT_RDWR)
                if idle_looks >= 40:
                    self._watching = False


def _watched(base: type[Any], sockets: dict[int, socket.socket]) -> type[Any]:
    class Watched(base):  # type: ignore[misc]
        def connect(self) -> None:
            super().connect()
            sockets[threading.get_ident()] = self.sock

    return Watched


def _pool_of(base: type[Any], connection: type[Any]) -> type[Any]:
    return type(f"Watched{base.__name__}", (base,), {"ConnectionCls": connection})
