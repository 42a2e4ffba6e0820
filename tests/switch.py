"""An address behind which another server can take over, as behind a DNS name, a balancer or a proxy."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading


class Switch:
    """Passes connections on to `target`, a port of this machine; those that are open stay with their server."""

    def __init__(self, target: int) -> None:
        self.target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._known: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Switch:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        for one in self._known:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def forget(self) -> None:
        """Forget all connections, as a NAT does with idle ones: what a client sends next is answered with RST."""
        self._known = set()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self.target))
                self._known |= {client, server}
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError), sink:
            while data := source.recv(65536):
                if source not in self._known:
                    source.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    source.close()
                    break
                sink.sendall(data)
