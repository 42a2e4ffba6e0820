"""The operator's pages: how things stand, what hangs and why, and what a person may do about it."""

from __future__ import annotations

from stocksync.web.pages import operations, orders, overview, stock, upkeep  # noqa: F401 (their views)
from stocksync.web.pages.frame import blueprint

__all__ = ["blueprint"]
