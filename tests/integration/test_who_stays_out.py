"""Who stays out: guessers with tricks, proxies that hide, sessions that ended in the middle of a form."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient

from stocksync.web import auth, create_app
from stocksync.web.auth import PER_ADDRESS, SESSION_LASTS
from tests.logins import SECURE, SETTINGS, log_in, token_in
from tests.shop import Shop, open_shop


@pytest.fixture
def shop(sqlite_url: str) -> Iterator[Shop]:
    with open_shop(sqlite_url, **SETTINGS) as opened:
        yield opened


@pytest.fixture
def page(shop: Shop) -> FlaskClient:
    """A browser somewhere in the world, to whom nothing was sent yet."""
    return create_app(shop.runtime).test_client()


def test_whoever_was_logged_out_before_a_form_went_is_told_that_nothing_was_changed(
    page: FlaskClient, shop: Shop
) -> None:
    log_in(page)
    operation = shop.deduct()
    back = f"/operations/{operation}"
    token = token_in(page.get(back, **SECURE))
    shop.clock.advance(SESSION_LASTS.total_seconds() + 1)

    answer = page.post(f"{back}/cancel", data={"csrf": token, "back": back, "reason": "x"}, **SECURE)

    assert answer.location == f"/login?next={back}"
    assert "so nothing was changed" in page.get(answer.location, **SECURE).text
    assert shop.statuses() == ["pending"]


def test_made_up_names_from_an_address_that_is_refused_do_not_make_it_forgotten(
    page: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "MOST_REMEMBERED", 3 * PER_ADDRESS)
    codes = [log_in(page, name=f"made up {n}", password="wrong").status_code for n in range(5 * PER_ADDRESS)]

    assert codes == [401] * PER_ADDRESS + [429] * 4 * PER_ADDRESS
    assert log_in(page).status_code == 429


def test_with_nobody_set_up_a_proxy_that_says_nothing_of_itself_is_known_by_its_http_1_0(
    sqlite_url: str,
) -> None:
    with open_shop(sqlite_url) as shop:
        page = create_app(shop.runtime).test_client()

        passed_on = page.get("/", environ_overrides={"SERVER_PROTOCOL": "HTTP/1.0"})

        assert passed_on.status_code == 403
        assert "not served through a proxy" in passed_on.text
        assert page.get("/").status_code == 200
