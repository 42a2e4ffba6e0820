"""A monitor to test with: its messenger keeps what it is told, and processes are heard or not."""

from __future__ import annotations

from typing import Any

from redis.exceptions import ConnectionError as RedisAway

from tests.shop import Shop

HOUR = 3600.0


class Told:
    """A messenger that keeps what it is given, or refuses."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.takes = True

    def __call__(self, text: str) -> bool:
        if self.takes:
            self.texts.append(text)
        return self.takes


class Watched:
    """A shop with its monitor, a messenger in hand, and processes that live unless said otherwise."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.told = Told()
        self.heard: dict[str, bool] | None = {"worker": True, "scheduler": True}
        shop.runtime.__dict__["processes_alive"] = self._heard
        self.monitor = shop.runtime.monitor
        self.monitor._send = self.told

    def _heard(self) -> dict[str, bool]:
        if self.heard is None:
            raise RedisAway
        return self.heard

    def run(self) -> dict[str, Any]:
        with self.shop.runtime.database.scope():
            return self.monitor.run()


def execute(shop: Shop, sql: str) -> None:
    with shop.runtime.database.transaction_scope():
        shop.runtime.database.execute_sql(sql)


def many(shop: Shop, count: int = 4) -> None:
    for number in range(count):
        shop.deduct(f"many-{number}")


def rows(at: Watched, kind: str) -> list[dict[str, Any]]:
    return [row for row in at.shop.runtime.alerts.find(limit=200) if row["kind"] == kind]
