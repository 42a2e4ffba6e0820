"""What the tests of the settings share: secrets to look for, and the faults of an environment."""

from typing import Any

import pytest

from stocksync import ConfigurationError, StockSyncConfig

SECRET = "hunter2"
SECRETS = {
    "DATABASE_URL": f"postgresql://shop:{SECRET}@db.example/shop",
    "REDIS_URL": f"rediss://:{SECRET}@redis.example:6380/0",
    "ALLEGRO_MICROSERVICE_JWT_TOKEN": f"header.{SECRET}.signature",
}


def faults_of(environ: dict[str, str], **overrides: Any) -> list[str]:
    with pytest.raises(ConfigurationError) as wrong:
        StockSyncConfig.load(environ, **overrides)
    assert all(fault in str(wrong.value) for fault in wrong.value.faults)
    return list(wrong.value.faults)
