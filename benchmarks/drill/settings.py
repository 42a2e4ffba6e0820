"""Names, times and amounts of the drill, and how its processes are configured."""

from __future__ import annotations

KINDS = ("sqlite", "postgresql", "pgbouncer")
SURVIVOR, VICTIM = "worker-1", "worker-2"
"""The worker that is never ended, whose memory is watched; and the one that everything happens to."""
LEASE_SECONDS = 4.0
IN_STOCK = 1_000_000
SETTINGS = {
    "STOCK_SYNC_LOG_LEVEL": "DEBUG",
    "STOCK_SYNC_RETRY_INITIAL_DELAY": "1",
    "STOCK_SYNC_RETRY_MAX_DELAY": "4",
    "STOCK_SYNC_SWEEP_INTERVAL_SECONDS": "1",
    "STOCK_SYNC_MICROSERVICE_TIMEOUT": "2",
    "STOCK_SYNC_MICROSERVICE_CONNECT_TIMEOUT": "1",
    "STOCK_SYNC_DELIVERY_LEASE_SECONDS": str(int(LEASE_SECONDS)),
    "STOCK_SYNC_DELIVERY_BATCH_SIZE": "50",
    "STOCK_SYNC_CALLER_REDIS_PAUSE": "2",
    "STOCK_SYNC_DATABASE_BUSY_TIMEOUT": "3",
    "STOCK_SYNC_RECONCILIATION_INTERVAL_MINUTES": "1",
    "STOCK_SYNC_MONITORING_INTERVAL_MINUTES": "1",
}
"""Times are short, so that what takes an hour in a shop takes a minute here. Attempts and the rest are the defaults."""
USUAL = {
    "latency_ms": 40, "outage": None, "reset_share": 0, "rate_limit_share": 0, "error_share": 0, "error_status": 503,
    "drop_after_apply_share": 0, "bad_body": None,
}  # fmt: skip
"""The remote when nothing is wrong with it; what it was asked is on its way for a while, so that kills hit something."""
