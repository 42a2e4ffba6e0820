"""Clients of the orders microservice: OrdersClient, and ForeignClient around one of the monolith's own."""

import json
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import quote, urlencode

from stocksync.delivery.answers import (
    REMEMBERED,
    Answer,
    RemoteOrder,
    RemotePage,
    Verdict,
    order_of,
    page_of,
    understand,
)
from stocksync.errors import RemoteError, needs_extra
from stocksync.store.values import printable

if TYPE_CHECKING:
    from requests import Session

_LARGEST = {"PUT": 64 * 1024, "GET": 2 * 1024 * 1024}
"""Bytes of a body that are read."""
_BAD_TOKEN = "BadToken"  # noqa: S105 (the class of an error)

T = TypeVar("T")


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

    Stands on a `requests.Session`: what proxies, adapters, certificates, headers, auth, cookies and hooks a session
    has, each call has. Safe to share between threads: each has its own connection. Never raises for what the
    remote does.
    """

    def __init__(
        self,
        base_url: str,
        jwt_token: str | Callable[[], str | None] | None = None,
        *,
        connect_timeout: float = 3.0,
        timeout: float = 8.0,
        status_path: str = "/orders/{order_id}/stock-status",
        health_path: str = "/health",
        orders_path: str = "/orders",
        order_path: str = "/orders/{order_id}",
        session: "Session | None" = None,
    ) -> None:
        """
        Args:
            base_url: of the microservice, without the path.
            jwt_token: sent as bearer; a callable is asked once, and again after `forget_token`.
            connect_timeout: seconds to connect.
            timeout: seconds for a whole call, from connecting to the last byte.
            status_path: contains `{order_id}`.
            health_path: answers 200 with JSON when the remote is well.
            session: to stand on; None: one of its own. Its proxies and certificates are read once a thread, and the
                retries of its adapters are not made: the engine retries, and a call must end in time.

        Raises:
            ConfigurationError: the address, the proxy's or a file of certificates can't be used.
        """
        with needs_extra("worker"):
            from stocksync.delivery.transport import Transport  # requests takes its time to import

        self._transport = Transport(base_url.rstrip("/"), session, connect_timeout)
        self._status_path, self._health_path = status_path, health_path
        self._orders_path, self._order_path = orders_path, order_path
        self._token = jwt_token if callable(jwt_token) else lambda: jwt_token
        self.timeout = timeout
        self._headers: dict[str, str] | None = None

    def forget_token(self) -> None:
        """Ask for the token again before the next call: the one in use was refused."""
        self._headers = None

    def is_healthy(self, timeout: float = 3.0) -> bool:
        """Whether the remote says that it is well: 200 and a JSON object, within `timeout` seconds."""
        try:
            status, document, _ = self._call("GET", self._health_path, timeout)
        except RemoteError:
            return False
        return status == 200 and isinstance(document, dict)

    def update_stock_status(
        self,
        *,
        token_id: str,
        order_id: str,
        is_stock_updated: bool,
        idempotency_key: str | None = None,
        traceparent: str | None = None,
        timeout: float | None = None,
    ) -> Answer:
        """Tell the remote. `timeout`: seconds for the whole call, None: the client's own."""
        path = self._status_path.replace("{order_id}", quote(order_id, safe=""))
        body = json.dumps({"token_id": token_id, "is_stock_updated": is_stock_updated}).encode()
        # A header must be ASCII; ids that are not are quoted the same way every time.
        more = {"Idempotency-Key": quote(idempotency_key, safe="%:-_.~ ")} if idempotency_key else {}
        more |= {"traceparent": traceparent} if traceparent else {}
        try:
            return understand(*self._call("PUT", path, timeout or self.timeout, body, more))
        except RemoteError as error:
            return Answer(
                Verdict.CREDENTIALS if error.error_class == _BAD_TOKEN else Verdict.UNCLEAR,
                error.error_class,
                str(error),
            )

    def list_orders(
        self, *, token_id: str, updated_since: datetime, cursor: str | None, limit: int
    ) -> RemotePage:
        """One page of the seller's orders that were updated since (aware). Raises RemoteError."""
        query = {
            "token_id": token_id,
            "updated_since": updated_since.astimezone(UTC).isoformat(),
            "limit": str(limit),
            **({"cursor": cursor} if cursor else {}),
        }
        document = self._ask(self._orders_path, query) or {}
        return page_of(document.get("orders"), document.get("next_cursor"), cursor, limit)

    def find_order(self, *, token_id: str, order_id: str) -> RemoteOrder | None:
        """One order; None: the remote says that it does not know it. Raises RemoteError."""
        found = self._ask(
            self._order_path.replace("{order_id}", quote(order_id, safe="")),
            {"token_id": token_id},
            may_lack=True,
        )
        return None if found is None else order_of(found.get("id"), found.get("is_stock_updated"), order_id)

    def _ask(self, path: str, query: dict[str, str], *, may_lack: bool = False) -> dict[str, Any] | None:
        """The JSON object of a GET; None: with `may_lack`, a 404 in the contract's words.

        What fails for no reason that is told is tried three times, all within the time of one call. Raises RemoteError.
        """
        deadline, target = time.monotonic() + self.timeout, f"{path}?{urlencode(query)}"
        for tries_left in (2, 1, 0):
            try:
                status, document, later = self._call("GET", target, max(0.1, deadline - time.monotonic()))
                if status < 500 or later or time.monotonic() >= deadline:
                    break
            except RemoteError:
                if not tries_left or time.monotonic() >= deadline:
                    raise
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
        self, method: str, path: str, total: float, body: bytes | None = None, more: Mapping[str, str] = {}
    ) -> tuple[int, Any, str | None]:
        """Status, decoded JSON (None: it is none, or was cut) and Retry-After.

        Raises:
            RemoteError: no complete answer, or a token that can't be sent (which is not quoted).
        """
        if (standing := self._headers) is None:
            token = self._token() or ""
            if not (token.isascii() and token.isprintable()):
                raise RemoteError(_BAD_TOKEN, "the token holds characters that no header can")
            self._headers = standing = {
                "Content-Type": "application/json",
                "Accept": "application/json",
                **({"Authorization": f"Bearer {token}"} if token else {}),
            }
        status, text, later = self._transport.call(
            method, path, body, {**standing, **more}, total, _LARGEST[method]
        )
        try:
            return status, json.loads(text), later
        except (ValueError, RecursionError):
            return status, None, later


