"""What a Markdown file links to and what can be linked to in it, as a code host and the site see it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

_FENCE = re.compile(r" *(`{3,}|~{3,})")
_CODE = re.compile(r"(`+).+?\1")
_LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
_REFERENCE = re.compile(r"^ {0,3}\[[^\]]+\]:\s*<?([^\s>]+)")
_HTML = re.compile(r"<(?:a|img|source)\b[^>]*?\b(?:href|src|srcset)=\"([^\"]+)\"")
_HEADING = re.compile(r"#{1,6} +(.+?)\s*#*")
_HTML_ID = re.compile(r"<[a-z]+\b[^>]*?\b(?:id|name)=\"([^\"]+)\"")


@dataclass(frozen=True)
class Link:
    """One link: its target as written, the line (from 1), and where in the line the target stands."""

    target: str
    line: int
    start: int

    @property
    def is_relative(self) -> bool:
        """Whether it leads to a file of the project or a place in this file."""
        return not re.match(r"[a-z][a-z0-9+.-]*:|//", self.target, re.IGNORECASE)


def prose(text: str) -> Iterator[tuple[int, str]]:
    """The lines outside fenced blocks with their numbers; code in a line is blanked, so that columns stay."""
    fence = ""
    for number, line in enumerate(text.splitlines(), 1):
        found = _FENCE.match(line)
        if fence:
            if found and found[1].startswith(fence):
                fence = ""
        elif found:
            fence = found[1]
        else:
            yield number, _CODE.sub(lambda code: " " * len(code[0]), line)


def links(text: str) -> Iterator[Link]:
    """Every link and picture, in order."""
    for number, line in prose(text):
        for pattern in (_LINK, _REFERENCE, _HTML):
            yield from (Link(found[1], number, found.start(1)) for found in pattern.finditer(line))


def anchors(text: str) -> set[str]:
    """What may follow `#` in a link to this file: its headings' names, and ids written as HTML."""
    lines = text.splitlines()
    found: set[str] = set()
    for number, line in prose(text):
        found.update(_HTML_ID.findall(line))
        if heading := _HEADING.fullmatch(lines[number - 1].rstrip()):
            found.add(next(one for one in _numbered(slug(heading[1])) if one not in found))
    return found


def slug(heading: str) -> str:
    """A heading's name in links: lower case, no punctuation, a hyphen for each blank."""
    words = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")


def _numbered(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}-{number}" for number in count(1))
