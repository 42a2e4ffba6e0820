"""`python -m stocksync migrate`, `stock` and `cleanup`: the schema, counts and levels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command_line import HEADER, CommandLine, on_hand, on_sqlite, stocked
from tests.shop import SELLER, Shop, open_shop


@pytest.fixture
def at(tmp_path: Path, database_url: str) -> CommandLine:
    return CommandLine(tmp_path, database_url)


@pytest.fixture
def shop(database_url: str) -> Iterator[Shop]:
    with stocked(database_url) as opened:
        yield opened


# The schema


@pytest.mark.starts_empty
def test_migrate_makes_the_schema_and_finds_nothing_to_do_the_second_time(at: CommandLine) -> None:
    first, second = at.run("migrate"), at.run("migrate")

    assert first.code == 0
    assert first.out.startswith("applied 0001_initial\n")
    assert (second.code, second.out) == (0, "nothing to do\n")


@on_sqlite
@pytest.mark.starts_empty
def test_on_a_schema_that_is_behind_a_command_says_to_migrate(at: CommandLine) -> None:
    at.write("count.csv", HEADER + "A,Ирина,1\n")

    for command in ("check", "stock import count.csv", "orders process -", "deliver", "status", "audit"):
        said = at.run(command)
        assert said.code == 1
        assert "un `python -m stocksync migrate`" in said.out + said.err


# Stock


def test_a_count_is_imported(at: CommandLine, shop: Shop) -> None:
    at.write("count.csv", HEADER + "A,Ирина,7\nC,Ирина,0\n")

    said = at.run("stock import count.csv")

    assert (said.code, said.out) == (0, "2 SKUs counted, 7 units; 1 levels changed\n")
    assert on_hand(shop) == (7, 5)


def test_a_sku_is_shown_with_its_level_and_last_movements(at: CommandLine, shop: Shop) -> None:
    shop.runtime.inventory.set_on_hand({"A": 7}, "Ирина", actor="Oksana", reason="three were broken")

    said = at.run("stock show A")

    assert said.code == 0
    assert "1 levels, 7 units" in said.out
    assert "-3     7              count  Oksana  three were broken" in said.out


@on_sqlite
@pytest.mark.parametrize(
    ("options", "answer", "code", "after"), [("", "n", 1, 11), ("", "y", 0, 10), ("--yes --json", "", 0, 10)]
)
def test_a_rebuild_shows_what_differs_and_asks(
    at: CommandLine, shop: Shop, options: str, answer: str, code: int, after: int
) -> None:
    shop.runtime.database.execute_sql("UPDATE stock_sync_levels SET on_hand = 11 WHERE sku = 'A'")

    said = at.run(f"stock rebuild {options}", stdin=answer)

    assert (said.code, on_hand(shop)[0]) == (code, after)
    if options:
        assert said.document == {"differing": 1, "rebuilt": 1, "refused": []}
    else:
        assert "Ирина      A    11       10" in said.out
        assert "Set on hand of 1 level(s) to what has moved?" in said.err


@on_sqlite
def test_a_rebuild_refuses_less_than_nothing_in_words(at: CommandLine, shop: Shop) -> None:
    shop.runtime.database.execute_sql("UPDATE stock_sync_movements SET delta = -10 WHERE sku = 'A'")

    said = at.run("stock rebuild --yes")

    assert (said.code, on_hand(shop)[0]) == (1, 10)
    assert "A in warehouse Ирина: its movements come to less than nothing" in said.out


def test_a_clean_up_counts_first_and_then_takes_away(at: CommandLine, shop: Shop) -> None:
    with open_shop(at.environment["DATABASE_URL"]) as before:
        before.clock.now = before.clock.now.replace(year=2020)
        before.deduct()
        before.drain()

    said = [at.run(f"cleanup {option}") for option in ("--dry-run", "", "")]

    assert [line.code for line in said] == [0, 0, 0]
    assert [line.out.split("\n")[0] for line in said] == ["operations: 1", "operations: 1", "operations: 0"]
    assert shop.statuses() == []
    assert f"{SELLER}: 1 pruned, 1 orders, 1 deducted" in at.run("audit").out


@on_sqlite
def test_a_file_with_the_mark_and_line_ends_of_a_spreadsheet_is_read(at: CommandLine, shop: Shop) -> None:
    at.write("count.csv", "\ufeffquantity,sku,note,warehouse\r\n7,A,x,Ирина\r\n")

    assert at.run("stock import count.csv").code == 0
    assert shop.on_hand("A") == 7


NOT_A_COUNT = "quantity: a whole number from 0 is needed, got"
BAD_COUNTS = {
    "a missing column": ("sku,warehouse\nA,Ирина\n", "line 1: the header lacks quantity"),
    "an empty file": ("", "line 1: the header lacks quantity, sku, warehouse"),
    "a negative count": (f"{HEADER}A,Ирина,1\nC,Ирина,-1\n", f"line 3: {NOT_A_COUNT} '-1'"),
    "a count in words": (f"{HEADER}A,Ирина,1\nC,Ирина,two\n", f"line 3: {NOT_A_COUNT} 'two'"),
    "a short line": (f"{HEADER}A,Ирина,1\nC\n", "line 3: warehouse: a non-empty text is needed"),
    "a SKU twice": (f"{HEADER}A,Ирина,1\nA,Ирина,2\n", "line 3: sku A in warehouse Ирина appears more than once"),
    "a SKU too long": (f"{HEADER}A,Ирина,1\n{'x' * 201},Ирина,1\n", "line 3: sku: at most 200 characters, got 201"),
    "what is not UTF-8": (HEADER.encode() + b"A,W,1\nB,\xff,1\n", "the file is not UTF-8"),
}  # fmt: skip


@on_sqlite
@pytest.mark.parametrize(("content", "said"), BAD_COUNTS.values(), ids=BAD_COUNTS)
def test_a_bad_count_is_refused_with_line_and_reason_and_nothing_is_imported(
    at: CommandLine, shop: Shop, content: str | bytes, said: str
) -> None:
    at.write("count.csv", content)

    refused = at.run("stock import count.csv")

    assert refused.code == 1
    assert said in refused.out
    assert "nothing was imported" in refused.err
    assert on_hand(shop) == (10, 5)


@on_sqlite
def test_every_bad_line_of_a_count_is_named(at: CommandLine, shop: Shop) -> None:
    at.write("count.csv", HEADER + "A,Ирина,-1\nB,Ирина,3\nC,,3\n")

    assert [fault["line"] for fault in at.run("stock import count.csv --json").document["refused"]] == [2, 4]


BAD_LINES = {
    "not UTF-8": HEADER.encode() + b"A,\xff,1\n",
    "a comma inside the number": f"{HEADER}C,Ирина,1,500\n".encode(),
    "a comma inside the name": f"{HEADER}Lamp, red,Ирина,1\n".encode(),
    "more than a thousand million": f"{HEADER}C,Ирина,2000000000\n".encode(),
    "a field larger than the reader takes": HEADER.encode() + b"x" * 200_000 + b",W,1\n",
}


@on_sqlite
@pytest.mark.parametrize("content", BAD_LINES.values(), ids=BAD_LINES)
def test_whatever_is_wrong_with_a_count_has_its_line(at: CommandLine, shop: Shop, content: bytes) -> None:
    at.write("count.csv", content)

    assert "line 2: " in at.run("stock import count.csv").out


@on_sqlite
@pytest.mark.parametrize("command", ["stock import", "orders process"])
def test_a_file_that_can_not_be_read_is_said_in_words(at: CommandLine, shop: Shop, command: str) -> None:
    said = at.run(f"{command} /proc/self/mem")  # it opens, and its first byte is an I/O error

    assert said.code == 1
    assert said.err.startswith("error: ")
