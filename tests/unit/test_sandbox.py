"""The sandbox keeps the contract of the orders microservice, and breaks it as asked, over a real socket."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests

from stocksync.sandbox import Sandbox
from tests.remote_orders import set_orders
from tests.sandbox_client import NOON, Client, assert_refused

NOON_TEXT = "2024-05-01T12:00:00.000000Z"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    # The clock stands still: whatever the sandbox promises must hold without its help.
    with Sandbox("abc", clock=lambda: NOON) as running:
        yield running


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[Client]:
    made = Client(sandbox)
    with made.session:
        yield made


# The contract


def test_an_update_is_answered_with_success_and_kept(sandbox: Sandbox, client: Client) -> None:
    answer = client.tell("A", True, key="t1:A:1")

    assert (answer.status_code, answer.json()) == (200, {"success": True, "error": None})
    assert sandbox.orders() == [
        {
            "token_id": "t1",
            "order_id": "A",
            "is_stock_updated": True,
            "updated_at": NOON_TEXT,
            "history": [True],
        }
    ]


def test_a_late_repeat_of_a_key_is_answered_again_and_does_not_undo_a_newer_state(
    sandbox: Sandbox, client: Client
) -> None:
    first = client.tell("A", True, key="t1:A:1")
    client.tell("A", False, key="t1:A:2")

    assert client.tell("A", True, key="t1:A:1").json() == first.json()
    assert sandbox.orders()[0]["history"] == [True, False]
    assert (sandbox.stats()["applied"], sandbox.stats()["repeated"]) == (2, 1)


def test_the_same_key_with_other_content_is_refused(sandbox: Sandbox, client: Client) -> None:
    client.tell("A", True, key="t1:A:1")

    assert_refused(client.tell("A", False, key="t1:A:1"), 422, "Idempotency-Key")
    assert sandbox.orders()[0]["is_stock_updated"] is True


def test_without_a_key_every_update_is_applied(sandbox: Sandbox, client: Client) -> None:
    client.tell("A", True)
    client.tell("A", True)

    assert sandbox.orders()[0]["history"] == [True, True]


def test_the_same_order_id_of_two_sellers_is_two_orders(sandbox: Sandbox, client: Client) -> None:
    client.tell("A", True, token_id="t1")
    client.tell("A", False, token_id="t2")

    assert {(row["token_id"], row["is_stock_updated"]) for row in sandbox.orders()} == {
        ("t1", True),
        ("t2", False),
    }


def test_an_order_id_may_hold_any_character(sandbox: Sandbox, client: Client) -> None:
    client.tell("a%2Fb%20%D0%B6")

    assert sandbox.orders()[0]["order_id"] == "a/b ж"


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"{", "JSON"),
        (b"", "JSON"),
        (b"[]", "object"),
        (b'{"token_id": "", "is_stock_updated": true}', "token_id"),
        (b'{"token_id": "t1", "is_stock_updated": 1}', "is_stock_updated"),
    ],
)
def test_a_body_that_is_not_the_contracts_is_refused(client: Client, body: bytes, word: str) -> None:
    assert_refused(client.put("/orders/A/stock-status", body), 400, word)


def test_a_path_outside_the_contract_is_not_answered_in_its_words(client: Client) -> None:
    answer = client.get("/v1/orders/A")

    assert answer.status_code == 404
    assert answer.headers["Content-Type"].startswith("text/html")


def test_one_order_can_be_read_by_its_seller_only(client: Client) -> None:
    client.tell("A", True)

    answer = client.get("/orders/A", params={"token_id": "t1"})

    assert answer.json() == {"id": "A", "is_stock_updated": True, "updated_at": NOON_TEXT}
    assert_refused(client.get("/orders/A", params={"token_id": "t2"}), 404)


def test_a_missing_or_wrong_bearer_is_refused_and_nothing_is_applied(
    sandbox: Sandbox, client: Client
) -> None:
    client.session.headers["Authorization"] = "Bearer abd"
    assert_refused(client.tell("A"), 401, "bearer")
    assert_refused(requests.get(f"{sandbox.url}/orders?token_id=t1", timeout=2), 401, "bearer")
    assert sandbox.orders() == []


def test_health_is_answered_without_a_bearer(sandbox: Sandbox) -> None:
    answer = requests.get(f"{sandbox.url}/health", timeout=2)

    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_orders_are_listed_in_pages_without_gap_or_repeat(client: Client) -> None:
    names = [f"order+ж {number}" for number in range(6)]
    for name in names:
        client.tell(name)

    seen, cursor, pages = [], "", 0
    while pages == 0 or cursor:
        page = client.listed(limit=3, cursor=cursor)
        seen += [order["id"] for order in page["orders"]]
        cursor, pages = page["next_cursor"], pages + 1

    assert (seen, pages) == (names, 2)


def test_an_order_changed_while_it_is_listed_is_not_skipped_though_the_clock_stands_still(
    client: Client,
) -> None:
    for name in ("B", "C", "A"):
        client.tell(name, True)
    first = client.listed(limit=2)
    client.tell("B", False)

    second = client.listed(cursor=first["next_cursor"])

    assert [(order["id"], order["is_stock_updated"]) for order in second["orders"]] == [
        ("A", True),
        ("B", False),
    ]


def test_orders_dated_alike_are_listed_by_id(sandbox: Sandbox, client: Client) -> None:
    same = {"token_id": "t1", "is_stock_updated": True, "updated_at": "2024-04-01T02:00:00+02:00"}
    set_orders(sandbox, [{**same, "order_id": name} for name in "CAB"])

    first = client.listed(limit=2)
    second = client.listed(cursor=first["next_cursor"])

    assert [order["id"] for order in first["orders"] + second["orders"]] == ["A", "B", "C"]


def test_updated_since_keeps_what_changed_then_or_later(client: Client) -> None:
    for name in ("A", "B", "C"):
        client.tell(name)
    since = client.listed()["orders"][1]["updated_at"]

    assert [order["id"] for order in client.listed(updated_since=since)["orders"]] == ["B", "C"]


def test_a_list_holds_100_orders_unless_asked_otherwise(sandbox: Sandbox, client: Client) -> None:
    set_orders(
        sandbox, [{"token_id": "t1", "order_id": str(n), "is_stock_updated": True} for n in range(600)]
    )

    assert len(client.listed()["orders"]) == 100
    assert len(client.listed(limit=500)["orders"]) == 500


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ({}, "token_id"),
        ({"token_id": "t1", "limit": "501"}, "limit"),
        ({"token_id": "t1", "updated_since": "2024-05-01T12:00:00"}, "updated_since"),
    ],
)
def test_a_list_asked_for_wrongly_is_refused(client: Client, query: dict[str, str], word: str) -> None:
    assert_refused(client.get("/orders", params=query), 400, word)


def test_orders_set_by_somebody_else_are_not_counted_as_told_and_can_be_removed(
    sandbox: Sandbox, client: Client
) -> None:
    client.tell("A", True, key="t1:A:1")
    set_orders(
        sandbox,
        [
            {"token_id": "t1", "order_id": "A", "removed": True},
            {"token_id": "t1", "order_id": "B", "is_stock_updated": True},
        ],
    )

    assert [order["id"] for order in client.listed()["orders"]] == ["B"]
    assert sandbox.orders()[0]["history"] == []
    client.tell("A", True, key="t1:A:1")
    assert sandbox.orders()[1]["history"] == [True], "the key of a removed order is void"
