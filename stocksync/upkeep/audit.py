"""The audit: proves that nothing was lost and nothing happened twice, or names the rows that say otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stocksync.store.audit_queries import QUESTIONS, lane_figures, offending_rows
from stocksync.store.database import Database


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken promise. `rows` are the first offenders."""

    check: str
    meaning: str
    rows: list[list[Any]]


def audit(database: Database, limit: int = 20) -> list[Finding]:
    """Every promise that does not hold, with up to `limit` offending rows each; empty when all do.

    All questions are asked in one transaction, so that work under way is not mistaken for damage.
    """
    findings = []
    with database.snapshot():
        for check, (meaning, _) in QUESTIONS.items():
            rows = offending_rows(database, check, limit)
            if rows:
                findings.append(Finding(check, meaning, rows))
    return findings


def per_lane(database: Database) -> dict[str, dict[str, int]]:
    """Of every lane: operations by status and pruned, orders, those that wait, units deducted and refunded."""
    with database.snapshot():
        return lane_figures(database)
