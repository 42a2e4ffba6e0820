"""docs/concepts/states.md says the same as the code: where an operation may go, what is told, why an order waits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from stocksync.orders.recording import order_state
from stocksync.store.order_lines import Line
from stocksync.store.states import ORIGINS, STATUSES
from tests.layout import ROOT

SAID = {"`True`": True, "`False`": False, "nothing": None, "nothing yet": None}


@cache
def page() -> str:
    return (ROOT / "docs" / "concepts" / "states.md").read_text(encoding="utf-8")


def chapter(title: str) -> str:
    """The text under a heading, up to the next one."""
    return page().split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(title: str, heading: str) -> Iterator[list[str]]:
    """The cells of the table in a chapter whose first column has this heading."""
    table = chapter(title).split(f"| {heading} |")[1].split("\n\n")[0]
    for line in table.splitlines()[2:]:
        yield [cell.strip() for cell in line.strip("|").split("|")]


def drawn() -> set[tuple[str, str]]:
    """Every arrow of the drawing of an operation: from, to."""
    arrows, source = set(), ""
    for line in chapter("An operation").split("```")[1].splitlines():
        source = (re.match(r"[a-z]+", line) or [source])[0]
        if arrow := re.search(r"▶ ([a-z]+) ", line):
            arrows.add((source, arrow[1]))
    return arrows


def test_an_operation_is_drawn_going_where_the_code_lets_it_go() -> None:
    assert drawn() == {(source, target) for target, sources in ORIGINS.items() for source in sources}


def test_a_status_is_called_final_if_nothing_leads_out_of_it() -> None:
    final = set(re.findall(r"^([a-z]+) +final$", chapter("An operation"), re.MULTILINE))

    assert final == {
        status for status in STATUSES if not any(status in sources for sources in ORIGINS.values())
    }


def test_what_is_told_of_an_order_is_what_the_code_computes() -> None:
    computed, said = [], []
    for ordered, deducted, returned, waived, doubted, told, state in rows(
        "What should be told of an order", "ordered"
    ):
        line = Line(
            "line", "ALARM-CLOCK", "Ирина", int(ordered), int(deducted), int(returned),
            waived=waived == "yes", doubted=int(doubted == "yes"),
        )  # fmt: skip
        computed.append(order_state([line], ever_told_true=told == "yes"))
        said.append(SAID[state])

    assert len(said) >= 5
    assert said == computed


def test_an_order_without_stock_has_nothing_to_tell() -> None:
    assert "has no line with a SKU, there is nothing to tell" in chapter("What should be told of an order")
    assert order_state([Line("line", None, None, 2)], ever_told_true=True) is None


def test_every_reason_to_wait_is_explained() -> None:
    explained = [row[0].strip("`") for row in rows("The delivery of an order", "`waiting`")]
    schema = (ROOT / "stocksync" / "store" / "migrations" / "0001_initial.py").read_text(encoding="utf-8")
    allowed = re.findall(r"CHECK \(waiting IN \((.*?)\)\)", schema, re.DOTALL)[-1]

    assert sorted(explained) == sorted(re.findall(r"'(\w+)'", allowed))
