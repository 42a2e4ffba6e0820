"""Hostile texts in what the commands print for a person at a terminal."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stocksync.delivery.answers import Answer, Verdict
from tests.processes import run_command
from tests.shop import SELLER, open_shop

HOSTILE = "a\x1b[2J\x9b2J\u2028b\u202ec\r\x85d"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_no_text_moves_the_cursor_of_who_reads_a_list(database_url: str, tmp_path: Path) -> None:
    with open_shop(database_url) as shop:
        operation = shop.deduct(HOSTILE, sku=HOSTILE, line_item_id=HOSTILE)
        shop.remote.answer = lambda _: Answer(Verdict.INVALID, "Http422", HOSTILE, 422)
        shop.drain()
        shop.stock(**{HOSTILE: 3})
        shop.runtime.deliveries.pause(SELLER, HOSTILE)
    environment = {"DATABASE_URL": database_url, "PATH": os.environ["PATH"]}

    for words in (
        ("operations", "list", "--status", "failed"),
        ("operations", "show", str(operation)),
        ("orders", "show", HOSTILE, "--token", SELLER),
        ("stock", "show"),
        ("stock", "show", HOSTILE),
        ("lanes", "list"),
        ("operations", "show", HOSTILE),
        ("orders", "show", f"{HOSTILE}!", "--token", HOSTILE),
    ):
        said = run_command(words, tmp_path, environment)
        assert said.out or said.err, words
        for line in (said.out + said.err).split("\n"):
            assert line.isprintable(), (words, line)
