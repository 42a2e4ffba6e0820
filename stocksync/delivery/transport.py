"""HTTP calls over a `requests.Session`, each within a total time and a largest size. No redirect is followed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.cookiejar import DefaultCookiePolicy
from typing import Any, NamedTuple

import requests
from requests.adapters import BaseAdapter, HTTPAdapter
from urllib3 import Timeout
from urllib3.exceptions import HTTPError

from stocksync.delivery.deadline import bounded
from stocksync.errors import ConfigurationError, RemoteError
from stocksync.store.values import printable

_OWN_METHODS = {"requests.sessions", "requests.adapters"}
_CONNECT_TIMEOUTS = {"ConnectTimeoutError", "ConnectTimeout"}
_TIMEOUTS = {"TimeoutError", "ReadTimeoutError", "ReadTimeout", "Timeout"}
"""The names that these errors have in Python, urllib3 and requests."""

Reply = tuple[int, bytes, str | None]
"""Status, body (cut somewhere past the largest size) and Retry-After."""


class _Way(NamedTuple):
    """How one thread reaches the remote through the adapter that the session has mounted."""

    mounted: BaseAdapter
    adapter: BaseAdapter
    """`mounted` on a connection of this thread's own; `mounted` itself where it is no HTTPAdapter."""
    pool: Any = None
    prefix: str = ""
    """Of the request's target: the path of the base address, through an HTTP proxy all of it."""


