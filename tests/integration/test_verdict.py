"""The overview's verdict: what is wrong stands in it, and what is not does not."""

from __future__ import annotations

from datetime import timedelta

from flask.testing import FlaskClient

from tests.shop import Shop


def test_an_alert_that_lasts_stands_first_and_on_the_overview(page: FlaskClient, shop: Shop) -> None:
    alerts, now = shop.runtime.alerts, shop.clock.now
    alerts.observe([("audit", "", {"checks": "tally_differs"})], ["audit"], now, now)
    for number in range(1, 60):
        then = now + timedelta(minutes=number)
        alerts.observe([("stale", "", {"count": 1, "hours": 6})], ["stale"], then, then)
        alerts.observe([], ["stale"], then + timedelta(seconds=1), then)

    found = alerts.find()

    assert [alert["kind"] for alert in found[:2]] == ["audit", "stale"]
    assert "The books do not balance" in page.get("/").text.partition("<h1>")[2].partition("</section>")[0]


def test_a_key_that_the_orders_service_refuses_is_said_on_the_overview(page: FlaskClient, shop: Shop) -> None:
    shop.deduct()
    shop.runtime.breaker.failed("credentials")
    assert "refuses our key" in page.get("/").text.partition("<h1>")[2].partition("</h1>")[0]
