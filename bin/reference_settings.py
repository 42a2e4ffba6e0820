"""What every setting means, in groups, and the two files made of it: the reference of settings and `.env.example`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from stocksync.config import StockSyncConfig, variable_of

GROUPS: tuple[tuple[str, str, dict[str, str]], ...] = (
    (
        "Database, Redis and microservice",
        "The four that every deployment sets.",
        {
            "database_url": "`postgresql://…` (`postgres://` is the same) or `sqlite:///…`. Unset: SQLite in `STOCK_SYNC_DATA_DIR`.",
            "redis_url": "`redis://…`, `rediss://…` (TLS) or `unix://…`. Unset: a Redis that `stocksync up` starts.",
            "microservice_base_url": "Address of the orders microservice, without a login in it.",
            "microservice_jwt_token": "Bearer token for the microservice. From a file, it is read again when the microservice refuses it.",
        },
    ),
    (
        "Orders",
        "",
        {
            "seller_cancellation": "What an order does that the seller cancels at Allegro: `restock` gives back what is deducted, `ignore` leaves stock alone.",
        },
    ),
    (
        "Retries",
        "After failure number n an order waits min(initial · base^(n-1), max) seconds.",
        {
            "retry_max_attempts": "Failures in all, then the order's operations are failed and wait for a person.",
            "retry_initial_delay": "Seconds after the first failure.",
            "retry_max_delay": "Seconds at most.",
            "retry_exponential_base": "By how much the delay grows with each failure.",
            "retry_jitter": "Wait a random time in the second half of the delay, so that retries spread.",
        },
    ),
    (
        "Delivery",
        "",
        {
            "delivery_concurrency": "Requests that one worker has open at a time, at most.",
            "delivery_batch_size": "Orders that are claimed in one transaction.",
            "delivery_slice_seconds": "For how long one job works on one seller while nobody else waits (else a quarter of a second); also one step of reconciliation and clean-up.",
            "delivery_lease_seconds": "For how long a claim holds. Another worker takes over after that; it must exceed the time of one call.",
            "sweep_interval_seconds": "How often lost claims and lost wake-ups are looked for.",
            "microservice_connect_timeout": "Seconds to connect.",
            "microservice_timeout": "Seconds for a whole call, to the last byte of its answer.",
            "microservice_immediate_timeout": "The same for calls with `immediate=True`, which somebody waits for.",
            "microservice_status_path": "Where the stock status of an order is PUT.",
            "microservice_health_path": "What is asked to see whether the microservice is back after an outage.",
            "microservice_orders_path": "The list that reconciliation reads.",
            "microservice_order_path": "One order, which reconciliation reads when the list lacks it.",
        },
    ),
    (
        "Reconciliation",
        "Compares our orders with the microservice's and repairs what it may.",
        {
            "reconciliation_interval_minutes": "How often a run begins.",
            "reconciliation_batch_size": "Orders on one page of the microservice's list.",
            "reconciliation_window_days": "Orders that changed in the last days are compared.",
            "reconciliation_grace_seconds": "What changed more recently counts as on its way. Raise it where the microservice's list lags behind.",
            "reconciliation_lookup_cap": "Orders missing from the list that are asked for one by one, at most in a run.",
            "reconciliation_auto_fix_threshold_hours": "What was completed longer ago is not repaired but waits for a person.",
            "reconciliation_suspicious_share": "When a larger share of orders differs (and more orders than the next setting), the run repairs nothing.",
            "reconciliation_suspicious_orders": "See above: so few differences are never suspicious.",
        },
    ),
    (
        "Monitoring and alerts",
        "",
        {
            "monitoring_interval_minutes": "How often everything is looked at. Every minute is cheap enough.",
            "monitoring_max_pending_operations": "Alert when more operations are pending.",
            "monitoring_stale_operation_hours": "An operation that is pending for longer is stale: alert.",
            "monitoring_alert_on_failed_retries": "Alert while operations are failed.",
            "monitoring_failure_share": "Alert when a larger share of deliveries failed …",
            "monitoring_failure_deliveries": "… of at least so many …",
            "monitoring_failure_window_minutes": "… in the last minutes.",
            "monitoring_breaker_minutes": "Alert when the breaker has been open for so long.",
            "monitoring_unclaimed_minutes": "Alert when an order has been due for so long and no worker took it.",
            "monitoring_ping_url": "A dead-man switch: asked after each monitoring whose alerts all went out.",
            "alert_urls": "Where alerts go: Apprise addresses, separated by blanks or commas (`tgram://TOKEN/CHAT`). Empty: to the log.",
            "alert_language": "Language of the alerts.",
            "alert_repeat_hours": "An alert that goes on is repeated after so long, unless somebody acknowledged it.",
            "telegram_api_url": "Another address of Telegram's Bot API, such as a proxy of your own.",
        },
    ),
    (
        "Page, API and metrics",
        "Without users and keys, the page and the API answer only on the machine they run on.",
        {
            "users": "Who may log in to the page: lines that `stocksync users hash` prints. They contain `$`: put them in single quotes.",
            "api_keys": "Who may call the API: lines that `stocksync users key` prints.",
            "secret_key": "Signs the sessions of the page, at least 32 characters. Unset: derived from the users.",
            "trusted_proxies": "Number of proxies in front whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed.",
            "metrics_open": "Serve `/metrics` without a key.",
            "page_language": "Language of readers whose browser asks for none of the three.",
        },
    ),
    (
        "Clean-up",
        "Nothing that may still matter goes, whatever its age.",
        {
            "cleanup_after_days": "Completed and cancelled operations and their logs, so long after they ended.",
            "cleanup_keys_after_days": "Idempotency keys, which outlive their operations.",
            "cleanup_reports_after_days": "Finished reconciliations, resolved alerts and differences, and runs of periodic tasks.",
        },
    ),
    (
        "Storage",
        "",
        {
            "data_dir": "Folder of SQLite and of the embedded Redis where no URL is set.",
            "allow_ephemeral_sqlite": "Allow SQLite on a platform whose disk is wiped at restarts (recognised by `DYNO`). What was not delivered is then lost.",
            "database_busy_timeout": "Seconds that a writer waits for another one (SQLite), and a caller for a connection.",
        },
    ),
    (
        "Redis",
        "",
        {
            "redis_prefix": "First part of the names of our keys in Redis.",
            "queue_name": "Name of the RQ queue.",
            "redis_ssl_self_signed": "Accept any certificate of a `rediss://` server.",
            "caller_redis_timeout": "Seconds that a call which records something waits for Redis.",
            "caller_redis_pause": "Seconds for which callers leave Redis alone after it did not answer. The sweep makes up for it.",
        },
    ),
    (
        "Logs and traces",
        "",
        {
            "log_level": "What is logged at least.",
            "log_format": "`text`, `json`, or `auto`: JSON on a platform (recognised by `DYNO`), text elsewhere.",
            "tracing": "OpenTelemetry spans; needs the extra `tracing`.",
        },
    ),
)  # fmt: skip

_EXAMPLES = {
    "database_url": "postgresql://stocksync:CHANGE-ME@localhost:5432/stocksync",
    "redis_url": "redis://localhost:6379/0",
    "microservice_base_url": "https://orders.example.com",
    "microservice_jwt_token": "CHANGE-ME",
}
_BOUNDS = {"ge": "at least {}", "gt": "above {}", "le": "at most {}"}


def check_complete() -> None:
    """Raises SystemExit when a setting has no description here, or a description no setting."""
    described = [field for _, _, fields in GROUPS for field in fields]
    if wrong := set(described) ^ set(StockSyncConfig.model_fields):
        raise SystemExit(f"bin/reference_settings.py: describe or remove {', '.join(sorted(wrong))}")


def default_of(field: str) -> str:
    """The default as it would be written in the environment; empty when there is none."""
    value = StockSyncConfig.model_fields[field].default
    if value is None or value is PydanticUndefined:
        return ""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def allowed(field: str) -> str:
    """What may be written, in words."""
    info = StockSyncConfig.model_fields[field]
    kind: Any = info.annotation
    if get_origin(kind) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(kind))
    if kind is bool:
        return "`true`, `false`"
    limits = [
        phrase.format(f"{limit:g}" if isinstance(limit, float) else limit)
        for one in info.metadata
        for name, phrase in _BOUNDS.items()
        if (limit := getattr(one, name, None)) is not None
    ]
    word = "whole number" if kind is int else "number" if kind is float else "path" if kind is Path else ""
    return ", ".join([*([word] if word else []), *limits]) or "text"


def settings_page() -> str:
    """docs/reference/settings.md without its head."""
    lines = [
        "# Settings",
        "",
        "Settings are environment variables. An empty one counts as not set. All faults of a configuration are reported together,",
        "an unknown `STOCK_SYNC_…` is one of them, and secrets are never shown. `stocksync check` says whether all is in place.",
        "",
        "Each can be read from a file: append `_FILE` to its name (`DATABASE_URL_FILE=/run/secrets/database`). In Python the same",
        "names are arguments, without prefix and in lower case: `StockSyncConfig(retry_max_attempts=3)`; the first four are `database_url`,",
        "`redis_url`, `microservice_base_url` and `microservice_jwt_token`.",
        "",
        "`stocksync web` also reads `HOST`, `PORT` and gunicorn's `GUNICORN_CMD_ARGS`. [.env.example](../../.env.example) lists every setting.",
    ]
    for title, intro, fields in GROUPS:
        lines += ["", f"## {title}", "", *([intro, ""] if intro else [])]
        lines += ["| variable | default | allowed | meaning |", "|---|---|---|---|"]
        for field, meaning in fields.items():
            default = f"`{default_of(field)}`" if default_of(field) else "none"
            lines.append(f"| `{variable_of(field)}` | {default} | {allowed(field)} | {meaning} |")
    return "\n".join(lines) + "\n"


def env_example() -> str:
    """.env.example: every setting with its default, those that have to be set not commented out."""
    lines = [
        "# Every setting of stocksync with its default; made by bin/reference, see docs/reference/settings.md.",
        "# stocksync reads environment variables, not this file: name a copy in systemd's EnvironmentFile= or in compose's env_file:,",
        "# or load it into a shell with `set -a; . ./.env; set +a`.",
    ]
    for title, _, fields in GROUPS:
        lines += ["", f"# --- {title}"]
        for field, meaning in fields.items():
            lines.append(f"# {re.sub('`', '', meaning)}")
            name, example = variable_of(field), _EXAMPLES.get(field)
            lines.append(f"{name}={example}" if example else f"# {name}={default_of(field)}")
    return "\n".join(lines) + "\n"
