"""Every setting, read from the environment; all faults of a configuration are reported together."""

import math
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, ValidationInfo

from stocksync.credentials import KEY_HASH, PASSWORD_HASH, read_credentials
from stocksync.errors import ConfigurationError

PREFIX = "STOCK_SYNC_"
_WITHOUT_PREFIX = {
    "database_url": "DATABASE_URL",
    "redis_url": "REDIS_URL",
    "microservice_base_url": "ALLEGRO_MICROSERVICE_BASE_URL",
    "microservice_jwt_token": "ALLEGRO_MICROSERVICE_JWT_TOKEN",
}
"""As platforms and the monolith already name them."""


def _checked(find_fault: Callable[[str], str | None]) -> AfterValidator:
    """Refuse a setting in whose text `find_fault` finds one: a sentence a line, that goes on from the setting's name."""

    def check(value: Any) -> Any:
        if fault := find_fault(value.get_secret_value() if isinstance(value, SecretStr) else value):
            raise ValueError(fault)
        return value

    return AfterValidator(check)


def _url(*schemes: str) -> AfterValidator:
    wanted = " or ".join(f"{scheme}://" for scheme in schemes)

    def find_fault(text: str) -> str | None:
        try:
            parts = urlsplit(text)
            _ = parts.port
        except ValueError:
            return f"is no valid URL; it must start with {wanted}"
        of_http, login = "http" in schemes, parts.username or parts.password
        faults = (
            (parts.scheme not in schemes, f"must start with {wanted}"),
            (of_http and not parts.hostname, "names no host"),
            (of_http and login, "must not contain a login: the token has a variable of its own"),
        )
        return next((sentence for wrong, sentence in faults if wrong), None)

    return _checked(find_fault)


def _not_below(other: str, *, equal: bool = True) -> AfterValidator:
    """Refuse a number below that of a setting further up; without `equal`, the same number too."""

    def check(value: float, info: ValidationInfo) -> float:
        least = info.data.get(other, -math.inf)  # one that is wrong itself is no measure
        if value < least or (value == least and not equal):
            raise ValueError(f"must {'not be below' if equal else 'be above'} {variable_of(other)}")
        return value

    return AfterValidator(check)


_HttpUrl = _url("http", "https")
_OrderPath = _checked(lambda text: None if "{order_id}" in text else "must contain {order_id}")
_HeaderText = _checked(
    lambda text: None if re.fullmatch(r"[ -~]*", text) else "holds characters that no HTTP header can carry"
)
_AlertUrls = _checked(
    lambda text: (
        None
        if all("://" in address for address in text.replace(",", " ").split())
        else "holds an address that is not SCHEME://…, as Apprise has them"
    )
)
_Users = _checked(lambda text: "\n".join(read_credentials(text, PASSWORD_HASH)[1]))
_Keys = _checked(lambda text: "\n".join(read_credentials(text, KEY_HASH)[1]))


