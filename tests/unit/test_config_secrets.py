"""Secrets in the settings: never shown, read from files, refused where they can't be used."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from stocksync import ConfigurationError, StockSyncConfig
from tests.configuration import SECRET, SECRETS, faults_of

# Secrets


def test_no_secret_shows_in_the_configuration_itself() -> None:
    config = StockSyncConfig.load(SECRETS)

    for shown in (repr(config), str(config), repr(config.model_dump()), config.model_dump_json()):
        assert SECRET not in shown


@pytest.mark.parametrize(
    "environ",
    [
        {"DATABASE_URL": f"mysql://shop:{SECRET}@db"},
        {"DATABASE_URL": SECRET},
        {"DATABASE_URL": f"postgres://shop:{SECRET}@db:port/shop"},
        {"DATABASE_URL": f"postgres://[{SECRET}"},
        {"REDIS_URL": f"http://:{SECRET}@redis"},
        {**SECRETS, "STOCK_SYNC_RETRY_MAX_DELAY": "1"},
        {**SECRETS, "STOCK_SYNC_RETRY_JITTER": "maybe"},
        {"STOCK_SYNC_DATABASE_URL": SECRETS["DATABASE_URL"]},
        {"ALLEGRO_MICROSERVICE_BASE_URL": f"ftp://shop:{SECRET}@orders"},
    ],
)
def test_no_secret_shows_in_the_faults(environ: dict[str, str]) -> None:
    assert SECRET not in "\n".join(faults_of(environ))


@pytest.mark.parametrize("variable", ["database_url", "redis_url", "microservice_jwt_token"])
def test_no_secret_of_the_wrong_kind_shows_in_the_faults(variable: str) -> None:
    assert SECRET not in "\n".join(faults_of({}, **{variable: [SECRET]}))


def test_no_secret_shows_when_the_class_itself_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", f"mysql://:{SECRET}@db")

    with pytest.raises((ConfigurationError, ValidationError)) as wrong:
        StockSyncConfig()

    assert SECRET not in str(wrong.value)


@pytest.mark.parametrize("token", [f"{SECRET}\r\nX-More: 1", f"{SECRET}\x00", "токен"])
def test_a_token_that_no_header_can_carry_is_refused(token: str) -> None:
    (fault,) = faults_of({"ALLEGRO_MICROSERVICE_JWT_TOKEN": token})

    assert fault.startswith("ALLEGRO_MICROSERVICE_JWT_TOKEN")
    assert token not in fault


# Secrets from files


@pytest.mark.parametrize("variable", SECRETS)
def test_a_secret_is_read_from_its_file_without_the_line_end(tmp_path: Path, variable: str) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRETS[variable] + "\n")

    from_file = StockSyncConfig.load({f"{variable}_FILE": str(file)})

    assert from_file.model_dump() == StockSyncConfig.load({variable: SECRETS[variable]}).model_dump()


def test_a_file_that_is_missing_is_named_with_the_reason(tmp_path: Path) -> None:
    file = tmp_path / "secret"

    assert faults_of({"DATABASE_URL_FILE": str(file)}) == [
        f"DATABASE_URL_FILE: {file} can't be read (No such file or directory)"
    ]


def test_a_file_that_is_empty_is_named(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("\n")

    assert faults_of({"DATABASE_URL_FILE": str(file)}) == [f"DATABASE_URL_FILE: {file} is empty"]


def test_a_file_that_is_no_text_is_named_and_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(SECRET.encode() + b"\xff")

    assert faults_of({"DATABASE_URL_FILE": str(file)}) == [
        f"DATABASE_URL_FILE: {file} can't be read (not text)"
    ]


def test_a_value_and_a_file_for_it_are_one_too_many(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRETS["REDIS_URL"])

    assert faults_of({"REDIS_URL": SECRETS["REDIS_URL"], "REDIS_URL_FILE": str(file)}) == [
        "REDIS_URL and REDIS_URL_FILE are both set: keep one"
    ]


def test_the_class_itself_refuses_a_file_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL_FILE", "/no/such/file")

    with pytest.raises((ConfigurationError, ValidationError), match="DATABASE_URL_FILE"):
        StockSyncConfig()
