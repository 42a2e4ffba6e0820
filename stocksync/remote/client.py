"""OrdersClient: tells the orders microservice over kept-alive connections, each call within a total deadline."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar, cast
from urllib.parse import quote, urlencode

from urllib3 import BaseHTTPResponse, HTTPConnectionPool, Timeout
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, ReadTimeoutError

from stocksync.domain.answers import Answer, Verdict, printable, understand
from stocksync.domain.checkout_form import is_storable
from stocksync.domain.errors import RemoteError
from stocksync.remote.deadline import Watch
from stocksync.remote.route import route

_LARGEST_BODY = 64 * 1024
_LARGEST_PAGE = 2 * 1024 * 1024
_LONGEST_CURSOR = 4096
_LONGEST_ID = 255
STATUS_PATH = "/orders/{order_id}/stock-status"

T = TypeVar("T")


class StatusClient(Protocol):
    """What a monolith's own client must offer to be used in the place of OrdersClient."""

    def update_stock_status(self, *, token_id: str, order_id: str, is_stock_updated: bool) -> Any:
        """An object with `.success` and `.error`."""


@dataclass(frozen=True, slots=True)
class RemoteOrder:
    """An order as the remote has it."""

    id: str
    is_stock_updated: bool


@dataclass(frozen=True, slots=True)
class RemotePage:
    """Some orders, and where the next ones are; `next_cursor` None: these were the last."""

    orders: list[RemoteOrder]
    next_cursor: str | None


