"""One request and its answer on an HTTP/1.1 connection that `requests` has opened, at the cost of a socket."""

from collections.abc import Mapping
from http.client import HTTPException, HTTPResponse
from socket import SocketIO
from time import monotonic
from typing import Any

from urllib3.util.connection import is_connection_dropped


def bounded(connection: type[Any], way: Any) -> type[Any]:
    """The same kind of urllib3 connection; its reads wait no longer than until `way.deadline` (monotonic seconds).

    A time-out of urllib3 bounds each read: a remote that sends one header byte a second is never caught by it.
    """

    class Reads(SocketIO):
        first = b""
        """Read already, to be read again."""

        def readinto(self, buffer: Any) -> int | None:
            if self.first:
                size = min(len(buffer), len(self.first))
                buffer[:size], self.first = self.first[:size], self.first[size:]
                return size
            if (seconds := way.deadline - monotonic()) <= 0:
                raise TimeoutError
            self._sock.settimeout(seconds)  # type: ignore[attr-defined]
            return super().readinto(buffer)

    class Response(HTTPResponse):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            # In its place: a reader around it would cost each response a buffer more.
            self.fp.raw.__class__ = Reads

    return type("Bounded", (connection,), {"response_class": Response})


def exchange(
    way: Any, target: str, headers: Mapping[str, str], body: bytes, largest: int
) -> tuple[int, bytes, str | None] | None:
    """PUT `body` over the connection in `way.pool`, if that is open and leads to `way.host` itself.

    Returns:
        Status, body (cut past `largest` bytes) and Retry-After. None: nothing was sent.

    Raises:
        OSError, HTTPException: no complete answer; the connection is closed.
    """
    connection = next(iter(way.pool.pool.queue), None)
    if connection is None or not target.startswith("/") or is_connection_dropped(connection):
        return None
    fields = {
        "Host": way.host,
        **headers,
        "Accept-Encoding": "identity",
        "Content-Length": str(len(body)),
    }
    head = "\r\n".join((f"PUT {target} HTTP/1.1", *map(": ".join, fields.items()), "", ""))
    if not head.isascii() or head.count("\n") + head.count("\r") > 2 * len(fields) + 4:
        return None
    try:
        connection.sock.settimeout(max(0.001, way.deadline - monotonic()))
        connection.sock.sendall(head.encode() + body)
        connection.sock.settimeout(max(0.001, way.deadline - monotonic()))
        return _read(connection, largest)
    except BaseException:
        connection.close()
        raise


def _read(connection: Any, largest: int) -> tuple[int, bytes, str | None]:
    """The answer. A success that came whole and says its length is taken as it is, and that is nearly every one. Any
    other is read by the standard library."""
    received = connection.sock.recv(8192)
    head, _, text = received.partition(b"\r\n\r\n")
    fields = dict(line.partition(b": ")[::2] for line in head.lower().split(b"\r\n"))
    if (
        head.startswith(b"HTTP/1.1 2")
        and fields.get(b"content-length") == b"%d" % len(text)
        and fields.get(b"connection", b"keep-alive") == b"keep-alive"
        and b"transfer-encoding" not in fields
    ):
        return int(head[9:12]), text, None
    response = connection.response_class(connection.sock, method="PUT")
    response.fp.raw.first = received
    response.begin()
    text = response.read(largest + 1)
    if response.length and len(text) <= largest:
        raise HTTPException("the answer was cut short")
    if response.will_close or not response.isclosed():
        connection.close()
    return response.status, text, response.getheader("Retry-After")
