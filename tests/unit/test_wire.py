"""A request and its answer on an open connection: what is sent, and every form that an answer may have."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from http.client import HTTPException
from types import SimpleNamespace
from typing import Any

import pytest
from urllib3.connection import HTTPConnection

from stocksync.delivery.wire import bounded, exchange

HEADERS = {"Authorization": "Bearer t", "X-Tenant": "shop"}
TOLD = b'{"success": true}'
JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.fixture
def ends() -> Iterator[tuple[SimpleNamespace, socket.socket]]:
    """Our way, with a connection that is open, and the remote's end of it."""
    ours, theirs = socket.socketpair()
    way = SimpleNamespace(host="orders:8080", deadline=time.monotonic() + 5)
    way.connection = bounded(HTTPConnection, way)("orders", 8080)
    way.connection.sock = ours
    way.pool = SimpleNamespace(pool=SimpleNamespace(queue=[way.connection]))
    with ours, theirs:
        theirs.settimeout(5)
        yield way, theirs


def put(way: Any, target: str = "/orders/o", headers: Any = HEADERS, largest: int = 10_000) -> Any:
    return exchange(way, target, headers, b"{}", largest)


def test_what_is_sent_is_one_request_with_the_headers_given(ends: Any) -> None:
    way, remote = ends
    way.deadline = time.monotonic() + 0.01
    with pytest.raises(TimeoutError):
        put(way)
    head, _, body = remote.recv(4096).partition(b"\r\n\r\n")

    assert head.split(b"\r\n") == [
        *(b"PUT /orders/o HTTP/1.1", b"Host: orders:8080", b"Authorization: Bearer t", b"X-Tenant: shop"),
        *(b"Accept-Encoding: identity", b"Content-Length: 2"),
    ]
    assert body == b"{}"


ANSWERS = {
    "with its length": (JSON + b"Content-Length: 17\r\n\r\n" + TOLD, (200, TOLD, None), True),
    "that keeps alive": (
        JSON + b"Connection: Keep-Alive\r\nContent-Length: 17\r\n\r\n" + TOLD, (200, TOLD, None), True,
    ),
    "that closes": (
        JSON + b"Connection: close\r\nContent-Length: 17\r\n\r\n" + TOLD, (200, TOLD, None), False,
    ),
    "of an old server": (
        b"HTTP/1.0 200 OK\r\nContent-Length: 17\r\n\r\n" + TOLD, (200, TOLD, None), False,
    ),
    "in chunks": (
        JSON + b"Transfer-Encoding: chunked\r\n\r\n5\r\n" + TOLD[:5] + b"\r\nc\r\n" + TOLD[5:] + b"\r\n0\r\n\r\n",
        (200, TOLD, None), True,
    ),
    "in chunks, whatever length it says": (
        JSON + b"Content-Length: 27\r\nTransfer-Encoding: chunked\r\n\r\n11\r\n" + TOLD + b"\r\n0\r\n\r\n",
        (200, TOLD, None), True,
    ),
    "after a word in between": (
        b"HTTP/1.1 100 Continue\r\n\r\n" + JSON + b"Content-Length: 17\r\n\r\n" + TOLD, (200, TOLD, None), True,
    ),
    "without a body": (b"HTTP/1.1 204 No Content\r\n\r\n", (204, b"", None), True),
    "that asks to wait": (
        b"HTTP/1.1 429 Slow Down\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\n{}", (429, b"{}", "7"), True,
    ),
    "too large": (JSON + b"Content-Length: 20000\r\n\r\n" + b"x" * 20_000, (200, b"x" * 10_001, None), False),
}  # fmt: skip


@pytest.mark.parametrize("kind", ANSWERS)
@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "byte by byte"])
def test_every_form_of_an_answer_is_read(ends: Any, kind: str, at_once: bool) -> None:
    (way, remote), (sent, expected, stays_open) = ends, ANSWERS[kind]
    remote.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    if at_once:
        remote.sendall(sent)
    else:
        way.connection.sock = Dripping(way.connection.sock)
        remote.sendall(sent)
    way.connection.__class__.is_connected = (
        True  # the answer waits there already, as if it came a moment later
    )
    assert put(way) == expected
    assert (way.connection.sock is not None) is stays_open


class Dripping:
    """A socket from which the first read takes a byte."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def recv(self, _: int) -> bytes:
        return self._sock.recv(1)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


def test_an_answer_that_is_cut_short_is_none_and_the_connection_goes(ends: Any) -> None:
    way, remote = ends
    way.connection.__class__.is_connected = True
    remote.sendall(JSON + b"Content-Length: 1000\r\n\r\n" + TOLD)
    remote.shutdown(socket.SHUT_WR)
    with pytest.raises(HTTPException):
        put(way)
    assert way.connection.sock is None


def test_a_remote_that_hangs_up_is_no_answer(ends: Any) -> None:
    way, remote = ends
    way.connection.__class__.is_connected = True
    remote.shutdown(socket.SHUT_WR)
    with pytest.raises(ConnectionError):
        put(way)
    assert way.connection.sock is None


def test_past_the_deadline_nothing_is_waited_for(ends: Any) -> None:
    way, _ = ends
    way.deadline, started = time.monotonic() - 1, time.monotonic()
    with pytest.raises(TimeoutError):
        put(way)
    assert time.monotonic() - started < 4
    assert way.connection.sock is None


@pytest.mark.parametrize(
    "given",
    [
        {"target": "http://orders:8080/orders/o"},  # through a proxy
        {"headers": {"X-Tenant": "sklep Łódź"}},
        {"headers": {"X-Tenant": "shop\r\nX-Forged: yes"}},
        {"headers": {"X-Tenant": "shop\nX-Forged: yes"}},
        {"target": "/orders/o HTTP/1.1\r\nX-Forged: yes"},
    ],
)
def test_what_cant_be_sent_as_it_is_is_left_to_urllib3(ends: Any, given: dict[str, Any]) -> None:
    way, remote = ends
    assert put(way, **given) is None
    remote.setblocking(False)
    with pytest.raises(BlockingIOError):
        remote.recv(1)


def test_a_connection_that_the_remote_closed_or_nobody_opened_is_not_used(ends: Any) -> None:
    way, remote = ends
    remote.close()
    assert put(way) is None
    way.pool.pool.queue[:] = [None]
    assert put(way) is None
