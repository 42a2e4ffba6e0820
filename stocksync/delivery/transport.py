"""HTTP calls over a `requests.Session`, each within a total time and a largest size. No redirect is followed."""

import threading
import time
from http.client import HTTPException
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import Timeout
from urllib3.exceptions import HTTPError

from stocksync.delivery.wire import bounded, exchange
from stocksync.errors import ConfigurationError, RemoteError
from stocksync.store.values import printable


class Transport:
    """A session with one connection for each thread, whose reads end with the time of their call.

    The session itself stays as it is. Its proxies, certificates and adapter are resolved once a thread: to ask the
    environment for every call costs as much as the call.
    """

    def __init__(self, base: str, session: requests.Session | None, connect_timeout: float) -> None:
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
        self._local = threading.local()
        try:
            self._resolve()
        except (HTTPError, OSError) as error:
            raise ConfigurationError([f"the microservice's address {base!r}: {error}"]) from None

    def call(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], total: float, largest: int
    ) -> tuple[int, bytes, str | None]:
        """One request. The session's own headers are sent too; `headers` go before them.

        Args:
            total: seconds for all of it, from connecting to the last byte. Where the session has an adapter that is
                no HTTPAdapter, they bound each read instead.
            largest: bytes of the body that are wanted.

        Returns:
            Status, body (cut somewhere past the largest size) and Retry-After.

        Raises:
            RemoteError: no complete answer, and why: ConnectTimeout, Timeout or ConnectionError.
        """
        self._local.deadline = time.monotonic() + total
        connect = min(self._connect_timeout, total)
        try:
            self._resolve()
            if method == "PUT" and self._local.pool and self._is_plain():
                # Without what requests does for every call: that takes more than half of the time.
                own = {name.title(): str(value) for name, value in self._session.headers.items()}
                target, fields = self._local.prefix + path, own | headers
                if exchanged := exchange(self._local, target, fields, body or b"", largest):
                    return exchanged
                with self._local.pool.urlopen(
                    "PUT", target, body, fields, timeout=Timeout(connect, total), retries=False, redirect=False,
                    assert_same_host=False, preload_content=False,
                ) as answer:  # fmt: skip
                    return answer.status, answer.read(largest + 1, True), answer.headers.get("Retry-After")
            # Even when redirects are not followed, requests reads the whole body of one, however long it is.
            session = _twin(
                self._session, get_adapter=lambda **_: self._local.adapter, get_redirect_target=lambda _: None
            )
            with session.request(
                method, self._base + path, data=body, headers=headers, timeout=(connect, total), stream=True,
                # Without any auth, requests would put what a .netrc says in the place of our token.
                auth=session.auth or (lambda request: request), allow_redirects=False, verify=session.verify,
            ) as answer:  # fmt: skip
                return (
                    answer.status_code,
                    answer.raw.read(largest + 1, decode_content=True),
                    answer.headers.get("Retry-After"),
                )
        except (HTTPError, HTTPException, OSError) as error:
            raise self._failure(error, total) from None

    def _resolve(self) -> None:
        """Find this thread's way to the remote, anew when another adapter was mounted. Raises HTTPError, OSError.

        `adapter` is the session's on a connection of this thread's own, which `pool` opens. An adapter that is no
        HTTPAdapter is taken as it is. `prefix` of a request's target: the path of the base address, or all of it
        through an HTTP proxy.
        """
        way, mounted = self._local, self._session.get_adapter(self._base)
        if getattr(way, "mounted", None) is mounted:
            return
        way.adapter, way.pool = mounted, None
        if isinstance(mounted, HTTPAdapter):
            request = requests.Request("GET", self._base).prepare()
            # Left to itself, requests has the environment's certificates win over the session's.
            found = self._session.merge_environment_settings(self._base, {}, None, self._session.verify, None)
            proxies, verify, cert = found["proxies"], found["verify"], found["cert"]
            shared: Any = mounted.get_connection_with_tls_context(request, verify, proxies, cert)
            # A pool of one for each thread: the adapter's may be smaller than our number of threads, and is not ours.
            way.pool = _twin(
                shared, pool=shared.QueueCls(1), block=False, ConnectionCls=bounded(shared.ConnectionCls, way)
            )
            mounted.cert_verify(way.pool, self._base, verify, cert)  # type: ignore[no-untyped-call]
            # What retries do is the engine's affair, and they would outlive the deadline.
            way.adapter = _twin(
                mounted, get_connection_with_tls_context=lambda *_, **__: way.pool, max_retries=False
            )
            way.prefix = mounted.request_url(request, proxies).rstrip("/")
            way.host = str(urlsplit(request.url).netloc).rpartition("@")[2]
        way.mounted = mounted

    def _is_plain(self) -> bool:
        """Whether nothing signs, changes or looks at each request: neither settings nor methods of somebody's own."""
        session, adapter = self._session, self._local.mounted
        if session.auth or session.params or session.cookies or session.hooks.get("response"):
            return False
        ways = {
            session.request.__module__, session.send.__module__,
            adapter.send.__module__, adapter.add_headers.__module__,
        }  # fmt: skip
        return ways == {"requests.sessions", "requests.adapters"} and all(
            isinstance(value, str) for value in session.headers.values()
        )

    def _failure(self, error: BaseException, total: float) -> RemoteError:
        causes = [error]
        while cause := causes[-1].__cause__ or causes[-1].__context__:
            causes.append(cause)
        # As these errors are called in Python, urllib3 and requests.
        names = {type(cause).__name__ for cause in causes}
        if names & {"ConnectTimeoutError", "ConnectTimeout"}:
            return RemoteError("ConnectTimeout", f"no connection within {self._connect_timeout:g} s")
        if names & {"TimeoutError", "ReadTimeoutError", "ReadTimeout", "Timeout"}:
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
