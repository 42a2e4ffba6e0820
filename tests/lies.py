"""Answers that no service gives on purpose: half a body, ten megabytes of it, or one that never ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from stocksync.sandbox.microservice import Answer
from stocksync.sandbox.server import _Exchange

_DRIP_SECONDS, _DROPS = 0.05, 1200


def _truncated(exchange: _Exchange, answer: Answer) -> None:
    _head(exchange, f"Content-Length: {len(answer.body)}\r\n\r\n")
    exchange.wfile.write(answer.body[: len(answer.body) // 2])


def _huge(exchange: _Exchange, answer: Answer) -> None:
    body = answer.body.rjust(10_000_000)  # leading spaces are good JSON
    _head(exchange, f"Content-Length: {len(body)}\r\n\r\n")
    exchange.wfile.write(body)


def _endless(exchange: _Exchange, answer: Answer) -> None:
    _head(exchange, f"Content-Length: {_DROPS}\r\n\r\n")
    _drip(exchange, b" ")


def _slow_headers(exchange: _Exchange, answer: Answer) -> None:
    _head(exchange, "Content-Length: 1\r\nX-Slow: ")
    _drip(exchange, b"x")


LIES: dict[str, Callable[[_Exchange, Answer], None]] = {
    "truncated": _truncated,
    "huge": _huge,
    "endless": _endless,
    "slow_headers": _slow_headers,
}


@contextmanager
def lying(lie: str | None) -> Iterator[None]:
    """Meanwhile every sandbox answers what concerns orders so, having done what it was asked for. None: it does not lie."""
    tell_the_truth = _Exchange._send_spoiled

    def send(exchange: _Exchange, answer: Answer, fault: str | None) -> None:
        if lie and exchange.path.startswith("/orders"):
            exchange.close_connection = True
            LIES[lie](exchange, answer)
        else:
            tell_the_truth(exchange, answer, fault)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Exchange, "_send_spoiled", send)
        yield


def _head(exchange: _Exchange, headers: str) -> None:
    exchange.wfile.write(f"HTTP/1.1 200 OK\r\n{headers}".encode())


def _drip(exchange: _Exchange, drop: bytes) -> None:
    for _ in range(_DROPS):
        exchange.wfile.write(drop)
        exchange.wfile.flush()
        if exchange._closing.wait(_DRIP_SECONDS):
            break
