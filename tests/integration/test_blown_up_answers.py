"""A remote whose short answers become very long when they are decompressed."""

from __future__ import annotations

import time
import tracemalloc
import zlib
from typing import Any

import pytest
import requests

from stocksync import OrdersClient
from stocksync.errors import RemoteError
from tests.integration.test_session_adapters import JSON, liar
from tests.session_server import Call, every_call, signed

MEGABYTES = 24
"""What a call may take of memory; unbounded, one block of the answer alone takes 64."""


def bomb(window: int) -> tuple[bytes, bytes]:
    """How a compressed text begins, and what can follow it again and again: 64 KB that become 64 MB."""
    packer = zlib.compressobj(9, wbits=window)
    first = packer.compress(b" ") + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(b" " * 64_000_000) + packer.flush(zlib.Z_FULL_FLUSH)
    assert len(again) < 100_000
    return first, again


BOMBS = {"gzip": bomb(31), "deflate": bomb(15)}


@pytest.mark.parametrize("auth", [None, signed], ids=["plain", "signed"])
@pytest.mark.parametrize("encoding", BOMBS)
@every_call
def test_an_answer_that_blows_up_ends_by_its_size(encoding: str, auth: Any, call: Call) -> None:
    first, again = BOMBS[encoding]
    head = JSON + f"Content-Encoding: {encoding}\r\n\r\n".encode()
    with liar(head + first, again, 0) as address, requests.Session() as session:
        session.auth = auth
        client, longest = OrdersClient(address, timeout=20, session=session), 10
        started, answered = time.monotonic(), False
        tracemalloc.start()
        try:
            answered = call(client)
        except RemoteError:
            assert not answered
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()

    assert not answered
    assert peak < MEGABYTES * 2**20
    assert time.monotonic() - started < longest
