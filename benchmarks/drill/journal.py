"""Journals, one JSON object a line: what callers did, what the remote was told; and what the database must hold by them.

A caller writes what it is going to do before the call, and what came of it after the call. So whoever is killed in
between knows what to repeat. `at` is monotonic seconds, the same clock in all processes of a machine.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class Journal:
    """A file that lines are added to; each is written at once, so that a killed process leaves whole lines."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def write(self, **entry: Any) -> None:
        """Add one line."""
        os.write(self._file, json.dumps(entry, ensure_ascii=False).encode() + b"\n")


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Every entry; nothing of a file that is not there. Raises ValueError for a line that is none."""
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)


@dataclass
class Line:
    """One order line as its caller knows it. `undone`: its deduction was cancelled and put back."""

    sku: str
    deducted: int
    refunded: int = 0
    undone: bool = False

    @property
    def left(self) -> int:
        """Units that are out."""
        return 0 if self.undone else self.deducted - self.refunded


@dataclass
class Order:
    """One order as its caller knows it."""

    token: str
    lines: dict[str, Line] = field(default_factory=dict)
    by_form: bool = True
    cancelled: bool = False

    @property
    def flag(self) -> bool:
        """What the remote must hold."""
        return any(line.left for line in self.lines.values())


OperationKey = tuple[str, str, str, str, int, str]
"""Order, line, type, SKU, quantity and final status."""


@dataclass
class Book:
    """What all done entries of callers come to."""

    orders: dict[str, Order] = field(default_factory=dict)
    operations: Counter[OperationKey] = field(default_factory=Counter)
    ids: set[str] = field(default_factory=set)
    """Of operations, as the calls returned them."""

    def enter(self, do: dict[str, Any], done: dict[str, Any]) -> None:
        """Take in one call that returned."""
        self.ids.update(done.get("operations", ()))
        name = do["order"]
        match do["what"]:
            case "sell" | "sell_form":
                lines = {line: Line(sku, units) for line, sku, units in do["lines"]}
                self.orders[name] = Order(do["token"], lines, do["what"] == "sell_form")
                for id, line in lines.items():
                    self._add(name, id, "deduction", line, line.deducted)
            case "refund":
                line = self.orders[name].lines[do["line"]]
                line.refunded += do["units"]
                self._add(name, do["line"], "refund", line, do["units"])
            case "cancel":
                self.orders[name].cancelled = True
                for id, line in self.orders[name].lines.items():
                    if line.left:
                        self._add(name, id, "refund", line, line.left)
                        line.refunded = line.deducted
            case "undo" if done["said"] == "cancelled":
                line = self.orders[name].lines[do["line"]]
                line.undone = True
                key = (name, do["line"], "deduction", line.sku, line.deducted)
                self.operations[*key, "completed"] -= 1
                self.operations[*key, "cancelled"] += 1

    def _add(self, order: str, id: str, kind: str, line: Line, units: int) -> None:
        self.operations[order, id, kind, line.sku, units, "completed"] += 1

    def out(self) -> Counter[str]:
        """SKU -> units that are out."""
        units = Counter[str]()
        for order in self.orders.values():
            for line in order.lines.values():
                units[line.sku] += line.left
        return units


@dataclass
class Kept:
    """What one caller's journal holds. `open`: the call that has not returned, if there is one."""

    book: Book = field(default_factory=Book)
    calls: int = 0
    open: dict[str, Any] | None = None
    done: list[tuple[float, float, str]] = field(default_factory=list)
    """Of each call that returned: when, seconds that its last try took, and the order that the remote is to hear of."""
    raised: list[tuple[float, str]] = field(default_factory=list)
    """When, and what: tries that ended with an error that says nothing of the call itself."""
    refused: list[str] = field(default_factory=list)
    """Calls that were refused, which none should be."""


def keep(entries: Iterable[dict[str, Any]], kept: Kept | None = None) -> Kept:
    """Read a caller's journal; `kept`: go on with this one."""
    kept = kept or Kept()
    for entry in entries:
        if "do" in entry:
            kept.open = entry["do"]
            kept.calls += 1
        elif "raised" in entry:
            kept.raised.append((entry["at"], entry["raised"]))
        elif kept.open is not None:
            if "refused" in entry:
                kept.refused.append(f"{kept.open['what']} of {kept.open['order']}: {entry['refused']}")
            else:
                kept.book.enter(kept.open, entry["done"])
                tells = kept.open["what"] != "undo"  # which may be too late, or come before anything was told
                kept.done.append((entry["at"], entry["seconds"], kept.open["order"] if tells else ""))
            kept.open = None
    return kept
