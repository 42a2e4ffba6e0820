"""The sandbox as a server: listens, refuses connections, and plays the faults on what it answers."""

import contextlib
import json
import random
import socket
import struct
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from typing import Any, Self, cast
from urllib.parse import parse_qsl, unquote
from weakref import WeakSet

from .microservice import Answer, FaultPlan, Microservice, json_answer, page
from .supervisor import free_port

_BAD_BODIES = {"html": page("Please log in"), "empty": b"", "no_success": b'{"status": "accepted"}'}


class Sandbox(Microservice):
    """A stand-in orders microservice that listens, in threads of this process; also a context manager.

    While it runs, its faults can also be changed over HTTP from this machine: GET and PUT `/_sandbox/faults`;
    GET `/_sandbox/stats` and `/_sandbox/orders` show what came of it. `url` is its base address, without a slash at
    the end.
    """

    def __init__(
        self,
        token: str,
        host: str = "127.0.0.1",
        port: int = 0,
        faults: FaultPlan | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`token`: the bearer it accepts. `port` 0: any free one. `clock` dates the updates of orders."""
        super().__init__(token, clock)
        self.host, self.port = host, port
        self.faults = faults or FaultPlan()
        self.random = random.Random(self.faults.seed)  # noqa: S311 (faults that can be repeated)

    def __enter__(self) -> Self:
        """Listen. Raises CannotStart when the port is taken."""
        free_port(self.host, self.port)
        self._bind()
        self.accept()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._accepting.join()
        self._listener.close()
        for connection in list(self._connections):
            # Wakes the thread that reads from it, which then closes it.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def refuse(self) -> None:
        """Break all connections and refuse new ones until `accept`; the port stays ours."""
        self.__exit__()
        self._bind()

    def accept(self) -> None:
        """Listen again after `refuse`."""
        self._listener.listen(1024)
        self._accepting = threading.Thread(target=self._accept_connections, daemon=True)
        self._accepting.start()

    def set_faults(self, **changes: Any) -> None:
        """Change some of the faults; naming `seed` restarts the draws. ValueError says what is allowed."""
        self.faults = FaultPlan.model_validate(self.faults.model_dump() | changes)
        if "seed" in changes:
            self.random.seed(self.faults.seed)

    def _bind(self) -> None:
        """Take the port without listening: connections are refused, and nobody else gets it."""
        self._listener = socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((self.host, self.port))
        # Whoever waits for a connection would not notice that the socket is closed.
        self._listener.settimeout(0.01)
        self.port = self._listener.getsockname()[1]
        self.url = f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"
        self._closing = threading.Event()
        self._connections: WeakSet[socket.socket] = WeakSet()

    def _accept_connections(self) -> None:
        while not self._closing.is_set():
            with contextlib.suppress(OSError):
                connection, address = self._listener.accept()
                self._connections.add(connection)
                threading.Thread(
                    target=_Exchange, args=(connection, address, self, self._closing), daemon=True
                ).start()


class _Exchange(BaseHTTPRequestHandler):
    """One connection: answers its requests, correctly or as the faults demand, until `closing` is set."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body in one packet, otherwise a delayed acknowledgement comes between them
    timeout = 60

    def __init__(
        self, connection: socket.socket, address: Any, sandbox: Sandbox, closing: threading.Event
    ) -> None:
        self._sandbox, self._closing = sandbox, closing
        # An OSError: the client has gone.
        with contextlib.suppress(OSError), connection:
            super().__init__(connection, address, cast(Any, None))

    def do_GET(self) -> None:
        """Answer one request."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        target, _, query = self.path.partition("?")
        # Split before decoding: an order id may contain a slash.
        path = [unquote(segment) for segment in target.split("/")[1:]]
        if path[0] == "_sandbox":
            self._send(self._control("/".join(path[1:]), body))
            return
        plan = self._sandbox.faults
        self._sandbox.count("requests", self.command)
        fault = plan.draw(self._sandbox.random, path)
        if self._closing.wait(plan.latency_ms / 1000) or fault == "reset":
            # Lingering for no time makes the kernel send RST instead of FIN.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            return
        self._send_spoiled(
            plan.answer_instead(fault)
            or self._sandbox.answer(self.command, path, dict(parse_qsl(query)), self.headers, body),
            fault,
        )

    do_PUT = do_GET

    def log_message(self, *_: object) -> None:
        """Say nothing: the counts are in `stats`."""

    def _control(self, name: str, body: bytes) -> Answer:
        if self.client_address[0] not in ("127.0.0.1", "::1"):
            return json_answer(403, {"error": "only this machine may change the sandbox"})
        try:
            if (self.command, name) == ("PUT", "faults"):
                self._sandbox.set_faults(**json.loads(body))
        except (TypeError, ValueError) as error:
            return json_answer(400, {"error": str(error)})
        shown = {
            "faults": self._sandbox.faults.model_dump(),
            "stats": self._sandbox.stats(),
            "orders": self._sandbox.orders(),
        }
        return (
            json_answer(200, shown[name])
            if name in shown
            else json_answer(404, {"error": f"there are {', '.join(shown)}"})
        )

    def _send_spoiled(self, answer: Answer, fault: str | None) -> None:
        """Send what `fault` makes of the answer. A refusal, and an answer without a fault, stays as it is."""
        match fault if answer.status == 200 else None:
            case "drop_after_apply":
                self.close_connection = True
            case "html" | "empty" | "no_success" as bad_body:
                self._send(Answer(200, _BAD_BODIES[bad_body]))
            case _:
                self._send(answer)

    def _send(self, answer: Answer) -> None:
        if not self.path.startswith("/_sandbox/"):
            self._sandbox.count("answers", str(answer.status))
        self.send_response(answer.status)
        self.send_header("Content-Type", "text/html" if answer.body.startswith(b"<") else "application/json")
        self.send_header("Content-Length", str(len(answer.body)))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)
