"""Builds the site from docs/ and the pages at the root, or serves it to authors; see `bin/docs --help`.

The pages are written for a code host: links leave docs/ and lead to files of the project. The site is built from a
copy, in which the pages at the root are pages too and the linked files lie beside them.
"""

from __future__ import annotations

import argparse
import contextlib
import posixpath
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import unquote

from bin.markdown import Link, links

PROJECT = Path(__file__).parents[1]
STAGE = PROJECT / "build" / "docs"
"""The copy; the finished site is in `site` beside it."""


def pages(project: Path = PROJECT) -> list[str]:
    """Every page for readers, by its path in the project."""
    found = (*project.glob("*.md"), *(project / "docs").rglob("*.md"))
    return sorted(path.relative_to(project).as_posix() for path in found)


def place_of(path: str) -> str:
    """Where a file of the project is on the site."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"project/{path}" if path.endswith(".md") and "/" not in path else f"files/{path}"


def target_of(page: str, link: Link) -> tuple[str, str]:
    """The file of the project that a relative link of `page` leads to, and the place in it with its `#`, or nothing."""
    path, hash_sign, anchor = link.target.partition("#")
    file = posixpath.normpath(posixpath.join(posixpath.dirname(page), unquote(path))) if path else page
    return file, hash_sign + anchor


def staged(page: str, text: str, project: Path = PROJECT) -> tuple[str, set[str]]:
    """The page as the site has it, and the files that it links to. A link to a folder becomes plain text."""
    lines, linked = text.splitlines(), set()
    for link in sorted(links(text), key=lambda one: (one.line, -one.start)):
        if not link.is_relative:
            continue
        file, anchor = target_of(page, link)
        line = lines[link.line - 1]
        before, after = line[: link.start], line[link.start + len(link.target) :]
        if (project / file).is_dir():
            lines[link.line - 1] = re.sub(r"\[([^\[\]]*)\]\($", r"\1", before) + after.removeprefix(")")
            continue
        if link.target[0] != "#":
            start = posixpath.dirname(place_of(page)) or "."
            lines[link.line - 1] = before + posixpath.relpath(place_of(file), start) + anchor + after
        linked.add(file)
    return "\n".join(lines) + "\n", linked


def make_stage(project: Path = PROJECT, stage: Path = STAGE) -> None:
    """Copy what the site is built from to `stage`. Files that did not change keep their time, so `serve` sees little."""
    wanted = {place_of(page): project / page for page in pages(project)}
    texts: dict[str, bytes] = {}
    linked: set[str] = set()
    for page in pages(project):
        text, files = staged(page, (project / page).read_text(encoding="utf-8"), project)
        texts[place_of(page)] = text.encode()
        linked |= files
    linked |= {
        path.relative_to(project).as_posix() for path in (project / "docs").rglob("*") if path.is_file()
    }
    wanted |= {place_of(file): project / file for file in linked if (project / file).is_file()}
    source = stage / "docs"
    for old in [path for path in source.rglob("*") if path.is_file()]:
        if old.relative_to(source).as_posix() not in wanted:
            old.unlink()
    for place, file in wanted.items():
        _write(source / place, texts[place] if place in texts else file.read_bytes())
    _write(stage / "zensical.toml", (project / "zensical.toml").read_bytes())


def _write(copy: Path, content: bytes) -> None:
    if not copy.is_file() or copy.read_bytes() != content:
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(content)


def build() -> int:
    """Build the site, warnings being errors; answers with the exit code."""
    shutil.rmtree(STAGE, ignore_errors=True)
    STAGE.mkdir(parents=True)
    make_stage()
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    done = subprocess.run(command, cwd=STAGE, check=False, capture_output=True, text=True)
    if done.returncode:
        said = re.sub(r"\x1b\[[\d;]*m", "", done.stdout + done.stderr)
        # Of each warning what it is and where; the drawing of the line is left out.
        warnings = re.findall(r"Warning: (.+)\n.*?\[ (\S+) \]", said)
        print("\n".join(f"docs: {place}: {what}" for what, place in warnings) or said, file=sys.stderr)
        print("docs: a warning is an error here", file=sys.stderr)
        return 1
    print(f"docs: the site is in {(STAGE / 'site').relative_to(PROJECT)}")
    return 0


def serve(address: str) -> int:
    """Serve the site and follow changes, until Ctrl-C."""
    STAGE.mkdir(parents=True, exist_ok=True)
    make_stage()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    command = [sys.executable, "-m", "zensical", "serve", "--dev-addr", address]
    server = subprocess.Popen(command, cwd=STAGE)
    try:
        while server.poll() is None:
            time.sleep(0.5)
            # A file that an editor is just replacing is there the next time.
            with contextlib.suppress(FileNotFoundError):
                make_stage()
    except KeyboardInterrupt:
        pass
    finally:
        server.terminate()
    return server.wait()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        "bin/docs", description="Build the documents as a site in build/docs/site."
    )
    parser.add_argument("--serve", action="store_true", help="serve them instead, and follow changes")
    parser.add_argument("--address", default="127.0.0.1:8010", help="where to serve; default: %(default)s")
    arguments = parser.parse_args()
    sys.exit(serve(arguments.address) if arguments.serve else build())


if __name__ == "__main__":
    main()
