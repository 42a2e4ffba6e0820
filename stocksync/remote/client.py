"""OrdersClient: tells the orders microservice over kept-alive connections, each call within a total deadline."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import quote

import requests
import urllib3.exceptions
from requests.utils import get_environ_proxies

from stocksync.domain.answers import Answer, Verdict, printable, understand
from stocksync.remote.deadline import Watch

_LARGEST_BODY = 64 * 1024
STATUS_PATH = "/orders/{order_id}/stock-status"


class StatusClient(Protocol):
    """What a monolith's own client must offer to be used in the place of OrdersClient."""

    def update_stock_status(self, *, token_id: str, order_id: str, is_stock_updated: bool) -> Any:
        """An object with `.success` and `.error`."""


class OrdersClient:
    """The contract of design section 5: `PUT {base}/orders/{order_id}/stock-status`.

    Safe to share between threads: each has its own connection. Never raises for what the remote does.
    """

    def __init__(
        self,
        base_url: str,
        jwt_token: str | Callable[[], str | None] | None = None,
        *,
        connect_timeout: float = 3.0,
        timeout: float = 8.0,
        status_path: str = STATUS_PATH,
        health_path: str = "/health",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            base_url: of the microservice, without the path.
            jwt_token: sent as bearer; a callable is asked once per thread, and again after `forget_token`.
            connect_timeout: seconds to connect.
            timeout: seconds for a whole call, from connecting to the last byte.
            status_path: contains `{order_id}`.
            health_path: answers 200 with JSON when the remote is well.
        """
        self._url = base_url.rstrip("/") + status_path
        self._health_url = base_url.rstrip("/") + health_path
        self._token = jwt_token if callable(jwt_token) else lambda: jwt_token
        self._connect_timeout = connect_timeout
        self.timeout = timeout
        self._monotonic = monotonic
        # Read once here: with trust_env requests asks the environment again for every call, at half the speed.
        self._proxies = get_environ_proxies(base_url)
        self._local = threading.local()
        self._token_generation = 0
        self._watch = Watch(monotonic)

    def forget_token(self) -> None:
        """Ask for the token again before the next call: the one in use was refused."""
        self._token_generation += 1

    def is_healthy(self, timeout: float = 3.0) -> bool:
        """Whether the remote says that it is well: 200 and a JSON object, within `timeout` seconds."""
        session, _ = self._session()
        deadline = self._monotonic() + timeout
        try:
            with (
                self._watch.until(deadline),
                session.get(
                    self._health_url,
                    timeout=timeout,
                    stream=True,
                    allow_redirects=False,
                    proxies=self._proxies,
                ) as response,
            ):
                text = self._read(response, deadline) if response.status_code == 200 else None
            return text is not None and isinstance(json.loads(text), dict)
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError):
            return False

    def update_stock_status(
        self,
        *,
        token_id: str,
        order_id: str,
        is_stock_updated: bool,
        idempotency_key: str | None = None,
        timeout: float | None = None,
    ) -> Answer:
        """Tell the remote. `timeout`: seconds for the whole call, None: the client's own."""
        session, template = self._session()
        body = json.dumps({"token_id": token_id, "is_stock_updated": is_stock_updated}).encode()
        request = template.copy()
        request.url = self._url.replace("{order_id}", quote(order_id, safe=""))
        request.body = body
        request.headers["Content-Length"] = str(len(body))
        if idempotency_key is not None:
            # A header must be ASCII; ids that are not are quoted the same way every time.
            request.headers["Idempotency-Key"] = quote(idempotency_key, safe="%:-_.~ ")
        total = self.timeout if timeout is None else timeout
        deadline = self._monotonic() + total
        try:
            with self._watch.until(deadline):
                response = session.send(
                    request,
                    timeout=(min(self._connect_timeout, total), total),
                    stream=True,
                    allow_redirects=False,
                    proxies=self._proxies,
                )
                with response:
                    text = self._read(response, deadline)
        except requests.exceptions.ConnectTimeout:
            return Answer(
                Verdict.UNCLEAR, "ConnectTimeout", f"no connection within {self._connect_timeout:g} s"
            )
        except (requests.exceptions.Timeout, TimeoutError, urllib3.exceptions.TimeoutError):
            return Answer(Verdict.UNCLEAR, "Timeout", f"no complete answer within {total:g} s")
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            if self._monotonic() >= deadline:
                return Answer(Verdict.UNCLEAR, "Timeout", f"no complete answer within {total:g} s")
            return Answer(Verdict.UNCLEAR, "ConnectionError", _reason(error))
        if text is None:
            return Answer(
                Verdict.UNCLEAR,
                "NotTheContract",
                f"HTTP {response.status_code}: body over {_LARGEST_BODY} bytes",
            )
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            document = None
        return understand(response.status_code, document, response.headers.get("Retry-After"))

    def _read(self, response: requests.Response, deadline: float) -> bytes | None:
        """The body; None when it is too large. Raises TimeoutError past the deadline."""
        parts: list[bytes] = []
        size = 0
        while chunk := response.raw.read1(_LARGEST_BODY, decode_content=True):
            parts.append(chunk)
            size += len(chunk)
            if size > _LARGEST_BODY:
                return None
            if self._monotonic() > deadline:
                raise TimeoutError
        return b"".join(parts)

    def _session(self) -> tuple[requests.Session, requests.PreparedRequest]:
        kept: tuple[requests.Session, requests.PreparedRequest] | None = getattr(self._local, "kept", None)
        if kept is None or self._local.generation != self._token_generation:
            self._local.generation = self._token_generation
            session = requests.Session()
            session.trust_env = False
            self._watch.mount(session)
            headers = {
                "Content-Type": "application/json",
                "Accept": "application/json",
                "User-Agent": "stocksync",
            }
            if token := self._token():
                headers["Authorization"] = f"Bearer {token}"
            prepared = session.prepare_request(
                requests.Request("PUT", self._url.replace("{order_id}", "-"), headers=headers, data=b"{}")
            )
            kept = self._local.kept = (session, prepared)
        return kept


class ForeignClient:
    """A monolith's own client, made to answer as ours does."""

    def __init__(self, client: StatusClient, timeout: float = 8.0) -> None:
        self._client = client
        self.timeout = timeout

    def forget_token(self) -> None:
        """Its token is its own affair."""

    def is_healthy(self, timeout: float = 3.0) -> bool:
        """There is nobody to ask but for an order."""
        del timeout
        return False

    def update_stock_status(
        self, *, token_id: str, order_id: str, is_stock_updated: bool, **_: Any
    ) -> Answer:
        """Ask the foreign client; what it raises is an answer that can't be told."""
        try:
            result = self._client.update_stock_status(
                token_id=token_id, order_id=order_id, is_stock_updated=is_stock_updated
            )
        except Exception as error:  # its errors are not ours to know
            return Answer(
                Verdict.UNCLEAR, type(error).__name__, printable(str(error))[:300] or type(error).__name__
            )
        if getattr(result, "success", None) is True:
            return Answer(Verdict.DELIVERED)
        said = getattr(result, "error", None)
        return Answer(Verdict.REJECTED, "NotSuccessful", printable(str(said or "no reason given"))[:300])


def _reason(error: BaseException) -> str:
    """The innermost cause in a few words; the outer ones repeat the URL and the pool."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return printable(str(text))[:300]
