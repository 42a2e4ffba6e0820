"""What the processes of a soak write down, a line each event, and how it is read while they go on writing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self


class Writer:
    """Lines of fields, apart by tabs, each in the file at once."""

    def __init__(self, file: Path) -> None:
        self._file = file.open("w", buffering=1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, *fields: object) -> None:
        """One line."""
        text = "\t".join(" ".join(str(field).split()) for field in fields)
        self._file.write(text + "\n")


class Reader:
    """Yields what was added since the last time; a line that is not complete waits."""

    def __init__(self, file: Path) -> None:
        self._path = file
        self._at = 0

    def lines(self) -> Iterator[list[str]]:
        """The fields of each new line."""
        if not self._path.exists():
            return
        with self._path.open() as file:
            file.seek(self._at)
            text = file.read()
        whole = text.rpartition("\n")[0]
        self._at += len(whole.encode()) + 1 if whole else 0
        for line in whole.splitlines():
            yield line.split("\t")


@dataclass(frozen=True, slots=True)
class Span:
    """From when to when a process works, in seconds of the machine's monotonic clock, which all processes share."""

    start: float
    seconds: float

    def wait(self) -> None:
        """Until it begins."""
        time.sleep(max(0.0, self.start - time.monotonic()))

    def over(self) -> bool:
        """Whether it has ended."""
        return time.monotonic() >= self.start + self.seconds
