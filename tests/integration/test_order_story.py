"""The story of an order: plain sentences, the oldest first, in the reader's language, to be copied into an e-mail."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress

import pytest
from flask.testing import FlaskClient
from markupsafe import Markup

from stocksync.delivery.answers import Answer, Verdict
from stocksync.errors import InDoubt
from stocksync.orders.inventory import InventoryManagerWithSync
from stocksync.web import create_app, words
from tests.page_shop import Elsewhere
from tests.shop import DELIVERED, NO_ANSWER, REFUSED, SELLER, WAREHOUSE, Shop, form, open_shop

TIME = re.compile(r"\d\d\.\d\d\.\d{4} \d\d:\d\d UTC")


@pytest.fixture
def shop(database_url: str) -> Iterator[Shop]:
    with open_shop(database_url) as opened:
        opened.stock(A=50, B=50)
        yield opened


@pytest.fixture
def page(shop: Shop) -> FlaskClient:
    return create_app(shop.runtime).test_client()


def told(page: FlaskClient, order: str, language: str = "en") -> list[str]:
    """The sentences, with every time as `…`."""
    text = page.get(f"/orders/{SELLER}/{order}?language={language}").text
    start = text.index('id="story"')
    items = re.findall(r"<(?:li|p)>(.*?)</(?:li|p)>", text[start : text.index("</section>", start)], re.S)
    return [TIME.sub("…", " ".join(Markup(item).striptags().split())) for item in items]


def test_it_begins_with_the_sale_and_ends_with_what_both_sides_say(page: FlaskClient, shop: Shop) -> None:
    shop.orders.process_order_stock_update(form("o", {"l1": ("A", 2), "l2": ("B", 1)}), WAREHOUSE)
    shop.drain()
    shop.clock.advance(60)
    shop.service.sync_stock_refund(SELLER, "o", "A", 1, line_item_id="l1")
    shop.drain()

    assert told(page, "o") == [
        f"Order o of seller {SELLER}, first seen on …. Its status at Allegro: ready to be sent.",
        "Taken out of stock on …: 2 × A (Ирина), 1 × B (Ирина).",
        "The orders service was told on … that the stock is deducted.",
        "Returned to stock on …: 1 × A (Ирина).",
        "The orders service was told on … that the stock is deducted.",
        "Today we say “stock deducted”, and the orders service says “stock deducted”.",
    ]


def test_attempts_that_came_to_the_same_are_one_sentence(page: FlaskClient, shop: Shop) -> None:
    shop.remote.answer = lambda _: REFUSED
    (operation,) = shop.orders.process_order_stock_update(form("o"), WAREHOUSE).operations
    for _ in range(6):
        shop.drain()
        shop.clock.advance(3700)
    shop.remote.answer = lambda _: DELIVERED
    shop.service.retry(operation, actor="anna", reason="they mended it")
    shop.drain()

    assert told(page, "o")[2:-1] == [
        "The orders service refused on …. Tried 5 times, first on …. Its answer: “not today”.",
        "Given up on …; a person has to look.",
        "Sent again by hand on …. By anna. Reason: they mended it.",
        "The orders service was told on … that the stock is deducted.",
    ]


def test_a_fault_is_said_in_words_and_its_code_is_not_in_the_text(page: FlaskClient, shop: Shop) -> None:
    shop.remote.answer = lambda _: Answer(Verdict.INVALID, "Http422", "archived", 422)
    shop.deduct("o")
    shop.drain()

    assert told(page, "o")[2] == (
        "The orders service refused on …. Why: does not take these data, refused for good. Its answer: “archived”."
    )
    page_text = page.get("/operations").text
    assert 'title="Http422"' in page_text
    assert ">Http422" not in page_text


def test_an_outage_and_a_cancellation(page: FlaskClient, shop: Shop) -> None:
    shop.remote.answer = lambda _: NO_ANSWER
    (operation,) = shop.orders.process_order_stock_update(form("o"), WAREHOUSE).operations
    shop.drain()
    shop.service.cancel(operation, actor="not logged in", reason="never left", put_back=True)

    sentences = told(page, "o")

    assert sentences[2].startswith("No usable answer from the orders service on …. Why: no answer in time.")
    assert sentences[3] == (
        "Cancelled on …; the units are back in stock: 1 × A (Ирина)."
        " By an operator at the page, not logged in. Reason: never left."
    )


def test_a_warehouse_program_that_did_not_answer(page: FlaskClient, shop: Shop) -> None:
    with suppress(InDoubt):
        InventoryManagerWithSync(Elsewhere(), shop.service).remove_as_sale_with_sync(
            "A", WAREHOUSE, 1, "o", SELLER
        )
    asked = "The warehouse program was asked on … to move: 1 × A (Ирина)."
    assert told(page, "o")[1:-1] == [f"{asked} Whether it did is not known yet."]

    operation = shop.runtime.queries.order(SELLER, "o")["operations"][0]["id"]
    shop.service.confirm(operation, True, actor="anna")

    assert told(page, "o")[1:-1] == [
        asked,
        "Confirmed on … that the stock was moved: 1 × A (Ирина). By anna.",
    ]


@pytest.mark.parametrize(
    ("language", "sentence"),
    [
        ("ru", "Списано со склада …: 1 × A (Ирина)."),
        ("pl", "Zdjęto ze stanu …: 1 × A (Ирина)."),
    ],
)
def test_it_is_told_in_the_readers_language(
    page: FlaskClient, shop: Shop, language: str, sentence: str
) -> None:
    shop.orders.process_order_stock_update(form("o"), WAREHOUSE)

    assert told(page, "o", language)[1] == sentence


def test_hostile_texts_stay_texts(page: FlaskClient, shop: Shop) -> None:
    shop.remote.answer = lambda _: Answer(Verdict.INVALID, "Http422", "<script>%(when)s {{ 1 }}", 422)
    shop.service.sync_stock_deduction(SELLER, "o", "<b>%s", 1)
    shop.drain()

    text = page.get(f"/orders/{SELLER}/o").text

    assert "<script>%" not in text
    assert "<b>%s" not in text
    assert "&lt;b&gt;%s" in text


def test_every_sentence_of_the_table_belongs_to_something_that_is_logged() -> None:
    assert {sentence.partition(" ")[0] for sentence in words.WORDS["STORY"]} <= set(words.WORDS["ACTION"])
