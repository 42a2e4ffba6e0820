"""A remote that costs next to nothing: answers every request `{"success": true}` after a fixed latency.

A process of its own (`python -m benchmarks.stub --latency 0.05`). It prints its port, and tells at `GET /stats`
what it saw: requests, the most that were in flight at once, the mean latency as it was here, and when (monotonic
seconds, the same clock in all processes of a machine) the first and last request came. `GET /arrivals` tells when it
heard first of each order that `--note` asks for. `GET /reset` begins anew. With `--journal FILE` every request is a line
of the file: when it came, its order, its idempotency key.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import socket
import time
from typing import Any, TextIO

_BODY = b'{"success": true, "error": null}'
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
_SUCCESS = _ANSWER % (len(_BODY), _BODY)
_LENGTH = b"content-length:"
_ORDERS = b"PUT /orders/"
_KEY = b"idempotency-key:"


class Tally:
    """What was seen since the last reset."""

    def __init__(self) -> None:
        self.requests = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self.latency_sum = 0.0
        self.first: float | None = None
        self.last: float | None = None
        self.arrivals: dict[str, float] = {}

    def as_dict(self) -> dict[str, Any]:
        """For `/stats`."""
        answered = self.requests - self.in_flight
        return {
            "requests": self.requests,
            "max_concurrency": self.most_in_flight,
            "mean_latency": self.latency_sum / answered if answered else 0.0,
            "first": self.first,
            "last": self.last,
        }


class Remote(asyncio.Protocol):
    """One kept-alive connection; requests may be pipelined."""

    def __init__(self, server: Stub) -> None:
        self._server = server
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        while (end := buffer.find(b"\r\n\r\n")) >= 0:
            head = buffer[:end]
            size = end + 4
            if (at := head.lower().find(_LENGTH)) >= 0:
                size += int(head[at + len(_LENGTH) :].split(b"\r\n", 1)[0])
            if len(buffer) < size:
                break
            buffer = buffer[size:]
            self._answer(head)
        self._buffer = buffer

    def _answer(self, head: bytes) -> None:
        assert self._transport is not None
        if head.startswith(b"GET /reset"):
            self._server.tally = Tally()
        if head.startswith(b"GET /"):
            seen = self._server.tally
            body = json.dumps(seen.arrivals if head.startswith(b"GET /arrivals") else seen.as_dict()).encode()
            self._transport.write(_ANSWER % (len(body), body))
            return
        tally, now = self._server.tally, time.monotonic()
        tally.requests += 1
        tally.in_flight += 1
        tally.most_in_flight = max(tally.most_in_flight, tally.in_flight)
        tally.last = now
        tally.first = now if tally.first is None else tally.first
        if self._server.note and head.startswith(self._server.note):
            tally.arrivals.setdefault(_order(head), now)
        if self._server.journal is not None:
            key = head[head.lower().find(_KEY) + len(_KEY) :].split(b"\r\n", 1)[0].strip().decode()
            self._server.journal.write(f"{now:.6f}\t{_order(head)}\t{key}\n")
        if self._server.latency:
            asyncio.get_running_loop().call_later(self._server.latency, self._write, tally, now)
        else:
            self._write(tally, now)

    def _write(self, tally: Tally, received: float) -> None:
        assert self._transport is not None
        tally.in_flight -= 1
        self._transport.write(_SUCCESS)
        tally.latency_sum += time.monotonic() - received


def _order(head: bytes) -> str:
    return head[len(_ORDERS) :].split(b"/", 1)[0].decode()


class Stub:
    """The server: its latency, the orders that it notes, its tally, and the journal if it keeps one."""

    def __init__(self, latency: float, note: str = "", journal: TextIO | None = None) -> None:
        self.latency = latency
        self.note = _ORDERS + note.encode() if note else b""
        self.tally = Tally()
        self.journal = journal

    async def run(self) -> None:
        """Serve until SIGTERM."""
        loop = asyncio.get_running_loop()
        stopped = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, stopped.set)
        server = await loop.create_server(lambda: Remote(self), "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await stopped.wait()
        server.close()


def ceiling(port: int, seconds: float = 1.0) -> dict[str, float]:
    """Requests a second that the stub takes: one at a time on a raw socket, and as many as it can (pipelined)."""
    body = b'{"token_id": "seller-1", "is_stock_updated": true}'
    request = b"PUT /orders/x/stock-status HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (
        len(body),
        body,
    )
    figures = {}
    for name, depth in (("one at a time", 1), ("pipelined", 50)):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            done, started = 0, time.monotonic()
            while time.monotonic() - started < seconds:
                connection.sendall(request * depth)
                missing = depth * len(_SUCCESS)
                while missing:
                    missing -= len(connection.recv(min(missing, 65536)))
                done += depth
            figures[name] = done / (time.monotonic() - started)
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A remote for benchmarks.")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds until the answer")
    parser.add_argument("--note", default="", help="how ids of orders begin whose arrival is noted")
    parser.add_argument("--journal", default="", help="file that every request is written to")
    given = parser.parse_args()
    if given.journal:
        with open(given.journal, "w", buffering=1) as file:
            asyncio.run(Stub(given.latency, given.note, file).run())
    else:
        asyncio.run(Stub(given.latency, given.note).run())
