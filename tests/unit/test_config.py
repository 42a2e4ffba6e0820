"""The settings: the plan's names and defaults, and every fault in words."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from stocksync import StockSyncConfig
from tests.configuration import SECRET, SECRETS, faults_of

# The table of the plan: variable, default, another value as a person writes it, what that means.
PLAN: list[tuple[str, object, str, object]] = [
    ("STOCK_SYNC_RETRY_MAX_ATTEMPTS", 5, "7", 7),
    ("STOCK_SYNC_RETRY_INITIAL_DELAY", 60, "1.5", 1.5),
    ("STOCK_SYNC_RETRY_MAX_DELAY", 3600, "7200", 7200),
    ("STOCK_SYNC_RETRY_EXPONENTIAL_BASE", 2.0, "3", 3.0),
    ("STOCK_SYNC_RETRY_JITTER", True, "false", False),
    ("STOCK_SYNC_RECONCILIATION_INTERVAL_MINUTES", 30, "10", 10),
    ("STOCK_SYNC_RECONCILIATION_BATCH_SIZE", 100, "50", 50),
    ("STOCK_SYNC_RECONCILIATION_AUTO_FIX_THRESHOLD_HOURS", 24, "48", 48),
    ("STOCK_SYNC_MONITORING_ALERT_ON_FAILED_RETRIES", True, "no", False),
    ("STOCK_SYNC_MONITORING_MAX_PENDING_OPERATIONS", 1000, "5000", 5000),
    ("STOCK_SYNC_MONITORING_STALE_OPERATION_HOURS", 6, "0.5", 0.5),
]


def value_of(config: StockSyncConfig, variable: str) -> object:
    return getattr(config, variable.removeprefix("STOCK_SYNC_").lower())


# Names and defaults


@pytest.mark.parametrize(("variable", "default", "written", "meant"), PLAN)
def test_a_setting_of_the_plan_has_its_name_and_its_default(
    variable: str, default: object, written: str, meant: object
) -> None:
    assert value_of(StockSyncConfig.load({}), variable) == default
    assert value_of(StockSyncConfig.load({variable: written}), variable) == meant


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DATABASE_URL", "postgres://shop@db.example/shop"),
        ("DATABASE_URL", "postgresql://shop@db.example:5433/shop"),
        ("DATABASE_URL", "sqlite:///shop.db"),
        ("REDIS_URL", "redis://localhost:6379/0"),
        ("REDIS_URL", "rediss://redis.example:6380"),
        ("REDIS_URL", "unix:///run/redis.sock"),
        ("ALLEGRO_MICROSERVICE_BASE_URL", "https://orders.example/api"),
    ],
)
def test_the_addresses_that_platforms_give_are_taken(variable: str, value: str) -> None:
    assert StockSyncConfig.load({variable: value}) != StockSyncConfig.load({})


def test_without_a_database_url_it_is_sqlite_in_the_data_folder() -> None:
    assert StockSyncConfig.load({}).database == "sqlite:///.stocksync/stocksync.db"
    assert StockSyncConfig.load({"STOCK_SYNC_DATA_DIR": "/srv"}).database == "sqlite:////srv/stocksync.db"


@pytest.mark.parametrize("empty", ["", "  ", "\n"])
@pytest.mark.parametrize("variable", ["DATABASE_URL", "DATABASE_URL_FILE", "STOCK_SYNC_RETRY_MAX_DELAY"])
def test_an_empty_value_counts_as_unset(variable: str, empty: str) -> None:
    assert StockSyncConfig.load({variable: empty}) == StockSyncConfig.load({})


def test_a_caller_may_override_the_environment() -> None:
    assert (
        StockSyncConfig.load({"STOCK_SYNC_RETRY_MAX_ATTEMPTS": "7"}, retry_max_attempts=9).retry_max_attempts
        == 9
    )


def test_the_class_itself_reads_the_environment_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOCK_SYNC_RETRY_MAX_ATTEMPTS", "7")
    monkeypatch.setenv("DATABASE_URL", SECRETS["DATABASE_URL"])

    config = StockSyncConfig()

    assert config.retry_max_attempts == 7
    assert config.database == SECRETS["DATABASE_URL"]
    assert StockSyncConfig.load().model_dump() == config.model_dump()


def test_a_configuration_does_not_change_once_it_is_read() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        StockSyncConfig.load({}).retry_max_attempts = 7  # type: ignore[misc]


# Faults


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("STOCK_SYNC_RETRY_MAX_ATTEMPTS", "0", "greater than or equal to 1"),
        ("STOCK_SYNC_RETRY_MAX_ATTEMPTS", "many", "must be a valid integer"),
        ("STOCK_SYNC_RETRY_INITIAL_DELAY", "-1", "greater than or equal to 0"),
        ("STOCK_SYNC_RETRY_INITIAL_DELAY", "nan", "less than or equal to 86400"),
        ("STOCK_SYNC_RETRY_MAX_DELAY", "inf", "less than or equal to 604800"),
        ("STOCK_SYNC_RETRY_EXPONENTIAL_BASE", "0.5", "greater than or equal to 1"),
        ("STOCK_SYNC_RETRY_JITTER", "maybe", "must be a valid boolean"),
        ("STOCK_SYNC_RECONCILIATION_BATCH_SIZE", "0", "greater than or equal to 1"),
        ("STOCK_SYNC_MONITORING_STALE_OPERATION_HOURS", "0", "greater than 0"),
        ("STOCK_SYNC_CLEANUP_AFTER_DAYS", "0", "greater than or equal to 1"),
        ("STOCK_SYNC_LOG_LEVEL", "loud", "'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
        ("STOCK_SYNC_QUEUE_NAME", "a queue", "pattern"),
    ],
)
def test_a_wrong_value_is_named_with_its_variable_and_what_is_allowed(
    variable: str, value: str, allowed: str
) -> None:
    (fault,) = faults_of({variable: value})

    assert fault.startswith(f"{variable} ")
    assert allowed in fault
    assert repr(value) in fault


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"DATABASE_URL": "mysql://db"}, "DATABASE_URL must start with sqlite:// or postgres://"),
        ({"DATABASE_URL": "shop.db"}, "DATABASE_URL must start with sqlite:// or postgres://"),
        ({"DATABASE_URL": "postgres://db:port/shop"}, "DATABASE_URL is no valid URL"),
        ({"REDIS_URL": "localhost:6379"}, "REDIS_URL must start with redis:// or rediss:// or unix://"),
        ({"ALLEGRO_MICROSERVICE_BASE_URL": "orders.example"}, "ALLEGRO_MICROSERVICE_BASE_URL must start with http://"),
        ({"ALLEGRO_MICROSERVICE_BASE_URL": "http:///orders"}, "ALLEGRO_MICROSERVICE_BASE_URL names no host"),
        ({"STOCK_SYNC_MICROSERVICE_STATUS_PATH": "/orders"}, "STOCK_SYNC_MICROSERVICE_STATUS_PATH must contain {order_id}"),
        ({"STOCK_SYNC_RETRY_MAX_DELAY": "59"}, "must not be below STOCK_SYNC_RETRY_INITIAL_DELAY"),
        ({"STOCK_SYNC_CLEANUP_AFTER_DAYS": "91"}, "CLEANUP_KEYS_AFTER_DAYS must not be below STOCK_SYNC_CLEANUP_AFTER_DAYS"),
        ({"STOCK_SYNC_DELIVERY_LEASE_SECONDS": "8"}, "must be above STOCK_SYNC_MICROSERVICE_TIMEOUT"),
    ],
)  # fmt: skip
def test_values_that_can_not_work_are_named(environ: dict[str, str], said: str) -> None:
    (fault,) = faults_of(environ)

    assert said in fault


def test_every_wrong_value_is_reported_at_once() -> None:
    wrong = {
        "STOCK_SYNC_RETRY_MAX_ATTEMPTS": "0",
        "STOCK_SYNC_RETRY_JITTER": "maybe",
        "STOCK_SYNC_LOG_LEVEL": "loud",
        "STOCK_SYNC_NO_SUCH_THING": "1",
        "REDIS_URL_FILE": "/no/such/file",
    }

    assert {fault.split(" ")[0].rstrip(":") for fault in faults_of(wrong)} == set(wrong)


def test_everything_that_does_not_fit_together_is_reported_at_once() -> None:
    assert len(faults_of({"STOCK_SYNC_RETRY_MAX_DELAY": "1", "DATABASE_URL": "x", "REDIS_URL": "x"})) == 3


@pytest.mark.parametrize(
    "other",
    [
        {"DATABASE_URL": "mysql://db"},
        {"REDIS_URL": "http://redis"},
        {"ALLEGRO_MICROSERVICE_BASE_URL": "orders.example"},
        {"STOCK_SYNC_RETRY_MAX_DELAY": "1"},
        {"DYNO": "web.1"},
    ],
)
def test_a_value_of_a_wrong_kind_hides_no_other_fault(other: dict[str, str]) -> None:
    assert len(faults_of({"STOCK_SYNC_RETRY_JITTER": "maybe"} | other)) == 2


@pytest.mark.parametrize("hours", ["inf", "1e300"])
def test_hours_beyond_the_calendar_are_refused(hours: str) -> None:
    assert faults_of({"STOCK_SYNC_MONITORING_STALE_OPERATION_HOURS": hours})


@pytest.mark.parametrize(
    ("variable", "near"),
    [
        ("STOCK_SYNC_RETRY_MAX_ATEMPTS", "STOCK_SYNC_RETRY_MAX_ATTEMPTS"),
        ("STOCK_SYNC_RETRY_JITTERS", "STOCK_SYNC_RETRY_JITTER"),
        ("STOCK_SYNC_RETRY_MAXDELAY_FILE", "STOCK_SYNC_RETRY_MAX_DELAY"),
    ],
)
def test_a_variable_that_is_no_setting_suggests_the_near_one(variable: str, near: str) -> None:
    assert faults_of({variable: SECRET}) == [f"{variable} is no setting; {near} is"]


def test_what_kubernetes_says_of_a_service_named_stock_sync_is_no_setting() -> None:
    said = ("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT", "PORT_80_TCP", "PORT_80_TCP_ADDR")

    assert StockSyncConfig.load({f"STOCK_SYNC_{name}": "tcp://10.0.0.1:80" for name in said})
    assert faults_of({"STOCK_SYNC_SUPPORT": "x"}) != []


def test_variables_of_other_programs_are_left_alone() -> None:
    assert StockSyncConfig.load({"STOCK_LEVEL": "7", "PATH": "/bin", "RETRY_JITTER": "maybe"})


def test_a_platform_that_forgets_its_disk_refuses_sqlite() -> None:
    (fault,) = faults_of({"DYNO": "web.1"})

    assert fault.startswith("DATABASE_URL: ")
    assert "STOCK_SYNC_ALLOW_EPHEMERAL_SQLITE=true" in fault


@pytest.mark.parametrize(
    "more", [{"STOCK_SYNC_ALLOW_EPHEMERAL_SQLITE": "true"}, {"DATABASE_URL": "postgres://db.example/shop"}]
)
def test_a_platform_that_forgets_its_disk_takes_postgresql_or_what_is_meant(more: dict[str, str]) -> None:
    assert StockSyncConfig.load({"DYNO": "web.1"} | more)
