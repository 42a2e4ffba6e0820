"""Every regular expression of the product is quick on hostile texts: none takes more than a text's length allows."""

from __future__ import annotations

import ast
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LENGTH = 20_000
SECONDS = 0.5
"""A hundred times what a linear search of LENGTH takes; a quadratic one takes longer."""
CALLS = {"compile", "match", "fullmatch", "search", "sub", "split", "findall", "finditer"}
HELPERS = {"_written_as"}
OF_OURS = {
    r"([A-Za-z0-9_-]+):\s*(\S.*)": "a line of the Procfile",
    r"(\w+) [^,]+": "the columns of a statement",
    r"(\w+)>": "the path of a call",
}
"""Patterns that see texts of ours alone, which are short."""


def patterns() -> Iterator[tuple[str, str]]:
    """Where each constant pattern stands, and the pattern."""
    for room in ("stocksync", "web", "jobs"):
        for path in sorted((ROOT / room).rglob("*.py")):
            if path.is_relative_to(ROOT / "stocksync" / "web"):
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                    of = node.func
                    ours = isinstance(of, ast.Name) and of.id in HELPERS
                    named = (
                        isinstance(of, ast.Attribute) and of.attr in CALLS and ast.unparse(of.value) == "re"
                    )
                    if (ours or named) and isinstance(node.args[0].value, str):
                        yield f"{path.relative_to(ROOT)}:{node.lineno}", node.args[0].value


def hostile_texts() -> Iterator[str]:
    """Long runs of what patterns repeat, with an end that fits none."""
    for part in (
        "a",
        "0",
        " ",
        "-",
        ":",
        ",",
        "<",
        "\n",
        "é",
        "a ",
        "0-",
        "a:",
        "1.",
        "a,",
        "(",
        "\\",
        "=a",
        "2026-",
    ):
        yield part * (LENGTH // len(part)) + "\x00"


def slowest(pattern: str) -> float:
    compiled, most = re.compile(pattern), 0.0
    for text in hostile_texts():
        began = time.process_time()
        for ask in (compiled.match, compiled.fullmatch, compiled.search):
            ask(text)
        most = max(most, time.process_time() - began)
    return most


FOUND = {where: pattern for where, pattern in patterns() if pattern not in OF_OURS}


def test_the_patterns_are_found() -> None:
    assert len(FOUND) >= 15
    assert OF_OURS.keys() <= {pattern for _, pattern in patterns()}


@pytest.mark.parametrize("where", FOUND)
def test_a_pattern_is_quick_on_hostile_texts(where: str) -> None:
    assert slowest(FOUND[where]) < SECONDS, FOUND[where]


def test_a_slow_pattern_is_noticed() -> None:
    assert slowest(r"\s+$") > SECONDS