class OrdersReader(Protocol):
    """What reconciliation asks; a monolith's own client may offer it too."""

    def list_orders(
        self, *, token_id: str, updated_since: datetime, cursor: str | None, limit: int
    ) -> RemotePage:
        """Orders of a seller that were updated since. Raises RemoteError."""

    def find_order(self, *, token_id: str, order_id: str) -> RemoteOrder | None:
        """One order; None: the remote does not know it. Raises RemoteError."""


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
        orders_path: str = "/orders",
        order_path: str = "/orders/{order_id}",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            base_url: of the microservice, without the path.
            jwt_token: sent as bearer; a callable is asked once, and again after `forget_token`.
            connect_timeout: seconds to connect.
            timeout: seconds for a whole call, from connecting to the last byte.
            status_path: contains `{order_id}`.
            health_path: answers 200 with JSON when the remote is well.

        Raises:
            ConfigurationError: the address can't be used.
        """
        self._base = base_url.rstrip("/")
        self._watch = Watch(monotonic)
        self._make_pool = route(self._base, self._watch)
        self._status_path = status_path
        self._health_path = health_path
        self._orders_path = orders_path
        self._order_path = order_path
        self._token = jwt_token if callable(jwt_token) else lambda: jwt_token
        self._connect_timeout = connect_timeout
        self.timeout = timeout
        self._monotonic = monotonic
        self._local = threading.local()
        self._headers: dict[str, str] | None = None

    def forget_token(self) -> None:
        """Ask for the token again before the next call: the one in use was refused."""
        self._headers = None

    def is_healthy(self, timeout: float = 3.0) -> bool:
        """Whether the remote says that it is well: 200 and a JSON object, within `timeout` seconds."""
        try:
            status, text, _ = self._call("GET", self._health_path, None, self._standing_headers(), timeout)
            return status == 200 and text is not None and isinstance(json.loads(text), dict)
        except (HTTPError, OSError, ValueError):
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
        try:
            headers = self._standing_headers()
        except ValueError:  # never quoted: it is a secret
            return Answer(Verdict.CREDENTIALS, "BadToken", "the token holds characters that no header can")
        if idempotency_key is not None:
            # A header must be ASCII; ids that are not are quoted the same way every time.
            headers = headers | {"Idempotency-Key": quote(idempotency_key, safe="%:-_.~ ")}
        body = json.dumps({"token_id": token_id, "is_stock_updated": is_stock_updated}).encode()
        path = self._status_path.replace("{order_id}", quote(order_id, safe=""))
        total = self.timeout if timeout is None else timeout
        deadline = self._monotonic() + total
        try:
            status, text, retry_after = self._call("PUT", path, body, headers, total)
        except (HTTPError, OSError) as error:
            # urllib3 counts a refused connection among those that took too long.
            if isinstance(error, ConnectTimeoutError) and not isinstance(error, NewConnectionError):
                words = f"no connection within {self._connect_timeout:g} s"
                return Answer(Verdict.UNCLEAR, "ConnectTimeout", words)
            if isinstance(error, TimeoutError | ReadTimeoutError) or self._monotonic() >= deadline:
                return Answer(Verdict.UNCLEAR, "Timeout", f"no complete answer within {total:g} s")
            return Answer(Verdict.UNCLEAR, "ConnectionError", _reason(error))
        if text is None:
            words = f"HTTP {status}: body over {_LARGEST_BODY} bytes"
            return Answer(Verdict.UNCLEAR, "NotTheContract", words, status)
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            document = None
        return understand(status, document, retry_after)

    def list_orders(
        self, *, token_id: str, updated_since: datetime, cursor: str | None, limit: int
    ) -> RemotePage:
        """One page of the seller's orders that were updated since (aware). Raises RemoteError."""
        query = {
            "token_id": token_id,
            "updated_since": updated_since.astimezone(UTC).isoformat(),
            "limit": str(limit),
        }
        document = self._ask(self._orders_path, query | ({"cursor": cursor} if cursor else {})) or {}
        return _page_of(document.get("orders"), document.get("next_cursor"), cursor, limit)

    def find_order(self, *, token_id: str, order_id: str) -> RemoteOrder | None:
        """One order; None: the remote says that it does not know it. Raises RemoteError."""
        path = self._order_path.replace("{order_id}", quote(order_id, safe=""))
        document = self._ask(path, {"token_id": token_id}, may_lack=True)
        if document is None:
            return None
        return _order_of(document.get("id"), document.get("is_stock_updated"), order_id)

    def _ask(self, path: str, query: dict[str, str], *, may_lack: bool = False) -> dict[str, Any] | None:
        """The JSON object of a GET; None: with `may_lack`, a 404 in the contract's words.

        What fails for no reason that is told is tried three times, all within the time of one call. Raises RemoteError.
        """
        deadline = self._monotonic() + self.timeout
        try:
            headers, target = self._standing_headers(), f"{path}?{urlencode(query)}"
        except ValueError:
            raise RemoteError(
                "BadToken", "the token, or an id, holds characters that can't be sent"
            ) from None
        for tries_left in (2, 1, 0):
            left = max(0.1, deadline - self._monotonic())
            try:
                status, text, later = self._call("GET", target, None, headers, left, _LARGEST_PAGE)
                if status < 500 or later:
                    break
                failure = RemoteError(f"Http{status}", f"the remote answers with {status}")
            except (HTTPError, OSError) as error:
                failure = RemoteError(type(error).__name__, _reason(error))
            if not tries_left or self._monotonic() >= deadline:
                raise failure
        try:
            document = json.loads(text or b"null")
        except (ValueError, RecursionError):
            document = None
        if may_lack and status == 404 and isinstance(document, dict) and document.get("success") is False:
            return None
        if status in (401, 403):
            self.forget_token()
        if status != 200:
            raise RemoteError(f"Http{status}", f"the remote answers with {status}")
        if not isinstance(document, dict):
            raise RemoteError("NotTheContract", "the answer is not the contract's")
        return document

    def _call(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: dict[str, str],
        total: float,
        largest: int = _LARGEST_BODY,
    ) -> tuple[int, bytes | None, str | None]:
        """Status, body (None: too large) and Retry-After, within `total` seconds. No redirect is followed."""
        deadline = self._monotonic() + total
        kept: tuple[HTTPConnectionPool, str] | None = getattr(self._local, "kept", None)
        if kept is None:
            kept = self._local.kept = self._make_pool()
        pool, prefix = kept
        with self._watch.until(deadline):
            response = pool.urlopen(
                method,
                prefix + path,
                body,
                headers,
                retries=False,
                timeout=Timeout(connect=min(self._connect_timeout, total), read=total),
                preload_content=False,
            )
            try:
                text = self._read(response, deadline, largest)
            finally:
                response.close()  # gives back a connection that was read to its end, ends any other
        return response.status, text, response.headers.get("Retry-After")

    def _read(self, response: BaseHTTPResponse, deadline: float, largest: int) -> bytes | None:
        """The body; None when it is too large. Raises TimeoutError past the deadline."""
        parts: list[bytes] = []
        size = 0
        while chunk := response.read1(_LARGEST_BODY, decode_content=True):
            parts.append(chunk)
            size += len(chunk)
            if size > largest:
                return None
            if self._monotonic() > deadline:
                raise TimeoutError
        return b"".join(parts)

    def _standing_headers(self) -> dict[str, str]:
        """Those of every call. Raises ValueError for a token that can't be sent."""
        headers = self._headers
        if headers is None:
            headers = {
                "Content-Type": "application/json",
                "Accept": "application/json",
                "User-Agent": "stocksync",
            }
            if token := self._token():
                if not (token.isascii() and token.isprintable()):
                    raise ValueError("token")
                headers["Authorization"] = f"Bearer {token}"
            self._headers = headers
        return headers


