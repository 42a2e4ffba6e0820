"""Users and keys of the settings, how they are compared, and how attempts at them are counted."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from stocksync import ConfigurationError, StockSyncConfig, credentials
from stocksync.cli.frame import cli
from stocksync.credentials import PASSWORD_HASH, hash_key, owner_of, read_credentials
from stocksync.web.auth import MOST_REMEMBERED, PER_NAME, Access, network
from tests.logins import HASH, PASSWORD, SETTINGS
from tests.shop import START


@pytest.fixture
def access() -> Access:
    return Access(StockSyncConfig.load({}))


def test_a_guesser_with_many_addresses_is_held_up_by_the_name(access: Access) -> None:
    let_through = [access.may_try(f"10.0.{i // 250}.{i % 250}", "anna", START) for i in range(200)]

    assert sum(let_through) == PER_NAME
    assert access.may_try("10.9.9.9", "boris", START)


def test_addresses_of_one_network_count_as_one() -> None:
    assert network("2001:db8:1:2::1") == network("2001:db8:1:2:ffff::7") != network("2001:db8:1:3::1")
    assert network("::ffff:192.0.2.1") == network("192.0.2.1") != network("192.0.2.2")
    assert network("a socket") == network("")


def test_what_is_remembered_of_guessers_is_bounded(access: Access) -> None:
    for i in range(2 * MOST_REMEMBERED):
        access.may_try(f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}", f"name {i}", START)

        assert len(access.failed) <= MOST_REMEMBERED + 1


def test_keys_and_passwords_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def compare(one: str, other: str) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr("secrets.compare_digest", compare)
    keys = read_credentials(SETTINGS["STOCK_SYNC_API_KEYS"], credentials.KEY_HASH)[0]

    assert owner_of("key-of-reader", keys) == keys[0]
    assert len(compared) == len(keys)  # it does not stop at the first that fits
    assert not credentials.password_fits("x", None)
    assert len(compared) == len(keys) + 1  # nobody takes as long as somebody


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("STOCK_SYNC_USERS", f"anna:boss:{HASH}"),
        ("STOCK_SYNC_USERS", f"anna:admin:{HASH}x"),
        ("STOCK_SYNC_USERS", f"anna:admin:{HASH},anna:reader:{HASH}"),
        ("STOCK_SYNC_USERS", "anna:admin:hunter2hunter2"),
        ("STOCK_SYNC_API_KEYS", "anna:admin:hunter2hunter2"),
        ("STOCK_SYNC_API_KEYS", f":admin:{hash_key('x')}"),
        ("STOCK_SYNC_SECRET_KEY", "hunter2"),
    ],
)
def test_a_wrong_entry_is_named_without_its_secret(variable: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=variable) as wrong:
        StockSyncConfig.load({variable: value})

    said = str(wrong.value)
    assert "hunter2" not in said
    assert HASH not in said
    assert value not in said


@pytest.mark.parametrize("name", ["an na", "a:b", "a,b", "", "x" * 51])
def test_a_name_that_the_setting_can_not_hold_is_refused(name: str) -> None:
    for command in ("hash", "key"):
        assert CliRunner().invoke(cli, ["users", command, name], input=f"{PASSWORD}\n").exit_code == 2


def test_a_short_password_is_refused() -> None:
    assert CliRunner().invoke(cli, ["users", "hash", "anna"], input="short\n").exit_code == 2


def test_a_hash_is_as_the_web_library_makes_them() -> None:
    from werkzeug.security import check_password_hash, generate_password_hash

    made = generate_password_hash(PASSWORD)

    assert check_password_hash(HASH, PASSWORD)
    assert PASSWORD_HASH.fullmatch(made)
    user, _ = read_credentials(f"anna:reader:{made}", PASSWORD_HASH)
    assert credentials.password_fits(PASSWORD, user[0])
