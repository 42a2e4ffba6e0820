"""Who gets in: logins and keys, roles, tokens against other sites' forms, and how guessing is held up."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from unittest.mock import patch

import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient

from stocksync import credentials
from stocksync.cli.frame import cli
from stocksync.credentials import Role, hash_key, hash_password
from stocksync.web import create_app
from stocksync.web.auth import PER_ADDRESS, PER_NAME, SESSION_LASTS, WINDOW, Access
from tests.logins import ELSEWHERE, HASH, KEYS, PASSWORD, SECURE, SETTINGS, log_in, press, token_in
from tests.shop import Shop, open_shop


@pytest.fixture
def shop(sqlite_url: str) -> Iterator[Shop]:
    with open_shop(sqlite_url, **SETTINGS) as opened:
        yield opened


@pytest.fixture
def page(shop: Shop) -> FlaskClient:
    """A browser somewhere in the world, to whom nothing was sent yet."""
    return create_app(shop.runtime).test_client()


# People


def test_whoever_has_not_logged_in_is_sent_to_the_login(page: FlaskClient) -> None:
    for path in ("/", "/operations/nope", "/nowhere", "/?status=failed"):
        answer = page.get(path, **SECURE)
        assert answer.status_code == 303
        assert answer.location.startswith("/login?next=")


def test_after_the_login_one_is_where_one_wanted_to_be(page: FlaskClient) -> None:
    where = page.get("/?status=failed", **SECURE).location
    form = page.get(where, **SECURE).text
    target = re.search(r'name="next" value="([^"]+)"', form)
    assert target

    fields = {"csrf": token_in(page.get("/login", **SECURE)), "name": "reader", "password": PASSWORD}
    answer = page.post("/login", data={**fields, "next": target[1]}, **SECURE)

    assert (answer.status_code, answer.location) == (303, "/?status=failed")
    assert page.get("/?status=failed", **SECURE).status_code == 200


def test_a_login_leads_to_no_other_site(shop: Shop) -> None:
    app = create_app(shop.runtime)
    for start in ("//", "https://", "/\\", "\\\\", "/\t/", "javascript:", ""):
        target = f"{start}evil.example"
        page = app.test_client()
        fields = {"csrf": token_in(page.get("/login", **SECURE)), "name": "reader", "password": PASSWORD}
        answer = page.post("/login", data={**fields, "next": target}, **SECURE)
        assert (answer.status_code, answer.location) == (303, "/"), target


def test_a_wrong_login_says_not_what_was_wrong(page: FlaskClient) -> None:
    for name, password in (("operator", "wrong"), ("nobody", PASSWORD), ("operator", ""), ("", "")):
        with patch.object(credentials, "hash_password", wraps=hash_password) as made:
            answer = log_in(page, name, password)
        assert made.call_count == 1  # of 50 ms: nor does it say so by its time
        assert answer.status_code == 401
        assert "Name or password is wrong." in answer.text
        assert page.get("/", **SECURE).status_code == 303


def test_a_logout_ends_it(page: FlaskClient) -> None:
    log_in(page)

    assert press(page, "/logout").status_code == 303
    assert page.get("/", **SECURE).status_code == 303


def test_a_session_ends_by_itself(page: FlaskClient, shop: Shop) -> None:
    log_in(page)
    shop.clock.advance(SESSION_LASTS.total_seconds() - 1)
    assert page.get("/", **SECURE).status_code == 200

    shop.clock.advance(1)

    assert page.get("/", **SECURE).status_code == 303


@pytest.mark.parametrize("secret", [{}, {"STOCK_SYNC_SECRET_KEY": "s" * 40}])
def test_a_session_ends_with_the_password_or_the_user_it_began_with(
    sqlite_url: str, secret: dict[str, str]
) -> None:
    others = f"operator:operator:{hash_password('another password')}"
    for users, goes_on in ((SETTINGS["STOCK_SYNC_USERS"], True), (others, False), ("x:admin:" + HASH, False)):
        with open_shop(sqlite_url, **SETTINGS, **secret) as before:
            page = create_app(before.runtime).test_client()
            log_in(page)
            cookie = page.get_cookie("__Host-stocksync", "shop.example")
            assert cookie
        with open_shop(sqlite_url, **{**SETTINGS, **secret, "STOCK_SYNC_USERS": users}) as after:
            later = create_app(after.runtime).test_client()
            later.set_cookie("__Host-stocksync", cookie.value, domain="shop.example", secure=True)
            assert (later.get("/", **SECURE).status_code == 200) is goes_on


def test_the_cookie_is_for_https_this_host_and_no_script(page: FlaskClient) -> None:
    cookie = log_in(page).headers["Set-Cookie"]

    assert cookie.startswith("__Host-stocksync=")
    for flag in ("Secure", "HttpOnly", "SameSite=Lax", "Path=/"):
        assert flag in cookie
    assert "Domain" not in cookie


def test_nothing_of_a_session_before_the_login_goes_on_after_it(page: FlaskClient) -> None:
    planted = token_in(page.get("/login", **SECURE))
    log_in(page)

    answer = page.post("/logout", data={"csrf": planted}, **SECURE)

    assert answer.status_code == 403
    assert token_in(page.get("/", **SECURE)) != planted


def test_a_forged_cookie_is_nobodys(page: FlaskClient) -> None:
    log_in(page)
    cookie = page.get_cookie("__Host-stocksync", "shop.example")
    assert cookie
    page.set_cookie("__Host-stocksync", "f" + cookie.value[1:], domain="shop.example", secure=True)

    assert page.get("/", **SECURE).status_code == 303


def test_a_password_is_not_taken_over_plain_http(page: FlaskClient) -> None:
    answer = page.get("/login", base_url="http://shop.example", environ_base=ELSEWHERE)

    assert answer.status_code == 403
    assert "STOCK_SYNC_TRUSTED_PROXIES" in answer.text
    here = log_in(page, base_url="http://localhost:8000")
    assert here.status_code == 303
    assert "Secure" not in here.headers["Set-Cookie"]


# Other sites' forms


@pytest.mark.parametrize("path", ["/login", "/logout", "/operations/x/retry"])
def test_without_the_token_nothing_is_changed(page: FlaskClient, path: str) -> None:
    if path != "/login":
        log_in(page)

    for sent in ({}, {"csrf": ""}, {"csrf": "x" * 43}, {"csrf": "ключ"}):
        fields = sent | {"name": "admin", "password": PASSWORD}
        assert page.post(path, data=fields, **SECURE).status_code == 403


def test_the_token_may_come_as_a_header(page: FlaskClient, shop: Shop) -> None:
    log_in(page)
    operation = shop.deduct()

    answer = page.post(
        f"/operations/{operation}/retry",
        headers={"X-CSRF-Token": token_in(page.get("/", **SECURE))},
        **SECURE,
    )

    assert answer.status_code == 303
    assert shop.operation(operation)["log"][-1]["details"]["actor"] == "operator"


# Roles


@pytest.mark.parametrize(("name", "code"), [("reader", 403), ("operator", 303), ("admin", 303)])
def test_a_reader_changes_nothing(page: FlaskClient, shop: Shop, name: str, code: int) -> None:
    operation = shop.deduct()
    log_in(page, name)

    answer = press(page, f"/operations/{operation}/cancel", reason="why not")

    assert answer.status_code == code
    assert (shop.operation(operation)["status"] == "cancelled") is (code == 303)


# Guessing


def test_a_guesser_is_held_up_and_comes_back_later(page: FlaskClient, shop: Shop) -> None:
    for _ in range(PER_ADDRESS):
        assert log_in(page, password="wrong").status_code == 401

    held_up = log_in(page)
    assert held_up.status_code == 429
    assert "Too many attempts" in held_up.text
    other = {"REMOTE_ADDR": "203.0.113.8"}
    assert log_in(create_app(shop.runtime).test_client(), environ_base=other).status_code == 303

    shop.clock.advance(WINDOW)
    assert log_in(page).status_code == 303


def test_a_name_is_guessed_at_only_so_often(page: FlaskClient) -> None:
    places = [{"REMOTE_ADDR": f"203.0.{number}.8"} for number in range(PER_NAME + 1)]
    codes = [log_in(page, password="wrong", environ_base=place).status_code for place in places]
    assert codes[-2:] == [401, 429]


def test_whoever_logs_in_has_failed_no_more_often_for_it(page: FlaskClient) -> None:
    for _ in range(2 * PER_ADDRESS):
        page.delete_cookie("__Host-stocksync", domain="shop.example")
        assert log_in(page).status_code == 303


# Nobody set up, and proxies


@pytest.mark.parametrize(("proxies", "code"), [("0", 403), ("1", 200)])
def test_a_proxy_is_believed_only_where_it_is_configured(sqlite_url: str, proxies: str, code: int) -> None:
    with open_shop(sqlite_url, **SETTINGS, STOCK_SYNC_TRUSTED_PROXIES=proxies) as shop:
        page = create_app(shop.runtime).test_client()

        answer = page.get(
            "/login", headers={"X-Forwarded-Proto": "https"}, base_url="http://shop.example"
        )  # the proxy speaks plain HTTP to us

        assert answer.status_code == code


def test_an_address_in_a_header_counts_as_far_as_proxies_are_trusted(sqlite_url: str) -> None:
    with open_shop(sqlite_url, **SETTINGS, STOCK_SYNC_TRUSTED_PROXIES="1") as shop:
        page = create_app(shop.runtime).test_client()
        ways = [{"X-Forwarded-For": f"10.0.0.{i}, 203.0.113.7"} for i in range(PER_ADDRESS + 1)]
        codes = [log_in(page, password="wrong", headers=way).status_code for way in ways]

        assert codes[-2:] == [401, 429]  # what the guesser wrote in front changes nothing


# Secrets


def test_secrets_are_in_no_output(page: FlaskClient, shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        texts = [repr(shop.runtime.config), str(Access(shop.runtime.config).users)]
        texts += [log_in(page, password=PASSWORD + "!").text, log_in(page).text, page.get("/", **SECURE).text]

    for text in (*texts, caplog.text):
        assert HASH not in text
        assert PASSWORD not in text
        assert hash_key(KEYS["reader"]) not in text


# The commands


def test_the_line_of_users_hash_lets_its_user_in(sqlite_url: str) -> None:
    made = CliRunner().invoke(cli, ["users", "hash", "Анна", "--role", "admin"], input=f"{PASSWORD}\n")
    line = made.output.strip().splitlines()[-1]

    assert made.exit_code == 0
    assert PASSWORD not in made.output
    with open_shop(sqlite_url, STOCK_SYNC_USERS=line) as shop:
        assert [user.role for user in Access(shop.runtime.config).users.values()] == [Role.ADMIN]
        assert log_in(create_app(shop.runtime).test_client(), "Анна").status_code == 303
