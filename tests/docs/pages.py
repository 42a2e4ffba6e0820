"""The blocks of a page: what is run, what is written to a file, what is printed, and what is only shown."""

from __future__ import annotations

import configparser
import json
import re
import textwrap
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]

RUN = ("sh", "python")
MISNAMED = {
    "": "text",
    "bash": "sh",
    "shell": "sh",
    "console": "sh",
    "zsh": "sh",
    "py": "python",
    "pycon": "python",
}
"""What a block must not be called, and what it is to be called instead."""

_FENCE = re.compile(r"(?P<indent> *)(?P<ticks>`{3,}|~{3,})(?P<language>[^\s`]*)[^`]*")
_COMMENT = re.compile(r"\s*<!--\s*(?P<word>file|prints|skip|database|folder)\b:?\s*(?P<value>.*?)\s*-->\s*")
_ABOUT_THE_PAGE = {"database": ("sqlite", "postgresql"), "folder": ("empty", "checkout")}


class PageError(Exception):
    """The page breaks the convention. The message has the page and the line."""


@dataclass(frozen=True)
class Block:
    """One fenced block. `line` is where its first line of text stands in the page."""

    language: str
    text: str
    line: int
    file: str | None = None
    skip: str | None = None
    prints: str | None = None
    """What must be printed; None: anything."""

    @property
    def is_run(self) -> bool:
        """Whether the block itself is run, and not only shown or saved."""
        return self.language in RUN and self.file is None and self.skip is None


@dataclass(frozen=True)
class Page:
    """A Markdown file of the project: its name, its blocks in order, and what it is run with."""

    name: str
    blocks: tuple[Block, ...]
    database: str = "sqlite"
    folder: str = "empty"


def read_page(name: str, text: str) -> Page:
    """The page `name` with this text. Raises PageError where it breaks the convention."""
    about = {"database": "sqlite", "folder": "empty"}
    blocks: list[Block] = []
    pending: dict[str, str] = {}
    lines = enumerate(text.splitlines(), 1)
    for number, line in lines:
        if comment := _COMMENT.fullmatch(line):
            word, value = comment["word"], comment["value"]
            if word not in _ABOUT_THE_PAGE:
                pending[word] = value
            elif value in _ABOUT_THE_PAGE[word]:
                about[word] = value
            else:
                raise PageError(f"{name}:{number}: {word} is one of {', '.join(_ABOUT_THE_PAGE[word])}")
        elif fence := _FENCE.fullmatch(line):
            block = Block(fence["language"], _read_fenced(fence, lines, f"{name}:{number}"), number + 1)
            _add(blocks, block, pending, f"{name}:{number}")
            pending = {}
        elif line.strip() and pending:
            raise PageError(f"{name}:{number}: a block must follow the comment {', '.join(pending)}")
    if pending:
        raise PageError(f"{name}: a block must follow the comment {', '.join(pending)}")
    return Page(name, tuple(blocks), **about)


def _read_fenced(fence: re.Match[str], lines: Iterable[tuple[int, str]], place: str) -> str:
    """The text up to the closing fence, without the indent of a list."""
    inside: list[str] = []
    for _, line in lines:
        if line.strip().startswith(fence["ticks"]) and not line.strip().strip(fence["ticks"][0]):
            return textwrap.dedent("\n".join(inside)) + "\n"
        inside.append(line)
    raise PageError(f"{place}: the block is not closed")


def _add(blocks: list[Block], block: Block, comments: Mapping[str, str], place: str) -> None:
    if meant := MISNAMED.get(block.language):
        raise PageError(f"{place}: the block is named {block.language or 'nothing'!r}; write {meant}")
    if "prints" in comments:
        if block.language != "text" or not blocks or not blocks[-1].is_run:
            raise PageError(f"{place}: `prints` stands before a text block right after a block that is run")
        blocks[-1] = replace(blocks[-1], prints=block.text)
    if comments.get("skip") == "":
        raise PageError(f"{place}: `skip` needs a reason")
    blocks.append(replace(block, file=comments.get("file"), skip=comments.get("skip")))


def matches(expected: str, printed: str) -> bool:
    """Whether `printed` is what is expected: `…` in a line is any text, as a line of its own any lines."""
    pattern = ""
    for line in expected.strip("\n").splitlines():
        if line.strip() == "…":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += ".*".join(re.escape(part) for part in line.rstrip().split("…")) + r"[ \t]*\n"
    return re.fullmatch(pattern, printed.strip("\n") + "\n") is not None


def _read_ini(text: str) -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None, allow_no_value=True)
    parser.read_string(text if text.lstrip().startswith(("[", "#", ";")) else f"[top]\n{text}")


READERS: Mapping[str, Callable[[str], object]] = {
    "yaml": lambda text: list(yaml.safe_load_all(text)),
    "toml": tomllib.loads,
    "json": json.loads,
    "ini": _read_ini,
}
"""How a block that is a file is read, by its language."""


def unreadable(page: Page) -> Iterator[str]:
    """A sentence for each block that no program could read as what it is named."""
    for block in page.blocks:
        if (reader := READERS.get(block.language)) and block.skip is None:
            try:
                reader(block.text)
            except (ValueError, yaml.YAMLError, configparser.Error) as error:
                yield f"{page.name}:{block.line}: no {block.language}: {error}"


def markdown_files(root: Path = ROOT) -> list[str]:
    """The pages that readers see: README in each language, the other files at the root, all of docs/."""
    return sorted(
        path.relative_to(root).as_posix() for path in (*root.glob("*.md"), *(root / "docs").rglob("*.md"))
    )