class Transport:
    """A session with one connection for each thread, whose reads end with the time of their call.

    The session itself stays as it is. Its proxies, certificates and adapter are resolved once a thread: to ask the
    environment for every call costs as much as the call.
    """

    def __init__(
        self,
        base: str,
        session: requests.Session | None,
        connect_timeout: float,
        monotonic: Callable[[], float],
    ) -> None:
        """
        Args:
            base: the address that every path is added to.
            session: None: one of its own.
            connect_timeout: seconds to connect.

        Raises:
            ConfigurationError: the address, the proxy's or a file of certificates can't be used.
        """
        self._base = base
        self._session = session or _own_session()
        self._connect_timeout = connect_timeout
        self._monotonic = monotonic
        self._local = threading.local()
        try:
            self._way()
        except (HTTPError, OSError) as error:
            raise ConfigurationError([f"the microservice's address {base!r}: {error}"]) from None

    def call(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], total: float, largest: int
    ) -> Reply:
        """One request. The session's own headers are sent too; `headers` go before them.

        Args:
            total: seconds for all of it, from connecting to the last byte. Where the session has an adapter that is
                no HTTPAdapter, they bound each read instead.
            largest: bytes of the body that are wanted.

        Raises:
            RemoteError: no complete answer, and why: ConnectTimeout, Timeout or ConnectionError.
        """
        self._local.deadline = self._monotonic() + total
        timeout = min(self._connect_timeout, total), total
        try:
            way = self._way()
            if method == "PUT" and way.pool is not None and self._is_plain(way.mounted):
                return self._put(way, path, body, headers, timeout, largest)
            return self._request(way, method, path, body, headers, timeout, largest)
        except (HTTPError, OSError) as error:
            raise self._failure(error, total) from None

    def _put(
        self,
        way: _Way,
        path: str,
        body: bytes | None,
        headers: dict[str, str],
        timeout: tuple[float, float],
        largest: int,
    ) -> Reply:
        """What `_request` does, without what requests does for every call: that takes more than half of the time."""
        standing = {name.title(): value for name, value in self._session.headers.items() if value is not None}
        with way.pool.urlopen(
            "PUT", way.prefix + path, body, standing | headers, timeout=Timeout(connect=timeout[0], read=timeout[1]),
            retries=False, redirect=False, assert_same_host=False, preload_content=False,
        ) as answer:  # fmt: skip
            return answer.status, answer.read(largest + 1, True), answer.headers.get("Retry-After")

    def _request(
        self,
        way: _Way,
        method: str,
        path: str,
        body: bytes | None,
        headers: dict[str, str],
        timeout: tuple[float, float],
        largest: int,
    ) -> Reply:
        """An ordinary call of the session, over this thread's connection."""
        # Even when redirects are not followed, requests reads the whole body of one, however long it is.
        session = _twin(
            self._session, get_adapter=lambda **_: way.adapter, get_redirect_target=lambda _: None
        )
        # Without any auth, requests would put what a .netrc says in the place of our token.
        auth = session.auth or (lambda request: request)
        text = b""
        with session.request(
            method, self._base + path, data=body, headers=headers, auth=auth, timeout=timeout, stream=True,
            allow_redirects=False, verify=session.verify,
        ) as answer:  # fmt: skip
            for chunk in answer.iter_content(64 * 1024):
                text += chunk
                if self._left() <= 0:
                    raise TimeoutError
                if len(text) > largest:
                    break
            return answer.status_code, text, answer.headers.get("Retry-After")

    def _left(self) -> float:
        """Seconds that this thread's call has left."""
        return float(self._local.deadline - self._monotonic())

    def _way(self) -> _Way:
        """This thread's way, resolved anew when another adapter was mounted. Raises HTTPError, OSError."""
        mounted = self._session.get_adapter(self._base)
        way: _Way | None = getattr(self._local, "way", None)
        if way is None or way.mounted is not mounted:
            way = self._local.way = self._resolve(mounted)
        return way

    def _resolve(self, mounted: BaseAdapter) -> _Way:
        if not isinstance(mounted, HTTPAdapter):
            return _Way(mounted, mounted)
        request = requests.Request("GET", self._base).prepare()
        # Left to itself, requests has the environment's certificates win over the session's.
        settings = self._session.merge_environment_settings(self._base, {}, None, self._session.verify, None)
        proxies, verify, cert = settings["proxies"], settings["verify"], settings["cert"]
        shared: Any = mounted.get_connection_with_tls_context(request, verify, proxies, cert)
        # A pool of one for each thread: the adapter's may be smaller than our number of threads, and it is not ours.
        connection = bounded(shared.ConnectionCls, self._left)
        pool = _twin(shared, pool=shared.QueueCls(1), block=False, ConnectionCls=connection)
        mounted.cert_verify(pool, self._base, verify, cert)  # type: ignore[no-untyped-call]
        # What retries do is the engine's affair, and they would outlive the deadline.
        adapter = _twin(mounted, get_connection_with_tls_context=lambda *_, **__: pool, max_retries=False)
        return _Way(mounted, adapter, pool, mounted.request_url(request, proxies).rstrip("/"))

    def _is_plain(self, adapter: Any) -> bool:
        """Whether nothing signs, changes or looks at each request: neither settings nor methods of somebody's own."""
        session = self._session
        if session.auth or session.params or session.cookies or session.hooks.get("response"):
            return False
        return {
            session.request.__module__,
            session.send.__module__,
            adapter.send.__module__,
            adapter.add_headers.__module__,
        } == _OWN_METHODS

    def _failure(self, error: BaseException, total: float) -> RemoteError:
        causes = [error]
        while cause := causes[-1].__cause__ or causes[-1].__context__:
            causes.append(cause)
        names = {type(cause).__name__ for cause in causes}
        if names & _CONNECT_TIMEOUTS:
            return RemoteError("ConnectTimeout", f"no connection within {self._connect_timeout:g} s")
        if names & _TIMEOUTS:
            return RemoteError("Timeout", f"no complete answer within {total:g} s")
        # The innermost cause; the outer ones repeat the URL and the pool.
        text = getattr(causes[-1], "strerror", None) or str(causes[-1]) or type(causes[-1]).__name__
        return RemoteError("ConnectionError", printable(str(text))[:300])


def _own_session() -> requests.Session:
    session = requests.Session()
    session.headers.clear()  # the answers are too short to be worth compressing
    session.headers["User-Agent"] = "stocksync"
    # A cookie that a read left behind would cost every PUT its short way.
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    return session


def _twin(thing: Any, **changes: object) -> Any:
    """The same object again, with other attributes. (`copy.copy` goes by pickling: subclasses lose theirs.)"""
    twin = object.__new__(type(thing))
    twin.__dict__.update(thing.__dict__ | changes)
    return twin
