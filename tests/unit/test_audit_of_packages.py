"""bin/audit: what it finds in packages, and in what pip says of them."""

from __future__ import annotations

from importlib.metadata import Distribution, PathDistribution
from pathlib import Path

import pytest

from bin.audit import unfit_licences, withdrawn


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
