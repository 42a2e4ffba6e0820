"""What gunicorn reads beside its options: a client that falls silent in mid-request gives its thread back."""

import socket
import struct
from typing import Any

SILENT_SECONDS = 10
"""For which a thread waits for a client's next bytes, or until it takes ours."""


def when_ready(server: Any) -> None:
    """Called by gunicorn once it listens; what it accepts there inherits both times."""
    for listener in server.LISTENERS:
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            listener.sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", SILENT_SECONDS, 0))
    # Else each silent client would be logged as an error with its traceback.
    server.log.error_log.addFilter(lambda record: BlockingIOError not in (record.exc_info or ()))
