"""The sandbox's port: listens on it, refuses connections while keeping it, gives it up."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable

from .errors import PortUnavailable
from .wire import MAX_HEAD_BYTES

_BACKLOG = 1024

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Listener:
    """One address that is taken when this is made, by whichever thread; the rest is for the event loop's.

    `serve` is called with each connection that comes. Raises `PortUnavailable`.
    """

    def __init__(self, host: str, port: int, serve: Serve) -> None:
        self._serve = serve
        self._server: asyncio.Server | None = None
        self._host = host
        self._bound: socket.socket | None = _bound_socket(host, port)
        self.port: int = self._bound.getsockname()[1]

    async def accept(self) -> None:
        """Listen, if not listening already."""
        if self._server is not None:
            return
        bound, self._bound = self._bound or _bound_socket(self._host, self.port), None
        try:
            self._server = await asyncio.start_server(
                self._serve, sock=bound, limit=MAX_HEAD_BYTES, backlog=_BACKLOG
            )
        except OSError as error:
            bound.close()
            raise PortUnavailable(self._host, self.port, error.strerror or str(error)) from error

    def refuse(self) -> None:
        """Stop listening, so that connections are refused; the port stays taken."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        # Bound but not listening: nobody else gets the port meanwhile. Should somebody have been quicker,
        # accept() tries again and says so.
        with contextlib.suppress(PortUnavailable):
            self._bound = _bound_socket(self._host, self.port)

    def close(self) -> None:
        """Stop listening and give the port up."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._bound is not None:
            self._bound.close()
            self._bound = None


def _bound_socket(host: str, port: int) -> socket.socket:
    """Return a socket bound there and not yet listening; raises `PortUnavailable`."""
    if not 0 <= port <= 65535:
        raise PortUnavailable(host, port, "ports go from 0 to 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise PortUnavailable(host, port, error.strerror or str(error)) from error
    try:
        # Connections that were just broken must not keep us from binding again.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise PortUnavailable(host, port, error.strerror or str(error)) from error
    return bound
