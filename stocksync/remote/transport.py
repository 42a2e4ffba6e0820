"""HTTP calls over a `requests.Session`, each within a total time and a largest size. No redirect is followed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from http.cookiejar import DefaultCookiePolicy
from typing import Any, NamedTuple, TypeVar

import requests
from requests.adapters import BaseAdapter, HTTPAdapter
from urllib3 import HTTPConnectionPool, Timeout
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, ReadTimeoutError

from stocksync.domain.answers import printable
from stocksync.domain.errors import ConfigurationError, RemoteError
from stocksync.remote.deadline import Watch

_CHUNK = 64 * 1024

T = TypeVar("T")


class Reply(NamedTuple):
    """What came back. `body` None: it is larger than allowed."""

    status: int
    body: bytes | None
    retry_after: str | None


class _Way(NamedTuple):
    """How one thread reaches the remote through the adapter that the session has mounted."""

    mounted: BaseAdapter
    adapter: BaseAdapter
    """`mounted` on a connection of this thread's own; `mounted` itself where it is no HTTPAdapter."""
    pool: HTTPConnectionPool | None = None
    prefix: str = ""
    """Of the request's target: the path of the base address, through an HTTP proxy all of it."""


class Transport:
    """A session with one connection for each thread, which is shut down when its call outlives its time.

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
        self._watch = Watch(monotonic)
        self._local = threading.local()
        try:
            self._way()
        except (HTTPError, OSError) as error:
            raise ConfigurationError([f"the microservice's address {base!r}: {error}"]) from None

    def call(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], total: float, largest: int
    ) -> Reply:
        """One request. The session's headers are sent too, `headers` before them.

        Args:
            total: seconds for all of it, from connecting to the last byte. Where the session has an adapter that is
                no HTTPAdapter, they bound each read instead.
            largest: bytes of the body that are taken.

        Raises:
            RemoteError: no complete answer, and why: ConnectTimeout, Timeout or ConnectionError.
        """
        deadline = self._monotonic() + total
        timeout = min(self._connect_timeout, total), total
        try:
            with self._watch.until(deadline):
                way = self._way()
                if method == "PUT" and way.pool is not None and self._is_plain(way.mounted):
                    reply = self._put(way.pool, way.prefix + path, body, headers, timeout, largest)
                else:
                    reply = self._request(way, method, path, body, headers, timeout, largest, deadline)
            if self._monotonic() > deadline:
                raise TimeoutError
        except (HTTPError, OSError) as error:
            raise self._failure(error, total, self._monotonic() >= deadline) from None
        return reply

    def _put(
        self,
        pool: HTTPConnectionPool,
        target: str,
        body: bytes | None,
        headers: dict[str, str],
        timeout: tuple[float, float],
        largest: int,
    ) -> Reply:
        """What `_request` does, without what requests does for every call: it takes more than half of the time."""
        standing: dict[str, Any] = {
            name.title(): value for name, value in self._session.headers.items() if value is not None
        }
        with pool.urlopen(
            "PUT", target, body, standing | headers, retries=False, redirect=False, assert_same_host=False,
            timeout=Timeout(connect=timeout[0], read=timeout[1]), preload_content=False,
        ) as answer:  # fmt: skip
            text = answer.read(largest + 1, decode_content=True)
        return Reply(answer.status, _if_within(largest, text), answer.headers.get("Retry-After"))

    def _request(
        self,
        way: _Way,
        method: str,
        path: str,
        body: bytes | None,
        headers: dict[str, str],
        timeout: tuple[float, float],
        largest: int,
        deadline: float,
    ) -> Reply:
        """An ordinary call of the session, over this thread's connection."""
        # Even when redirects are not followed, requests reads the whole body of one, however long it is.
        session = _twin(
            self._session, get_adapter=lambda **_: way.adapter, get_redirect_target=lambda _: None
        )
        text = b""
        with session.request(
            method, self._base + path, data=body, headers=headers, auth=session.auth or _unchanged,
            timeout=timeout, stream=True, allow_redirects=False,
        ) as answer:  # fmt: skip
            for chunk in answer.iter_content(_CHUNK):
                text += chunk
                if len(text) > largest or self._monotonic() > deadline:
                    break
        return Reply(answer.status_code, _if_within(largest, text), answer.headers.get("Retry-After"))

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
        settings = self._session.merge_environment_settings(self._base, {}, None, None, None)
        proxies, verify, cert = settings["proxies"], settings["verify"], settings["cert"]
        shared: Any = mounted.get_connection_with_tls_context(request, verify, proxies, cert)
        # A pool of one for each thread: the adapter's own may be smaller than our number of threads, and it is
        # the monolith's. What a retry would do is the engine's affair, and it would outlive the deadline.
        connection = self._watch.watched(shared.ConnectionCls)
        pool = _twin(shared, pool=shared.QueueCls(1), block=False, ConnectionCls=connection)
        mounted.cert_verify(pool, self._base, verify, cert)  # type: ignore[no-untyped-call]
        adapter = _twin(mounted, get_connection_with_tls_context=lambda *_, **__: pool, max_retries=False)
        return _Way(mounted, adapter, pool, mounted.request_url(request, proxies).rstrip("/"))

    def _is_plain(self, adapter: BaseAdapter) -> bool:
        """Whether nothing signs, changes or looks at each request: neither settings nor methods of somebody's own."""
        session = self._session
        methods = (session.request, session.send, adapter.send, adapter.add_headers)  # type: ignore[attr-defined]
        touched = session.auth or session.params or session.cookies or any(session.hooks.values())
        return not touched and all(method.__module__.startswith("requests.") for method in methods)

    def _failure(self, error: BaseException, total: float, late: bool) -> RemoteError:
        causes = [error]
        while cause := causes[-1].__cause__ or causes[-1].__context__:
            causes.append(cause)
        for cause in causes:
            # urllib3 counts a refused connection among those that took too long.
            if isinstance(cause, NewConnectionError):
                break
            if isinstance(cause, ConnectTimeoutError | requests.ConnectTimeout):
                return RemoteError("ConnectTimeout", f"no connection within {self._connect_timeout:g} s")
            late = late or isinstance(cause, TimeoutError | ReadTimeoutError | requests.Timeout)
        if late:
            return RemoteError("Timeout", f"no complete answer within {total:g} s")
        # The innermost cause; the outer ones repeat the URL and the pool.
        text = getattr(causes[-1], "strerror", None) or str(causes[-1]) or type(causes[-1]).__name__
        return RemoteError("ConnectionError", printable(str(text))[:300])


def _own_session() -> requests.Session:
    session = requests.Session()
    session.headers.clear()
    session.headers["User-Agent"] = "stocksync"
    session.verify = os.environ.get("SSL_CERT_FILE") or True
    # A cookie that a read left behind would cost every PUT its short way.
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    return session


def _twin(thing: T, **changes: object) -> T:
    """The same object again, with other attributes. (`copy.copy` goes by pickling: subclasses lose theirs.)"""
    twin: T = object.__new__(type(thing))
    twin.__dict__.update(thing.__dict__ | changes)
    return twin


def _if_within(largest: int, body: bytes) -> bytes | None:
    return body if len(body) <= largest else None


def _unchanged(request: Any) -> Any:
    """Auth that does nothing. Without any, requests would put what a .netrc says in the place of our token."""
    return request
