"""One client's connection to the sandbox, with the right way to answer on it and the wrong ones."""

import asyncio
import socket
import struct
from collections.abc import Callable
from datetime import datetime
from email.utils import formatdate
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from .wire import Response, render_head

HANG_SECONDS = 60.0
_DRIP_SECONDS = 0.05
_HUGE_BYTES = 10 * 1000 * 1000


class Connection:
    """A connection that is being served. `keep_alive` is what the last request asked for."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, clock: Callable[[], datetime]
    ) -> None:
        self.reader = reader
        self.keep_alive = True
        self._writer = writer
        self._clock = clock

    @property
    def is_local(self) -> bool:
        """Whether the client is on this machine, by its loopback address."""
        peer = self._writer.get_extra_info("peername")
        if peer is None:
            return False
        address = ip_address(peer[0].partition("%")[0])
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return address.is_loopback

    @property
    def is_open(self) -> bool:
        return self.keep_alive and not self._writer.is_closing()

    async def send(self, response: Response) -> None:
        """Answer as one should: head and body in one write, lest a delayed acknowledgement come between."""
        self._writer.write(self._head(response, len(response.body)) + response.body)
        await self._writer.drain()
        if not self.keep_alive:
            self.close()

    def close(self) -> None:
        """Close after what was written has gone out."""
        self.keep_alive = False
        self._writer.close()

    def reset(self) -> None:
        """Reset the connection: the client sees it break, not end."""
        self.keep_alive = False
        if self._writer.is_closing():
            return
        # Lingering for no time makes the kernel send RST instead of FIN.
        self._writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        self._writer.transport.abort()

    async def hang(self) -> None:
        """Say nothing until the client goes, a minute at most."""
        try:
            async with asyncio.timeout(HANG_SECONDS):
                await self.reader.read()
        except TimeoutError:
            pass
        self.close()

    async def send_half(self, response: Response) -> None:
        """Announce the whole body, send half of it, close."""
        head = self._head(response, len(response.body))
        self._writer.write(head + response.body[: len(response.body) // 2])
        await self._writer.drain()
        self.close()

    async def send_huge(self, response: Response) -> None:
        """Send a body of 10 MB that ends as it should: leading blanks are good JSON."""
        padding = b" " * (_HUGE_BYTES - len(response.body))
        self._writer.write(self._head(response, _HUGE_BYTES))
        for start in range(0, len(padding), 65536):
            self._writer.write(padding[start : start + 65536])
            await self._writer.drain()
        self._writer.write(response.body)
        await self._writer.drain()

    async def drip_body(self, response: Response) -> None:
        """Send a body that does not end: a blank every 50 ms until the client goes, a minute at most."""
        self._writer.write(self._head(response, None))
        await self._drip(b"1\r\n \r\n")

    async def drip_headers(self, response: Response) -> None:
        """Send headers that do not end: a character every 50 ms until the client goes, a minute at most."""
        self._writer.write(self._head(response, len(response.body))[:-2] + b"X-Slow: ")
        await self._drip(b"x")

    async def _drip(self, drop: bytes) -> None:
        for _ in range(int(HANG_SECONDS / _DRIP_SECONDS)):
            self._writer.write(drop)
            await self._writer.drain()
            await asyncio.sleep(_DRIP_SECONDS)
        self.close()

    def _head(self, response: Response, length: int | None) -> bytes:
        return render_head(response, _http_date(int(self._clock().timestamp())), length, self.keep_alive)


@lru_cache(maxsize=4)
def _http_date(second: int) -> str:
    """Return a second as HTTP writes it; kept, because it is the same for all answers of that second."""
    return formatdate(second, usegmt=True)
