"""docs/promises.md and docs/security.md: every promise is said once and names a test that exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NO_PROMISE = ("| promise | test |", "|---|---|")
ROW = re.compile(r"\| (\S.*?) \| `((?:tests|examples)/[\w/]+\.py)::(test_\w+)` \|")


@cache
def functions_of(path: str) -> set[str]:
    """The functions of a file, which is read and not imported; of none if it is not there."""
    file = ROOT / path
    body = ast.parse(file.read_text(encoding="utf-8")).body if file.is_file() else []
    return {node.name for node in body if isinstance(node, ast.FunctionDef)}


def faults(rows: list[str]) -> list[str]:
    said, wrong = set(), []
    for line in rows:
        row = ROW.fullmatch(line)
        if not row or row[1] in said or row[3] not in functions_of(row[2]):
            wrong.append(line)
        said.add(row and row[1])
    return wrong


@pytest.mark.parametrize(("page", "least"), [("promises.md", 150), ("security.md", 30)])
def test_every_promise_is_said_once_and_has_its_test(page: str, least: int) -> None:
    lines = (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("|") and line not in NO_PROMISE]
    assert faults(rows) == []
    assert len(rows) >= least


@pytest.mark.parametrize(
    "row", ["| A | `{}_not` |", "| A | `tests/no.py::test_it` |", "|  | `{}` |", "| A |  |", "| B | `{}` |"]
)
def test_a_fault_is_found(row: str) -> None:
    here = "tests/unit/test_promises.py::test_a_fault_is_found"
    assert len(faults([f"| B | `{here}` |", row.format(here)])) == 1
