"""bin/audit: what it finds in packages, and in what pip says of them."""

from __future__ import annotations

import json
import re
from importlib.metadata import Distribution, PathDistribution
from pathlib import Path

import pytest

from bin.audit import LOCKS, ROOT, unfit_licences, unhashed, vulnerable, withdrawn


def package(folder: Path, *headers: str) -> Distribution:
    """An installed package with these lines in its metadata."""
    made = folder / "some-1.0.dist-info"
    made.mkdir()
    (made / "METADATA").write_text(
        "\n".join(["Metadata-Version: 2.4", "Name: some", "Version: 1.0", *headers, ""])
    )
    return PathDistribution(made)


@pytest.mark.parametrize(
    "header",
    [
        "License-Expression: MIT",
        "License-Expression: MIT AND (Apache-2.0 OR BSD-2-Clause)",
        "Classifier: License :: OSI Approved :: BSD License",
        "Classifier: License :: OSI Approved :: GNU Lesser General Public License v3 (LGPLv3)",
    ],
)
def test_a_licence_that_lets_us_be_used_is_no_fault(tmp_path: Path, header: str) -> None:
    assert list(unfit_licences([package(tmp_path, header)])) == []


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("License-Expression: AGPL-3.0-only", "AGPL-3.0-only"),
        ("License-Expression: MIT AND GPL-3.0-or-later", "GPL-3.0-or-later"),
        (
            "Classifier: License :: OSI Approved :: GNU General Public License v3 (GPLv3)",
            "GNU General Public License v3",
        ),
        ("Summary: nothing is said", "no licence said"),
    ],
)
def test_another_licence_is_named(tmp_path: Path, header: str, said: str) -> None:
    (fault,) = unfit_licences([package(tmp_path, header)])
    assert fault.startswith("some 1.0: licence ")
    assert said in fault


def test_a_version_that_was_withdrawn_is_named_with_its_reason() -> None:
    said = (
        "Collecting attrs==21.1.0\n"
        "WARNING: The candidate selected for download or install is a yanked version: 'attrs' candidate "
        "(version 21.1.0 at https://index/attrs-21.1.0.whl (from https://index/simple/attrs/))\n"
        "Reason for being yanked: broke everything\nWould install attrs-21.1.0\n"
    )
    assert list(withdrawn(said)) == ["attrs 21.1.0 was withdrawn from the index: broke everything"]
    assert list(withdrawn("Would install attrs-21.2.0")) == []


HASHED = (
    "one==1.0 ; python_version < '3.12' \\\n    --hash=sha256:ab \\\n    --hash=sha256:cd\n    # via two\n"
)


def test_every_line_of_our_locks_has_its_hash() -> None:
    for name in LOCKS:
        lock = (ROOT / name).read_text()
        assert list(unhashed(lock)) == []
        assert lock.count("==") > 20


@pytest.mark.parametrize(
    "line",
    ["two==1.0", "two>=1.0 --hash=sha256:ab", "two @ https://a.example/two.whl", "-r others.txt", "--pre"],
)
def test_a_line_without_hash_or_version_is_named(line: str) -> None:
    assert list(unhashed(HASHED)) == []
    assert list(unhashed(f"{HASHED}{line}\n")) == [line]


def test_a_known_vulnerability_is_named_and_what_was_not_asked_for_is_said() -> None:
    answer = {
        "dependencies": [
            {"name": "one", "version": "1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"]}]},
            {"name": "two", "version": "1.0", "vulns": []},
            {"name": "three", "skip_reason": "not found"},
        ]
    }
    assert vulnerable(json.dumps(answer)) == (["one 1.0: PYSEC-1, fixed in 1.1"], ["not found"])


@pytest.mark.parametrize("answer", ["", "no JSON", "{}"])
def test_no_answer_is_not_the_answer_that_all_is_well(answer: str) -> None:
    assert vulnerable(answer) == ([], ["pip-audit gave no answer"])


def test_every_exception_from_the_rules_for_weak_code_has_its_reason() -> None:
    folders = ("stocksync", "web", "jobs", "bin", "examples")
    found = [
        line
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if "# noqa: S" in line
    ]
    assert len(found) >= 5
    assert [line for line in found if not re.search(r"# noqa: S\d+ \(\w.+\)$", line)] == []
