"""The site: every page is in its navigation once, and what pages link to outside docs/ is there."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from bin.docs import PROJECT, make_stage, pages, place_of, staged


def places(navigation: object) -> Iterator[str]:
    """The pages that a part of the navigation names."""
    if isinstance(navigation, str):
        yield navigation
    elif isinstance(navigation, dict):
        for entry in navigation.values():
            yield from places(entry)
    elif isinstance(navigation, list):
        for entry in navigation:
            yield from places(entry)


def test_every_page_is_in_the_navigation_once() -> None:
    settings = tomllib.loads((PROJECT / "zensical.toml").read_text(encoding="utf-8"))
    named = list(places(settings["project"]["nav"]))
    there = {place_of(page) for page in pages()}

    assert len(named) == len(set(named))
    assert there - set(named) == set(), "zensical.toml lacks these pages"
    assert set(named) - there == set(), "zensical.toml names pages that are not there"


@pytest.mark.parametrize(
    ("page", "text", "on_the_site"),
    [
        ("docs/index.md", "[a](glossary.md#lane)", "[a](glossary.md#lane)"),
        ("docs/index.md", "[a](../README.md#why)", "[a](project/README.md#why)"),
        ("docs/guides/x.md", "[a](../../deploy/a.yml) b", "[a](../files/deploy/a.yml) b"),
        ("docs/guides/x.md", "see [the folder](../../deploy), and", "see the folder, and"),
        ("README.md", "![p](docs/p.png) [q](docs/glossary.md)", "![p](../p.png) [q](../glossary.md)"),
        ("README.md", "[a](#why) [b](https://example.com)", "[a](#why) [b](https://example.com)"),
    ],
)
def test_links_are_made_right_for_the_site(page: str, text: str, on_the_site: str, tmp_path: Path) -> None:
    (tmp_path / "deploy").mkdir()
    assert staged(page, text, tmp_path)[0] == on_the_site + "\n"


def test_what_a_page_links_to_lies_beside_it(tmp_path: Path) -> None:
    for name, text in {
        "README.md": "[the unit](deploy/a.service)",
        "deploy/a.service": "[Unit]",
        "deploy/b.service": "[Unit]",
        "docs/index.md": "![a](a.png)",
        "docs/a.png": "picture",
        "zensical.toml": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    make_stage(tmp_path, tmp_path / "stage")

    copied = {path.relative_to(tmp_path / "stage").as_posix() for path in (tmp_path / "stage").rglob("*.*")}
    assert copied == {
        "zensical.toml", "docs/index.md", "docs/a.png", "docs/project/README.md", "docs/files/deploy/a.service",
    }  # fmt: skip
    assert "../files/deploy/a.service" in (tmp_path / "stage/docs/project/README.md").read_text()
