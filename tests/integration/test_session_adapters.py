"""Adapters of a session, many threads at one, and answers without end."""

from __future__ import annotations

import json
import logging
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from io import BytesIO
from typing import Any

import pytest
import requests
from requests.adapters import BaseAdapter, HTTPAdapter
from urllib3 import HTTPResponse, Retry

from stocksync import OrdersClient, Runtime, StockSyncConfig
from stocksync.delivery.answers import Verdict
from stocksync.errors import RemoteError
from stocksync.sandbox import Sandbox
from tests.servers import free_port
from tests.session_server import Call, Server, every_call, find, is_healthy, put, signed


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as made:
        yield made


class Stamping(HTTPAdapter):
    """An adapter that sees each request."""

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        request.headers["X-Stamp"] = "stamped"
        return super().send(request, *args, **options)


class Mock(BaseAdapter):
    """An adapter that opens no connection, as the libraries for tests have them."""

    def __init__(self, *answers: Any) -> None:
        super().__init__()
        self.answers = list(answers)
        self.sent = list[requests.PreparedRequest]()

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        self.sent.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        response = requests.Response()
        response.status_code, response.request, response.url = 200, request, str(request.url)
        response.raw = HTTPResponse(BytesIO(json.dumps(answer).encode()), preload_content=False)
        return response

    def close(self) -> None:
        pass


@every_call
def test_an_adapter_with_a_way_of_its_own_sends_every_request(
    server: Server, session: requests.Session, call: Call
) -> None:
    session.mount("http://", Stamping())
    assert call(OrdersClient(server.url, "token", session=session))
    assert server.seen[0].headers["X-Stamp"] == "stamped"


def test_an_adapter_of_a_test_answers_in_the_place_of_the_network(session: requests.Session) -> None:
    mock = Mock(
        {"success": True}, {"id": "o", "is_stock_updated": True}, {}, {"success": False, "error": "no"}
    )
    session.mount("mock://", mock)
    client = OrdersClient("mock://orders", "token", session=session)

    assert (put(client), find(client), is_healthy(client), put(client)) == (True, True, True, False)
    assert [request.method for request in mock.sent] == ["PUT", "GET", "GET", "PUT"]
    assert json.loads(mock.sent[0].body or b"") == {"token_id": "t", "is_stock_updated": True}
    assert mock.sent[0].headers["Idempotency-Key"] == "t:o:1"


@pytest.mark.parametrize(
    ("raised", "error_class"),
    [
        (requests.ConnectTimeout(), "ConnectTimeout"),
        (requests.ReadTimeout(), "Timeout"),
        (requests.ConnectionError("gone"), "ConnectionError"),
    ],
)
def test_what_an_adapter_of_a_test_raises_is_an_answer_that_cant_be_told(
    session: requests.Session, raised: Exception, error_class: str
) -> None:
    session.mount("mock://", Mock(raised, raised, raised, raised))
    client = OrdersClient("mock://orders", "token", session=session)
    answer = client.update_stock_status(token_id="t", order_id="o", is_stock_updated=True)

    assert (answer.verdict, answer.error_class) == (Verdict.UNCLEAR, error_class)
    with pytest.raises(RemoteError) as failed:
        find(client)
    assert failed.value.error_class == error_class


