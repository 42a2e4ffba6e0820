"""ForeignClient: a monolith's own client of the microservice in the place of OrdersClient."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime
from typing import Any, TypeVar, cast

from stocksync.delivery.answers import Answer, Verdict
from stocksync.delivery.client import RemoteOrder, RemotePage, StatusClient, order_of, page_of
from stocksync.errors import RemoteError
from stocksync.store.values import printable

T = TypeVar("T")


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

        try:
            return self._in_time(tell, self.timeout if timeout is None else timeout)
        except RemoteError as error:
            return Answer(Verdict.UNCLEAR, error.error_class, str(error))

    def list_orders(
        self, *, token_id: str, updated_since: datetime, cursor: str | None, limit: int
    ) -> RemotePage:
        """As OrdersClient does, of a client that offers it. Raises RemoteError."""

        def read() -> RemotePage:
            page = cast(Any, self._client).list_orders(
                token_id=token_id, updated_since=updated_since, cursor=cursor, limit=limit
            )
            rows = [{"id": row.id, "is_stock_updated": row.is_stock_updated} for row in page.orders]
            return page_of(rows, page.next_cursor, cursor, limit)

        return self._in_time(read, self.timeout)

    def find_order(self, *, token_id: str, order_id: str) -> RemoteOrder | None:
        """As OrdersClient does, of a client that offers it. Raises RemoteError."""

        def read() -> RemoteOrder | None:
            row = cast(Any, self._client).find_order(token_id=token_id, order_id=order_id)
            return None if row is None else order_of(row.id, row.is_stock_updated, order_id)

        return self._in_time(read, self.timeout)

    def _in_time(self, ask: Callable[[], T], total: float) -> T:
        """What `ask` answers within `total` seconds. Raises RemoteError: why it does not."""
        answer: Future[T] = Future()

        def work() -> None:
            try:
                answer.set_result(ask())
            except Exception as error:  # its errors are not ours to know
                words = printable(str(error))[:300] or type(error).__name__
                answer.set_exception(RemoteError(type(error).__name__, words))
            finally:
                self._free.release()

        if not self._free.acquire(timeout=total):
            words = f"{self._MOST_HANGING} earlier calls of the client have not come back"
            raise RemoteError("Timeout", words)
        threading.Thread(target=work, daemon=True, name="foreign-client").start()
        try:
            return answer.result(total)
        except TimeoutError:
            raise RemoteError("Timeout", f"no answer within {total:g} s") from None