class StockSyncConfig(BaseModel):
    """Names and defaults of the plan, and ours beside them. Times are in the unit that the name says, else seconds.

    `StockSyncConfig(name=value, …)` takes what is not given from the environment; `load` reports every fault of it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, validate_default=True)

    # Without the prefix
    database_url: Annotated[SecretStr, _url("sqlite", "postgres", "postgresql")] | None = None
    redis_url: Annotated[SecretStr, _url("redis", "rediss", "unix")] | None = None
    microservice_base_url: Annotated[str, _HttpUrl] | None = None
    microservice_jwt_token: Annotated[SecretStr, _HeaderText] | None = None
    _token_file: str = ""

    # The plan's
    retry_max_attempts: Annotated[int, Field(ge=1, le=1000)] = 5
    retry_initial_delay: Annotated[float, Field(ge=0, le=86400)] = 60
    retry_max_delay: Annotated[float, Field(ge=0, le=604800), _not_below("retry_initial_delay")] = 3600
    retry_exponential_base: Annotated[float, Field(ge=1, le=100)] = 2.0
    retry_jitter: bool = True
    reconciliation_interval_minutes: Annotated[int, Field(ge=1)] = 30
    reconciliation_batch_size: Annotated[int, Field(ge=1, le=500)] = 100
    reconciliation_auto_fix_threshold_hours: Annotated[int, Field(ge=0)] = 24
    reconciliation_window_days: Annotated[float, Field(gt=0, le=365)] = 7
    reconciliation_grace_seconds: Annotated[float, Field(ge=0, le=86400)] = 1
    reconciliation_suspicious_share: Annotated[float, Field(ge=0, le=1)] = 0.2
    reconciliation_suspicious_orders: Annotated[int, Field(ge=0)] = 10
    reconciliation_lookup_cap: Annotated[int, Field(ge=0, le=100_000)] = 500
    monitoring_alert_on_failed_retries: bool = True
    monitoring_max_pending_operations: Annotated[int, Field(ge=0)] = 1000
    monitoring_stale_operation_hours: Annotated[float, Field(gt=0, le=8760)] = 6
    monitoring_interval_minutes: Annotated[int, Field(ge=1, le=1440)] = 30
    monitoring_failure_share: Annotated[float, Field(ge=0, le=1)] = 0.2
    monitoring_failure_deliveries: Annotated[int, Field(ge=1)] = 10
    monitoring_failure_window_minutes: Annotated[int, Field(ge=1, le=1440)] = 60
    monitoring_breaker_minutes: Annotated[float, Field(ge=0)] = 10
    monitoring_unclaimed_minutes: Annotated[float, Field(gt=0)] = 10
    monitoring_ping_url: Annotated[SecretStr, _HttpUrl] | None = None

    # Who is told: Apprise's addresses, separated by blanks or commas (tgram://TOKEN/CHAT)
    alert_urls: Annotated[SecretStr, _AlertUrls] = SecretStr("")
    alert_language: Literal["ru", "pl", "en"] = "ru"
    alert_repeat_hours: Annotated[float, Field(gt=0)] = 6
    telegram_api_url: Annotated[str, _HttpUrl] | None = None

    # Clean-up: completed and cancelled operations; their keys, which outlive them; finished reports and runs
    cleanup_after_days: Annotated[int, Field(ge=1, le=36500)] = 30
    cleanup_keys_after_days: Annotated[int, Field(ge=1, le=36500), _not_below("cleanup_after_days")] = 90
    cleanup_reports_after_days: Annotated[int, Field(ge=1, le=36500)] = 90

    # Where things are kept when no URL is given
    data_dir: Path = Path(".stocksync")
    allow_ephemeral_sqlite: bool = False
    database_busy_timeout: Annotated[float, Field(gt=0, le=120)] = 10.0

    # Redis
    redis_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,50}$")] = "stock-sync"
    queue_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,50}$")] = "stock-sync"
    redis_ssl_self_signed: bool = False
    caller_redis_timeout: Annotated[float, Field(gt=0, le=1)] = 0.25
    caller_redis_pause: Annotated[float, Field(ge=0, le=600)] = 30.0

    # What an order does that the seller marks as cancelled at Allegro: gives back what is deducted, or nothing
    seller_cancellation: Literal["restock", "ignore"] = "restock"

    # The microservice
    microservice_connect_timeout: Annotated[float, Field(gt=0, le=60)] = 3.0
    microservice_timeout: Annotated[float, Field(gt=0, le=60)] = 8.0
    microservice_immediate_timeout: Annotated[float, Field(gt=0, le=60)] = 3.0
    microservice_status_path: Annotated[str, _OrderPath] = "/orders/{order_id}/stock-status"
    microservice_health_path: str = "/health"
    microservice_orders_path: str = "/orders"
    microservice_order_path: Annotated[str, _OrderPath] = "/orders/{order_id}"

    # Delivery
    delivery_batch_size: Annotated[int, Field(ge=1, le=1000)] = 200
    delivery_concurrency: Annotated[int, Field(ge=1, le=128)] = 16
    delivery_slice_seconds: Annotated[float, Field(gt=0, le=60)] = 5.0
    delivery_lease_seconds: Annotated[
        float, Field(ge=1, le=3600), _not_below("microservice_timeout", equal=False)
    ] = 60.0
    sweep_interval_seconds: Annotated[int, Field(ge=1, le=300)] = 60

    # Who may come in; both empty: only somebody at this machine
    users: Annotated[SecretStr, _Users] = SecretStr("")
    api_keys: Annotated[SecretStr, _Keys] = SecretStr("")
    secret_key: Annotated[SecretStr, Field(min_length=32)] | None = None
    trusted_proxies: Annotated[int, Field(ge=0, le=10)] = 0
    metrics_open: bool = False

    page_language: Literal["ru", "pl", "en"] = "ru"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["auto", "text", "json"] = "auto"
    tracing: bool = False

    def __init__(self, /, _read: Mapping[str, Any] | None = None, **given: Any) -> None:
        faults: list[str] = []
        read = _values(os.environ, faults) if _read is None else _read
        if faults:
            raise ConfigurationError(faults)
        super().__init__(**{**read, **given})

    @property
    def database(self) -> str:
        """The database's URL; SQLite under `data_dir` when none is set. Holds a secret: never print it."""
        return (
            self.database_url.get_secret_value()
            if self.database_url
            else f"sqlite:///{quote(str(self.data_dir / 'stocksync.db'))}"
        )

    def jwt_token(self) -> str | None:
        """The bearer for the microservice; read again where it came from a file, which may have a new one by now."""
        if self._token_file:
            # The one that was read at start is better than none.
            with suppress(OSError, UnicodeDecodeError):
                return Path(self._token_file).read_text(encoding="utf-8").strip()
        return self.microservice_jwt_token.get_secret_value() if self.microservice_jwt_token else None

    @property
    def messengers(self) -> list[str]:
        """Where alerts go. Each holds a secret: never print it."""
        return self.alert_urls.get_secret_value().replace(",", " ").split()

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> Self:
        """The configuration of `environ` (default: the process's own).

        Raises:
            ConfigurationError: naming every variable that is wrong, with what is allowed.
        """
        environment = dict(os.environ if environ is None else environ)
        faults = _unknown_variables(environment)
        values = _values(environment, faults) | overrides
        try:
            config = cls(values)
        except ValidationError as error:
            faults += [
                sentence for fault in error.errors(include_url=False) for sentence in _sentences(fault)
            ]
        allowed = str(values.get("allow_ephemeral_sqlite")).lower() in ("true", "1", "yes", "on", "t", "y")
        if (
            "DYNO" in environment
            and not allowed
            and str(values.get("database_url", "sqlite"))[:6] == "sqlite"
        ):
            faults.append(
                "DATABASE_URL: this platform's disk is wiped at every restart, and SQLite with it; "
                f"use PostgreSQL, or set {PREFIX}ALLOW_EPHEMERAL_SQLITE=true if that is meant"
            )
        if faults:
            raise ConfigurationError(faults)
        config._token_file = environment.get("ALLEGRO_MICROSERVICE_JWT_TOKEN_FILE", "").strip()
        return config


