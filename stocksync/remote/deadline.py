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
from weakref import WeakValueDictionary

_LOOKS_EVERY = 0.25
"""Seconds between two looks; a call outlives its deadline by no more than that."""


class Watch:
    """Ends calls that outlive their deadline. Its thread runs only while there is something to watch."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._connections: WeakValueDictionary[int, Any] = WeakValueDictionary()
        self._deadlines: dict[int, float] = {}
        self._watching = False

    def watched(self, base: type[Any]) -> type[Any]:
        """A kind of urllib3 connection that the watch knows; each belongs to the thread that opens it."""
        connections = self._connections

        class Watched(base):  # type: ignore[misc]
            def connect(self) -> None:
                connections[threading.get_ident()] = self  # before: a proxy's answer can be slow too
                super().connect()

        return Watched

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
                    # Not connected yet, or closed already: there is nothing to shut down.
                    with contextlib.suppress(KeyError, AttributeError, OSError):
                        self._connections[thread].sock.shutdown(socket.SHUT_RDWR)
                if idle_looks >= 40:
                    self._watching = False
