"""Every relative link of every Markdown file leads to a file that is there, and to a heading that is in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bin.docs import PROJECT, pages, target_of
from bin.markdown import anchors, links

MORE = ("benchmarks", "deploy", "examples", ".github")
"""Folders whose Markdown files are read on a code host alone."""


def markdown_files() -> list[str]:
    others = (path for folder in MORE for path in (PROJECT / folder).rglob("*.md"))
    return [*pages(), *sorted(path.relative_to(PROJECT).as_posix() for path in others)]


def broken(page: str, text: str, project: Path = PROJECT) -> Iterator[str]:
    """A sentence for each link of the page that leads nowhere."""
    for link in links(text):
        if not link.is_relative:
            continue
        file, anchor = target_of(page, link)
        place = f"{page}:{link.line}: {link.target}"
        if file.startswith(("..", "/")):
            yield f"{place}: leaves the project"
        elif file != page and not _is_there(project, file):
            yield f"{place}: there is no file {file}"
        elif anchor and file.endswith(".md"):
            content = text if file == page else (project / file).read_text(encoding="utf-8")
            if anchor[1:] not in anchors(content):
                yield f"{place}: {file} has no heading {anchor}"


def _is_there(project: Path, file: str) -> bool:
    """Letter by letter: on some machines `readme.md` finds README.md."""
    path = project / file
    return path.exists() and (path == project or path.name in {one.name for one in path.parent.iterdir()})


@pytest.mark.parametrize("page", markdown_files())
def test_every_link_leads_somewhere(page: str) -> None:
    assert list(broken(page, (PROJECT / page).read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[a](no.md)", "page.md:1: no.md: there is no file docs/no.md"),
        ("# A\n\n![a](no.png)", "page.md:3: no.png"),
        ("[a](#none)\n# Some", "no heading #none"),
        ("[a](other.md#none)", "docs/other.md has no heading #none"),
        ("[a](Other.md)", "there is no file docs/Other.md"),
        ("[a](../../away.md)", "leaves the project"),
        ("[a][one]\n\n[one]: no.md", "no.md"),
        ('<img src="no.png" alt="">', "no.png"),
    ],
)
def test_a_broken_link_is_found(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "other.md").write_text("# Here\n")
    faults = list(broken("docs/page.md", text, tmp_path))
    assert len(faults) == 1
    assert said in faults[0]


@pytest.mark.parametrize(
    "text",
    [
        "[a](other.md#here-it-is) [b](other.md) [c](#цены-и-склад)\n\n## Цены и склад",
        "[a](https://example.com/no) [b](mailto:a@example.com)",
        "`[a](no.md)`\n\n```text\n[a](no.md)\n```",
        "[a](#the-config-file)\n## The `config` *file*",
        "[a](#get-ab_c)\n## `GET /a/{b_c}`",
        "[a](#twice-1)\n## Twice\n## Twice",
        '<a id="there"></a> [a](#there)',
        "[a](../docs)",
    ],
)
def test_a_right_link_is_let_be(text: str, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "other.md").write_text("# Here it is!\n", encoding="utf-8")
    assert list(broken("docs/page.md", text, tmp_path)) == []