def variable_of(field: str) -> str:
    """The environment variable that sets `field`."""
    return _WITHOUT_PREFIX.get(field, f"{PREFIX}{field.upper()}")


def _values(environment: Mapping[str, str], faults: list[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field in StockSyncConfig.model_fields:
        name = variable_of(field)
        text, path = (environment.get(said, "").strip() for said in (name, f"{name}_FILE"))
        if text and path:
            faults.append(f"{name} and {name}_FILE are both set: keep one")
        elif path:
            try:
                text = Path(path).read_text(encoding="utf-8").strip()
                if not text:
                    faults.append(f"{name}_FILE: {path} is empty")
            except (OSError, UnicodeDecodeError) as error:
                faults.append(
                    f"{name}_FILE: {path} can't be read ({getattr(error, 'strerror', None) or 'not text'})"
                )
        if text:
            values[field] = text
    return values


def _unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Misspelt settings. Kubernetes adds variables of its own for a service that is named `stock-sync`."""
    known = {variable_of(field) for field in StockSyncConfig.model_fields}
    return [
        f"{name} is no setting" + "".join(f"; {near} is" for near in get_close_matches(name, known, n=1))
        for name in sorted(environment)
        if name.startswith(PREFIX)
        and name.removesuffix("_FILE") not in known
        and not re.search(r"_(SERVICE_HOST|(SERVICE_)?PORT(_\w+)?)$", name)
    ]


def _sentences(fault: Any) -> list[str]:
    said = str(fault["msg"]).removeprefix("Value error, ").split("\n")
    name = variable_of(str(fault["loc"][0]))
    if fault["type"] == "value_error":
        return [f"{name} {sentence}" for sentence in said]
    is_secret = "SecretStr" in repr(StockSyncConfig.model_fields.get(str(fault["loc"][0])))
    return [
        f"{name} {re.sub(r'^Input should be ', 'must be ', said[0])}"
        + ("" if is_secret else f", got {str(fault['input'])!r:.60}")
    ]
