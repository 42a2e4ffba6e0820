"""What a benchmark found: figures with median and spread, ratios with what was wanted, as a table or as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One quantity, measured once a round."""

    name: str
    unit: str
    values: Sequence[float]

    @property
    def median(self) -> float:
        """Of the rounds."""
        return statistics.median(self.values)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "unit": self.unit,
            "median": self.median,
            "lowest": min(self.values),
            "highest": max(self.values),
            "rounds": list(self.values),
        }


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure (mostly a ratio) with what is wanted of it; `at_least` or `at_most` is None."""

    figure: Figure
    at_least: float | None = None
    at_most: float | None = None

    @property
    def met(self) -> bool:
        """By the median."""
        low = self.at_least is None or self.figure.median >= self.at_least
        return low and (self.at_most is None or self.figure.median <= self.at_most)

    @property
    def wanted(self) -> str:
        """In words."""
        return f">= {self.at_least:g}" if self.at_least is not None else f"<= {self.at_most:g}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return self.figure.as_dict() | {"wanted": self.wanted, "met": self.met}


@dataclass(slots=True)
class Result:
    """Everything that one benchmark found. `skipped`: what of it was left out, and for want of what."""

    name: str
    title: str
    figures: list[Figure] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "title": self.title,
            "figures": [figure.as_dict() for figure in self.figures],
            "goals": [goal.as_dict() for goal in self.goals],
            "notes": self.notes,
            "skipped": self.skipped,
            "seconds": round(self.seconds, 1),
        }

    def lines(self) -> list[str]:
        """For people."""
        lines = [f"{self.name}: {self.title}  ({self.seconds:.0f} s)"]
        rows = [(figure, "") for figure in self.figures]
        rows += [
            (goal.figure, f"{goal.wanted}  {'ok' if goal.met else 'NOT REACHED'}") for goal in self.goals
        ]
        width = max([len(figure.name) for figure, _ in rows], default=0)
        for figure, verdict in rows:
            spread = f"{_short(min(figure.values))} .. {_short(max(figure.values))}"
            line = f"  {figure.name:<{width}}  {_short(figure.median):>9} {figure.unit:<12} {spread:<22} {verdict}"
            lines.append(line.rstrip())
        lines += [f"  skipped: {reason}" for reason in self.skipped]
        lines += [f"  note: {note}" for note in self.notes]
        return lines


def ratio(name: str, over: Figure, under: Figure) -> Figure:
    """`over` by `under`, round by round."""
    return Figure(name, "x", [a / b for a, b in zip(over.values, under.values, strict=False)])


def _short(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"
