"""Hosts that can be cut off: each in a network namespace of its own, or, where that is not allowed, behind a proxy.

A host in a namespace is joined to the others by a pair of virtual interfaces on a bridge; its cable is pulled by setting
its end at the bridge down: packets are lost, and no connection is told. A proxy of ours holds back every byte instead,
and takes connections that lead nowhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence

LOOPBACK = "127.0.0.1"
_CHUNK = 65536


class Host(ABC):
    """Where a process runs, as seen by the drill."""

    prefix: Sequence[str]
    """Words before a command that runs there."""

    @abstractmethod
    def way(self, port: int) -> tuple[str, int]:
        """Address and port by which a server's `port` is reached from there."""

    @abstractmethod
    def cut(self) -> None:
        """Nothing comes through any more."""

    @abstractmethod
    def restore(self) -> None:
        """Everything does again."""


class Network(ABC):
    """All hosts that can be cut off."""

    says: str
    addresses: str
    """Those that servers listen at, by comma."""
    range: str
    """Of addresses that clients come from."""

    @abstractmethod
    def host(self, number: int) -> Host:
        """The host of that number, from 0; made at the first call."""

    @abstractmethod
    def close(self) -> None:
        """Take down what was made."""


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=10, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")


class NamespaceHost(Host):
    """A namespace with one interface. The servers are at the bridge."""

    def __init__(self, name: str, bridge: str, address: str, servers: str) -> None:
        self.name, self._servers = name, servers
        self._cable = f"{name}-c"
        self.prefix = ("ip", "netns", "exec", name)
        _ip("netns", "add", name)
        _ip("link", "add", self._cable, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("link", "set", self._cable, "master", bridge, "up")
        _ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
        _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", name, "link", "set", "eth0", "up")

    def way(self, port: int) -> tuple[str, int]:
        return self._servers, port

    def cut(self) -> None:
        _ip("link", "set", self._cable, "down")

    def restore(self) -> None:
        _ip("link", "set", self._cable, "up")


class Namespaces(Network):
    """A bridge, and a namespace for every host. Raises OSError where that is not allowed."""

    says = "network namespaces, joined by a bridge"

    def __init__(self) -> None:
        number = os.getpid() % 250
        self._name, self._net = f"dr{os.getpid()}", f"10.213.{number}"
        self.addresses, self.range = f"{LOOPBACK},{self._net}.1", f"{self._net}.0/24"
        self._hosts: dict[int, NamespaceHost] = {}
        try:
            _ip("link", "add", self._name, "type", "bridge")
            _ip("addr", "add", f"{self._net}.1/24", "dev", self._name)
            _ip("link", "set", self._name, "up")
            self.host(0)
        except OSError:
            self.close()
            raise

    def host(self, number: int) -> NamespaceHost:
        if number not in self._hosts:
            name = f"{self._name}-{number}"
            try:
                self._hosts[number] = NamespaceHost(
                    name, self._name, f"{self._net}.{number + 2}", f"{self._net}.1"
                )
            except OSError:
                with contextlib.suppress(OSError):
                    _ip("netns", "del", name)
                raise
        return self._hosts[number]

    def close(self) -> None:
        for host in self._hosts.values():
            with contextlib.suppress(OSError):
                _ip("netns", "del", host.name)
        with contextlib.suppress(OSError):
            _ip("link", "del", self._name)


class ProxiedHost(Host):
    """A host whose every connection goes through a proxy of ours."""

    prefix = ()

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ports: dict[int, int] = {}
        self._open = asyncio.Event()
        self._open.set()

    def way(self, port: int) -> tuple[str, int]:
        if port not in self._ports:
            made = asyncio.run_coroutine_threadsafe(self._listen(port), self._loop)
            self._ports[port] = made.result(10)
        return LOOPBACK, self._ports[port]

    def cut(self) -> None:
        self._loop.call_soon_threadsafe(self._open.clear)

    def restore(self) -> None:
        self._loop.call_soon_threadsafe(self._open.set)

    async def _listen(self, port: int) -> int:
        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await self._open.wait()
                far_reader, far_writer = await asyncio.open_connection(LOOPBACK, port)
            except OSError:
                writer.close()
                return
            await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))

        server = await asyncio.start_server(carry, LOOPBACK, 0)
        return int(server.sockets[0].getsockname()[1])

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                await self._open.wait()
                writer.write(data)
                await writer.drain()
        await self._open.wait()
        writer.close()


class Proxies(Network):
    """Proxies in a thread of this process, where namespaces can't be had."""

    addresses, range = LOOPBACK, f"{LOOPBACK}/32"

    def __init__(self, why: str) -> None:
        self.says = f"a TCP proxy before each host, because {why}"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._hosts: dict[int, ProxiedHost] = {}

    def host(self, number: int) -> ProxiedHost:
        return self._hosts.setdefault(number, ProxiedHost(self._loop))

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)


def join(*, namespaces: bool = True) -> Network:
    """Namespaces where they are wanted and allowed, else proxies."""
    if not namespaces:
        return Proxies("it was asked for")
    try:
        return Namespaces()
    except OSError as error:
        return Proxies(str(error))
