"""The house is as docs/architecture.md draws it, and small enough to be read: files at the root, floors, lengths."""

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache

import pytest

from tests.layout import LAYERS, PROCESSES, ROOT, floors_of, project

LONGEST_MODULE, LONGEST_FUNCTION = 300, 50
"""Lines."""


def too_long(name: str, text: str) -> Iterator[str]:
    """The module and the functions in it that have too many lines."""
    if (lines := text.count("\n")) > LONGEST_MODULE:
        yield f"{name}: {lines} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = (node.end_lineno or 0) - node.lineno + 1
            if lines > LONGEST_FUNCTION:
                yield f"{name}: {node.name} has {lines} lines"


@cache
def drawing() -> str:
    """The drawing of the rooms, from the top to the bottom."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    return text[text.index("## The rooms") :].split("```")[1]


def test_no_module_and_no_function_is_long() -> None:
    names = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()

    assert len(names) > 100
    assert [
        said for name in names for said in too_long(name, (ROOT / name).read_text(encoding="utf-8"))
    ] == []


@pytest.mark.parametrize("text", ["x = 1\n" * 301, "def f():\n" + "    x = 1\n" * 51])
def test_what_is_too_long_is_found(text: str) -> None:
    assert len(list(too_long("module", text))) == 1


def test_few_files_lie_at_the_root() -> None:
    assert len(list((ROOT / "stocksync").glob("*.py"))) <= 8


def test_imports_stand_few_floors_deep() -> None:
    assert 5 < floors_of(project()) <= 10


def test_the_drawing_has_every_room_in_its_place() -> None:
    places = []
    for layer in LAYERS:
        rooms = [room for room in layer if room not in ("stocksync", "stocksync.__main__", *PROCESSES)]
        names = [room.removeprefix("stocksync.") for room in rooms]
        found = [re.search(rf"(?<![\w/]){name}(?![\w])", drawing()) for name in names]
        assert all(found), f"the drawing lacks one of {names}"
        places.append(min(match.start() for match in found if match))

    assert places == sorted(places)