class ForeignClient:
    """A monolith's own client, made to answer as ours does, within `timeout` seconds.

    Each call has a thread of its own, which a call that hangs keeps; `_MOST_HANGING` of them at most.
    """

    _MOST_HANGING = 32

    def __init__(self, client: StatusClient, timeout: float = 8.0) -> None:
        self._client = client
        self.timeout = timeout
        self._free = threading.BoundedSemaphore(self._MOST_HANGING)

    def forget_token(self) -> None:
        """Its token is its own affair."""

    def is_healthy(self, timeout: float = 3.0) -> bool:
        """There is nobody to ask but for an order."""
        del timeout
        return False

    def update_stock_status(
        self,
        *,
        token_id: str,
        order_id: str,
        is_stock_updated: bool,
        timeout: float | None = None,
        **_: Any,
    ) -> Answer:
        """Ask the foreign client; what it raises is an answer that can't be told."""

        def tell() -> Answer:
            result = self._client.update_stock_status(
                token_id=token_id, order_id=order_id, is_stock_updated=is_stock_updated
            )
            if getattr(result, "success", None) is True:
                return Answer(Verdict.DELIVERED)
            said = printable(str(getattr(result, "error", None) or "no reason given"))[:300]
            return Answer(Verdict.REJECTED, "NotSuccessful", said)

        return self._in_time(tell, self.timeout if timeout is None else timeout)

    def list_orders(
        self, *, token_id: str, updated_since: datetime, cursor: str | None, limit: int
    ) -> RemotePage:
        """As OrdersClient does, of a client that offers it. Raises RemoteError."""

        def read() -> RemotePage:
            page = cast(Any, self._client).list_orders(
                token_id=token_id, updated_since=updated_since, cursor=cursor, limit=limit
            )
            rows = [{"id": row.id, "is_stock_updated": row.is_stock_updated} for row in page.orders]
            return _page_of(rows, page.next_cursor, cursor, limit)

        return self._read(read)

    def find_order(self, *, token_id: str, order_id: str) -> RemoteOrder | None:
        """As OrdersClient does, of a client that offers it. Raises RemoteError."""

        def read() -> RemoteOrder | None:
            row = cast(Any, self._client).find_order(token_id=token_id, order_id=order_id)
            return None if row is None else _order_of(row.id, row.is_stock_updated, order_id)

        return self._read(read)

    def _read(self, read: Callable[[], T]) -> T:
        answer = self._in_time(read, self.timeout)
        if isinstance(answer, Answer):
            raise RemoteError(answer.error_class or "Unknown", answer.error or "no reason given")
        return answer

    def _in_time(self, ask: Callable[[], T], total: float) -> T | Answer:
        """What `ask` answers within `total` seconds, or why it does not."""
        answers: list[T | Answer] = []

        def answer() -> None:
            try:
                answers.append(ask())
            except Exception as error:  # its errors are not ours to know
                words = printable(str(error))[:300] or type(error).__name__
                answers.append(Answer(Verdict.UNCLEAR, type(error).__name__, words))
            finally:
                self._free.release()

        if not self._free.acquire(timeout=total):
            words = f"{self._MOST_HANGING} earlier calls of the client have not come back"
            return Answer(Verdict.UNCLEAR, "Timeout", words)
        asking = threading.Thread(target=answer, daemon=True, name="foreign-client")
        asking.start()
        asking.join(total)
        return answers[0] if answers else Answer(Verdict.UNCLEAR, "Timeout", f"no answer within {total:g} s")


def _page_of(rows: Any, following: Any, cursor: str | None, limit: int) -> RemotePage:
    """Raises RemoteError for what is not the contract's."""
    listed = isinstance(rows, list) and len(rows) <= limit and all(isinstance(row, dict) for row in rows)
    if not listed or not (following is None or _is_text(following, _LONGEST_CURSOR)):
        raise RemoteError("NotTheContract", "the list of orders is not the contract's")
    if following is not None and (following == cursor or not rows):
        raise RemoteError("NotTheContract", "the list of orders does not come to an end")
    return RemotePage([_order_of(row.get("id"), row.get("is_stock_updated")) for row in rows], following)


def _order_of(order_id: Any, flag: Any, asked: str | None = None) -> RemoteOrder:
    """Raises RemoteError for what is not the contract's, what no row can hold, and another order than `asked`."""
    if not _is_text(order_id, _LONGEST_ID) or not isinstance(flag, bool) or asked not in (None, order_id):
        raise RemoteError("NotTheContract", "an order is not the contract's")
    return RemoteOrder(order_id, flag)


def _is_text(value: Any, longest: int) -> bool:
    return isinstance(value, str) and 0 < len(value) <= longest and is_storable(value)


def _reason(error: BaseException) -> str:
    """The innermost cause in a few words; the outer ones repeat the URL and the pool."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return printable(str(text))[:300]
