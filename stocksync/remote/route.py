"""The way to the remote: straight or through the environment's proxy, with a certificate store for TLS."""

from __future__ import annotations

import os
from collections.abc import Callable
from urllib.parse import unquote
from urllib.request import getproxies, proxy_bypass

import certifi
from urllib3 import HTTPConnectionPool, PoolManager, ProxyManager, make_headers
from urllib3.exceptions import HTTPError
from urllib3.util import parse_url

from stocksync.domain.errors import ConfigurationError
from stocksync.remote.deadline import Watch


def route(base_url: str, watch: Watch) -> Callable[[], tuple[HTTPConnectionPool, str]]:
    """A maker of connection pools for one thread each, with the prefix that its request targets need.

    The proxy and the certificates (`HTTPS_PROXY`, `NO_PROXY`, `REQUESTS_CA_BUNDLE`, `SSL_CERT_FILE`) are read
    once, here: asking the environment for every call costs as much as the call.

    Raises:
        ConfigurationError: the address, or the proxy's, can't be used.
    """
    try:
        parts = parse_url(base_url)
        if parts.scheme not in ("http", "https") or not parts.host:
            raise ConfigurationError(
                [f"the microservice's address {base_url!r}: http://HOST or https://HOST is needed"]
            )
        proxy = None if proxy_bypass(parts.host) else getproxies().get(parts.scheme)
        proxy_auth = parse_url(proxy).auth if proxy else None
    except HTTPError as error:
        raise ConfigurationError([f"the microservice's address {base_url!r}: {error}"]) from None
    certificates = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE") or certifi.where()
    through_proxy = proxy is not None and parts.scheme == "http"
    prefix = base_url if through_proxy else (parts.path or "")

    def make() -> tuple[HTTPConnectionPool, str]:
        manager = PoolManager(ca_certs=certificates)
        if proxy is not None:
            headers = make_headers(proxy_basic_auth=unquote(proxy_auth)) if proxy_auth else None
            manager = ProxyManager(proxy, proxy_headers=headers, ca_certs=certificates)
        watch.over(manager)
        return manager.connection_from_url(base_url), prefix

    return make
