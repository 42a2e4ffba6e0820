"""OrdersClient on the monolith's own `requests.Session`: what the session has, each call has, and still ends in time."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from stocksync import ConfigurationError, OrdersClient
from stocksync.delivery.answers import Verdict
from tests.session_server import Call, Server, every_call, find, is_healthy, put, signed

NOWHERE = "http://orders.invalid/api"
"""A name that nobody can find: whatever is answered came another way."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as made:
        yield made


# The way there


@every_call
def test_a_proxy_of_the_session_is_taken(server: Server, session: requests.Session, call: Call) -> None:
    session.proxies = {"http": server.url.replace("//", "//anna:se%40cret@")}
    assert call(OrdersClient(NOWHERE, "token", session=session))

    (seen,) = server.seen
    assert seen.target.startswith(f"{NOWHERE}/")
    assert seen.headers["Host"] == "orders.invalid"
    assert seen.headers["Proxy-Authorization"] == "Basic YW5uYTpzZUBjcmV0"


@every_call
def test_a_proxy_of_the_environment_is_taken_too(
    server: Server, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    assert call(OrdersClient(NOWHERE, "token"))
    assert len(server.seen) == 1

    monkeypatch.setenv("no_proxy", "orders.invalid")
    client = OrdersClient(NOWHERE, "token", timeout=1, connect_timeout=1)
    assert not client.is_healthy()
    assert not put(client)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A key and its certificate, of the remote and of the client alike, that no store of certificates knows."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    made, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    words = ["req", "-x509", "-nodes", "-newkey", "rsa:2048", "-days", "30", "-subj", "/CN=orders.invalid"]
    words += ["-addext", "subjectAltName=DNS:orders.invalid", "-keyout", str(key), "-out", str(made)]
    subprocess.run([openssl, *words], check=True, capture_output=True, timeout=60)
    made.write_text(made.read_text() + key.read_text())
    return made


@every_call
def test_certificates_of_the_session_are_used_through_a_proxy_too(
    session: requests.Session, certificate: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "REQUESTS_CA_BUNDLE", requests.utils.DEFAULT_CA_BUNDLE_PATH
    )  # the session's own go before it
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificate))
    tls.load_cert_chain(certificate)
    tls.verify_mode = ssl.CERT_REQUIRED  # of the client's
    with Server(tls) as proxy:
        session.proxies = {"https": proxy.url}
        session.verify, session.cert = str(certificate), str(certificate)
        client = OrdersClient("https://orders.invalid", "token", session=session)
        assert call(client)
        assert call(client)
        assert [seen.target for seen in proxy.seen].count("orders.invalid:443") == 1  # one tunnel for both
        assert [seen.headers["Authorization"] for seen in proxy.seen[1:]] == ["Bearer token"] * 2
        assert [seen.headers["Host"] for seen in proxy.seen[1:]] == ["orders.invalid"] * 2
        assert "Authorization" not in proxy.seen[0].headers

        session.cert = None
        with pytest.raises(AssertionError):
            assert put(OrdersClient("https://orders.invalid", "token", session=session))


def test_a_certificate_that_nobody_vouches_for_is_refused(
    session: requests.Session, certificate: Path
) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    with Server(tls) as proxy:
        session.proxies = {"https": proxy.url}
        answer = OrdersClient("https://orders.invalid", session=session).update_stock_status(
            token_id="t", order_id="o", is_stock_updated=True
        )

    assert (answer.verdict, answer.error_class) == (Verdict.UNCLEAR, "ConnectionError")
    assert "certificate" in (answer.error or "")


@pytest.mark.parametrize("proxies", [{"http": "http://"}, {"http": "http://[broken"}])
def test_a_proxy_that_is_no_address_is_said_when_the_client_is_made(
    session: requests.Session, proxies: dict[str, str]
) -> None:
    session.proxies = proxies
    with pytest.raises(ConfigurationError, match=r"orders\.invalid"):
        OrdersClient(NOWHERE, session=session)


@pytest.mark.parametrize("address", ["orders.example", "ftp://orders.example", "http://", "http://[broken"])
def test_an_address_that_is_none_is_said_when_the_client_is_made(address: str) -> None:
    with pytest.raises(ConfigurationError, match="the microservice's address"):
        OrdersClient(address)


# What each request carries


@every_call
def test_headers_of_the_session_are_sent_and_ours_before_them(
    server: Server, session: requests.Session, call: Call
) -> None:
    session.headers.update({"X-Tenant": "shop", "accept": "text/html", "AUTHORIZATION": "Basic other"})
    client = OrdersClient(server.url, "token", session=session)
    assert call(client)
    session.headers["X-Tenant"] = "another"
    assert call(client)

    first, second = server.seen
    assert (first.headers["X-Tenant"], second.headers["X-Tenant"]) == ("shop", "another")
    assert first.headers["User-Agent"].startswith("python-requests")
    assert (first.headers["Accept"], first.headers["Authorization"]) == ("application/json", "Bearer token")


@every_call
def test_without_a_token_the_sessions_own_authorization_is_sent(
    server: Server, session: requests.Session, call: Call
) -> None:
    session.headers["Authorization"] = "Bearer of-the-session"
    assert call(OrdersClient(server.url, session=session))
    assert server.seen[0].headers["Authorization"] == "Bearer of-the-session"


@every_call
def test_auth_of_the_session_sees_every_request(
    server: Server, session: requests.Session, call: Call
) -> None:
    session.auth = signed
    assert call(OrdersClient(server.url, "token", session=session))

    (seen,) = server.seen
    assert seen.headers["X-Signature"] == f"{seen.method} {seen.headers.get('Idempotency-Key')}"
    assert seen.headers["Authorization"] == "Bearer token"


@every_call
def test_hooks_and_cookies_of_the_session_work(server: Server, session: requests.Session, call: Call) -> None:
    heard = list[int]()
    session.hooks["response"].append(lambda response, **_: heard.append(response.status_code))
    client = OrdersClient(server.url, "token", session=session)
    assert call(client)
    assert call(client)

    assert heard == [200, 200]
    assert [seen.headers.get("Cookie") for seen in server.seen] == [None, "balancer=b1"]


def test_a_session_of_our_own_takes_no_cookies_and_no_password_of_a_netrc(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login anna password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    client = OrdersClient(server.url, "token")
    for call in (put, find, is_healthy, put):
        assert call(client)

    assert {seen.headers["Authorization"] for seen in server.seen} == {"Bearer token"}
    assert {seen.headers["User-Agent"] for seen in server.seen} == {"stocksync"}
    assert {seen.headers.get("Cookie") for seen in server.seen} == {None}
