"""Reads that end with the time that is left, whatever arrives meanwhile."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPResponse

import pytest

from stocksync.delivery.wire import bounded


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Ours and the remote's, with the beginning of an answer on its way."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(30)
        theirs.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
        yield ours, theirs


class Way:
    """`deadline` is so many seconds ahead as `left` says, each time that somebody looks."""

    def __init__(self, left: Callable[[], float]) -> None:
        self.left = left

    @property
    def deadline(self) -> float:
        return time.monotonic() + self.left()


def response(ours: socket.socket, left: Callable[[], float]) -> HTTPResponse:
    made: HTTPResponse = bounded(HTTPConnection, Way(left)).response_class(ours, method="PUT")
    return made


def test_a_read_waits_no_longer_than_what_is_left(ends: tuple[socket.socket, socket.socket]) -> None:
    left = iter([5.0, 0.02])
    answer, started = response(ends[0], lambda: next(left)), time.monotonic()
    answer.begin()
    with pytest.raises(TimeoutError):
        answer.read()
    assert time.monotonic() - started < 10  # the socket itself would wait for 30 s


def test_past_the_deadline_nothing_is_read_though_it_is_there(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    with pytest.raises(TimeoutError):
        response(ends[0], lambda: -1.0).begin()


def test_in_time_everything_is_read_and_the_socket_stays_open(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = ends
    answer = response(ours, lambda: 5.0)
    answer.begin()
    theirs.sendall(b"done")

    assert answer.read() == b"done"
    ours.sendall(b"next")
    assert theirs.recv(4) == b"next"
