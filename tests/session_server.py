"""A server to test sessions with: it keeps what it was sent. And the calls of a client to it."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests

from stocksync import OrdersClient


@dataclass
class Seen:
    """One request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    peer: tuple[str, int]


class ManyAtOnce(ThreadingHTTPServer):
    request_queue_size = 64


class Server:
    """A remote on loopback that keeps what it is asked. As a proxy it answers for every host, through CONNECT too."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        seen = self.seen = list[Seen]()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                seen.append(Seen(self.command, self.path, dict(self.headers), self.client_address))
                body = json.dumps({"success": True, "id": "o", "is_stock_updated": True}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Set-Cookie", "balancer=b1")
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_PUT = answer

            def do_CONNECT(self) -> None:
                assert tls is not None
                seen.append(Seen(self.command, self.path, dict(self.headers), self.client_address))
                self.send_response(200)
                self.end_headers()
                self.close_connection = False
                self.connection = tls.wrap_socket(self.connection, server_side=True)
                self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ManyAtOnce(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


def put(client: OrdersClient) -> bool:
    return client.update_stock_status(
        token_id="t", order_id="o", is_stock_updated=True, idempotency_key="t:o:1"
    ).success


def find(client: OrdersClient) -> bool:
    found = client.find_order(token_id="t", order_id="o")
    return found is not None and found.is_stock_updated


def is_healthy(client: OrdersClient) -> bool:
    return client.is_healthy(client.timeout)


every_call = pytest.mark.parametrize("call", [put, find, is_healthy])
Call = Callable[[OrdersClient], bool]


def signed(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """An auth that has to see each request."""
    request.headers["X-Signature"] = f"{request.method} {request.headers.get('Idempotency-Key')}"
    return request