class ForeignClient:
    """A monolith's own client, made to answer as ours does, within `timeout` seconds.

    It offers `update_stock_status(token_id=, order_id=, is_stock_updated=)`, which answers with `.success` and `.error`.
    It may be an `OrdersReader` too. Each call has a thread of its own, which a call that hangs keeps; `_MOST_HANGING` of
    them at most.
    """

    _MOST_HANGING = 32

    def __init__(self, client: Any, timeout: float = 8.0) -> None:
        self._client = client
        self.timeout = timeout
        self._free = threading.BoundedSemaphore(self._MOST_HANGING)

    def forget_token(self) -> None:
        """Its token is its own affair."""

    def is_healthy(self, timeout: float = 3.0) -> bool:  # noqa: ARG002
        """There is nobody to ask but for an order."""
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
            return understand(
                200,
                {
                    "success": getattr(result, "success", None) is True,
                    "error": getattr(result, "error", None) or "no reason given",
                },
            )

        try:
            return self._in_time(tell, timeout or self.timeout)
        except RemoteError as error:
            return Answer(Verdict.UNCLEAR, error.error_class, str(error))

    def list_orders(self, *, cursor: str | None, limit: int, **asked: Any) -> RemotePage:
        """As OrdersClient does, of a client that offers it. Raises RemoteError."""

        def read() -> RemotePage:
            page = self._client.list_orders(cursor=cursor, limit=limit, **asked)
            return page_of(
                [{"id": row.id, "is_stock_updated": row.is_stock_updated} for row in page.orders],
                page.next_cursor,
                cursor,
                limit,
            )

        return self._in_time(read, self.timeout)

    def find_order(self, *, token_id: str, order_id: str) -> RemoteOrder | None:
        """As OrdersClient does, of a client that offers it. Raises RemoteError."""

        def read() -> RemoteOrder | None:
            row = self._client.find_order(token_id=token_id, order_id=order_id)
            return None if row is None else order_of(row.id, row.is_stock_updated, order_id)

        return self._in_time(read, self.timeout)

    def _in_time(self, ask: Callable[[], T], total: float) -> T:
        """What `ask` answers within `total` seconds. Raises RemoteError: why it does not."""
        answer: Future[T] = Future()

        def work() -> None:
            try:
                answer.set_result(ask())
            except Exception as error:  # its errors are not ours to know
                name = type(error).__name__
                answer.set_exception(RemoteError(name, printable(str(error))[:REMEMBERED] or name))
            finally:
                self._free.release()

        if not self._free.acquire(timeout=total):
            raise RemoteError(
                "Timeout", f"{self._MOST_HANGING} earlier calls of the client have not come back"
            )
        threading.Thread(target=work, daemon=True, name="foreign-client").start()
        try:
            return answer.result(total)
        except TimeoutError:
            raise RemoteError("Timeout", f"no answer within {total:g} s") from None
