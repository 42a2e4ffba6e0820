"""What machines ask: whether the process lives, whether every part does, and the figures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from stocksync.web import create_app
from tests.logins import ELSEWHERE, KEYS, SETTINGS
from tests.servers import RedisServer
from tests.shop import NO_ANSWER, REFUSED, SELLER, Shop, open_shop

READER = {"Authorization": f"Bearer {KEYS['reader']}"}
STRANGER: dict[str, Any] = {"environ_base": ELSEWHERE, "base_url": "http://shop.example"}


@pytest.fixture
def shop(database_url: str, redis_url: str) -> Iterator[Shop]:
    with open_shop(database_url, **SETTINGS, REDIS_URL=redis_url) as opened:
        yield opened


@pytest.fixture
def page(shop: Shop) -> FlaskClient:
    return create_app(shop.runtime).test_client()


def parts(page: FlaskClient) -> tuple[int, dict[str, str]]:
    answer = page.get("/readyz", **STRANGER)
    assert answer.json
    assert answer.json["status"] == ("ok" if answer.status_code == 200 else "failing")
    return answer.status_code, {name: part["status"] for name, part in answer.json["parts"].items()}


def figures(page: FlaskClient) -> dict[str, float]:
    """Every sample by its name and labels."""
    answer = page.get("/metrics", headers=READER, **STRANGER)
    assert answer.status_code == 200, answer.text
    return {
        sample.name.removeprefix("stocksync_") + "".join(f" {value}" for value in sample.labels.values()): (
            sample.value
        )
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_every_part_is_said_to_be_well(
    page: FlaskClient, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert parts(page) == (
        503,
        {
            "database": "ok",
            "schema": "ok",
            "redis": "ok",
            "worker": "silent",
            "scheduler": "silent",
            "deliveries": "ok",
        },
    )

    monkeypatch.setattr(shop.runtime, "processes_alive", lambda: {"worker": True, "scheduler": True})

    assert parts(page)[0] == 200


def test_redis_away_is_said_and_no_host_is_named(page: FlaskClient, redis_server: RedisServer) -> None:
    redis_server.stop()

    code, said = parts(page)

    assert (code, said["redis"], said["worker"], said["database"]) == (
        503,
        "does not answer",
        "unknown",
        "ok",
    )
    assert str(redis_server.port) not in page.get("/readyz", **STRANGER).text
    assert page.get("/healthz", **STRANGER).status_code == 200


def test_an_order_that_nobody_takes_is_a_fault(page: FlaskClient, shop: Shop) -> None:
    shop.deduct()
    shop.clock.advance(599)
    assert parts(page)[1]["deliveries"] == "ok"

    shop.clock.advance(2)

    assert parts(page)[1]["deliveries"] == "not taken"


def test_in_an_outage_waiting_is_no_fault_of_ours(page: FlaskClient, shop: Shop) -> None:
    for number in range(6):
        shop.deduct(f"order-{number}")
    shop.remote.answer = lambda _: NO_ANSWER
    shop.drain()
    shop.clock.advance(3600)

    assert parts(page)[1]["deliveries"] == "ok"
    assert figures(page)["breaker_open"] == 1


@pytest.mark.pgbouncer
def test_the_figures_are_the_databases(page: FlaskClient, shop: Shop) -> None:
    shop.deduct("at-once")
    shop.clock.advance(3)
    shop.drain()
    shop.deduct("later")
    shop.remote.answer = lambda _: REFUSED
    shop.drain()
    shop.clock.advance(3600)
    shop.remote.answer = lambda _: NO_ANSWER
    shop.drain()
    shop.runtime.deliveries.pause(SELLER, "for a while")

    found = figures(page)

    assert found["operations_delivered_total true"] == 1
    assert found["operations_delivered_total false"] == 0
    assert found["requests_total failed"] == 1
    assert found["operations pending"] == 1
    assert found["operations completed"] == 1
    assert found["orders_waiting seller-1"] == 1
    assert found["lane_paused seller-1"] == 1
    assert (found["wait_seconds_bucket 1.0"], found["wait_seconds_bucket 5.0"]) == (0, 1)
    assert (found["wait_seconds_count"], found["wait_seconds_sum"]) == (1, 3)
    assert (
        found["request_seconds_count"]
        == found["requests_total delivered"]
        + found["requests_total failed"]
        + found["requests_total deferred"]
    )
    assert found["lost_orders"] == 0


def test_counters_never_fall(page: FlaskClient, shop: Shop) -> None:
    before: dict[str, float] = {}
    for number in range(4):
        shop.deduct(f"order-{number}")
        shop.drain()
        shop.clock.advance(86400 * 4)
        shop.runtime.tallies.fold(shop.clock())
        now = figures(page)
        counters = {name for name in now if re.search(r"_(total|bucket|count|sum)\b", name)}
        assert all(now[name] >= before.get(name, 0) for name in counters)
        before = now

    assert before["operations_delivered_total true"] == 4


def test_figures_are_for_those_with_a_key(page: FlaskClient) -> None:
    assert page.get("/metrics", **STRANGER).status_code == 401
    assert page.get("/metrics", headers=READER, **STRANGER).content_type.startswith("text/plain")


def test_figures_are_open_where_a_setting_says_so(sqlite_url: str) -> None:
    with open_shop(sqlite_url, **SETTINGS, STOCK_SYNC_METRICS_OPEN="true") as shop:
        assert create_app(shop.runtime).test_client().get("/metrics", **STRANGER).status_code == 200
