"""fakeredis on a Unix socket, started as redis-server is: enough to try stocksync out where no real Redis can be had."""

import os
import socket
import sys
from typing import Any

from fakeredis import TcpFakeServer


class SocketServer(TcpFakeServer):
    """Keeps clients apart by a number: on a Unix socket they have no address."""

    address_family = socket.AF_UNIX

    def get_request(self) -> tuple[socket.socket, Any]:
        return super().get_request()[0], ("client", next(self.client_ids))


options = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
os.umask(0o077)
server = SocketServer(options["--unixsocket"])  # type: ignore[arg-type]  # any kind of address will do
# Its end does not wait for those who are still connected.
server.daemon_threads = True
server.serve_forever()