def test_a_mock_that_comes_after_the_first_call_is_asked_from_then_on(
    server: Server, session: requests.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = OrdersClient(server.url, "token", session=session)
    assert put(client)
    mounted, patched = Mock({"success": True}), Mock({"success": True})
    with monkeypatch.context() as patching:  # as the library `responses` does it
        patching.setattr(HTTPAdapter, "send", lambda _, request, **options: patched.send(request, **options))
        assert put(client)
    session.mount(server.url, mounted)
    assert put(client)

    assert (len(server.seen), len(patched.sent), len(mounted.sent)) == (1, 1, 1)


def test_retries_of_an_adapter_are_left_to_the_engine(session: requests.Session) -> None:
    often = Retry(5, status_forcelist=[503], allowed_methods=None, backoff_factor=0)
    session.mount("http://", HTTPAdapter(max_retries=often))
    with Sandbox(token="sandbox") as sandbox:
        sandbox.set_faults(error_share=1, error_status=503)
        client = OrdersClient(sandbox.url, "sandbox", session=session)
        assert not put(client)
        session.auth = signed
        assert not put(client)
        assert sandbox.stats()["requests"] == {"PUT": 2}


# Many threads, and a session that others use too


@pytest.mark.parametrize("auth", [None, signed], ids=["plain", "signed"])
def test_more_threads_than_the_adapter_has_connections_for_keep_one_each(
    server: Server, session: requests.Session, auth: Any, caplog: pytest.LogCaptureFixture
) -> None:
    session.mount("http://", HTTPAdapter(pool_maxsize=1))
    session.auth = auth
    client = OrdersClient(server.url, "token", session=session)
    together = threading.Barrier(16)

    def work() -> bool:
        together.wait(10)
        return all(put(client) and find(client) for _ in range(5))

    with caplog.at_level(logging.WARNING), ThreadPoolExecutor(16) as threads:
        assert all(done.result(30) for done in [threads.submit(work) for _ in range(16)])
    assert len({seen.peer for seen in server.seen}) == 16
    assert caplog.records == []


def test_the_session_stays_as_it_was(server: Server, session: requests.Session) -> None:
    adapter, before = session.get_adapter(server.url), dict(session.__dict__)
    client = OrdersClient(server.url, "token", session=session)
    assert put(client)
    assert find(client)

    assert session.__dict__ == before
    assert session.get_adapter(server.url) is adapter
    assert session.get(server.url, timeout=5).json()["success"]  # without a deadline of ours


# Time and size


JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
LIES: dict[str, tuple[bytes, bytes, float]] = {
    # what is sent first, what comes after it again and again, seconds between
    "slow headers": (b"HTTP/1.1 200 OK\r\nX-Long: ", b"x", 0.05),
    "slow body": (JSON + b"Content-Length: 1000\r\n\r\n", b" ", 0.05),
    "endless": (JSON + b"\r\n", b" " * 65536, 0),
    "endless chunks": (JSON + b"Transfer-Encoding: chunked\r\n\r\n", b"400\r\n" + b" " * 1024 + b"\r\n", 0),
    "endless redirect": (b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\n\r\n", b" " * 65536, 0),
    "cut short": (JSON + b'Content-Length: 1000\r\n\r\n{"success": true}', b"", 0),
}


@contextmanager
def liar(first: bytes, again: bytes, pause: float) -> Iterator[str]:
    """A server that answers every request so. Its address."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline().strip():
                pass
            with suppress(OSError):
                self.wfile.write(first)
                while again:
                    self.wfile.write(again)
                    time.sleep(pause)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join(5)


@pytest.mark.parametrize("auth", [None, signed], ids=["plain", "signed"])
@pytest.mark.parametrize("lie", LIES)
@every_call
def test_an_answer_without_end_ends_by_its_size_or_by_its_time(
    session: requests.Session, auth: Any, lie: str, call: Call
) -> None:
    session.auth = auth
    slow, longest = LIES[lie][2] > 0, 30
    with liar(*LIES[lie]) as address:
        client = OrdersClient(address, timeout=0.5 if slow else longest, session=session)
        started, reason = time.monotonic(), "Timeout"
        try:
            answered = call(client)
        except RemoteError as error:
            answered, reason = False, error.error_class
        elapsed = time.monotonic() - started

    assert not answered
    assert reason == "Timeout" or not slow
    assert elapsed < longest / 2


@every_call
def test_no_call_follows_a_redirect(server: Server, session: requests.Session, call: Call) -> None:
    answer = f"HTTP/1.1 307 Over There\r\nLocation: {server.url}/orders/o\r\nContent-Length: 0\r\n\r\n"
    with liar(answer.encode(), b"", 0) as address:
        for session.auth in (None, signed):
            with suppress(RemoteError):
                assert not call(OrdersClient(address, "token", session=session))
    assert server.seen == []


# A runtime's own


def test_a_runtime_takes_a_session_in_one_line(server: Server, session: requests.Session) -> None:
    session.headers["X-Tenant"] = "shop"
    config = StockSyncConfig.load(
        {
            "ALLEGRO_MICROSERVICE_BASE_URL": server.url,
            "ALLEGRO_MICROSERVICE_JWT_TOKEN": "token",
            "DATABASE_URL": "sqlite://",
        }
    )
    sender = Runtime(config, session=session).sender
    assert sender.is_healthy()
    assert server.seen[0].headers["X-Tenant"] == "shop"


def test_an_orders_client_that_a_runtime_is_given_is_used_as_it_is() -> None:
    client = OrdersClient(f"http://127.0.0.1:{free_port()}", "token")
    assert Runtime(StockSyncConfig.load({"DATABASE_URL": "sqlite://"}), client=client).sender is client


def test_requests_is_imported_when_a_client_is_made_and_not_before() -> None:
    code = (
        "import sys, stocksync; before = 'requests' in sys.modules; "
        "stocksync.OrdersClient('http://127.0.0.1:1'); print(before, 'requests' in sys.modules)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert said.stdout.split() == ["False", "True"]
