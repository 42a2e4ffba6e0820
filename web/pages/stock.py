"""Stock: levels by SKU and warehouse, checked against their movements."""

from __future__ import annotations

from flask import render_template, request

from stocksync.web.pages.frame import PAGE_SIZE, blueprint, page_number, runtime


@blueprint.get("/stock")
def stock() -> str:
    """Levels, found by a part of the SKU."""
    at, number = runtime(), page_number()
    text = request.args.get("q", "").strip()[:200]
    levels, total = at.queries.levels(text, limit=PAGE_SIZE, offset=(number - 1) * PAGE_SIZE)
    pages = max(1, -(-total // PAGE_SIZE))
    unlinked = [] if text or number > 1 else at.queries.lines_without_sku(PAGE_SIZE)
    return render_template(
        "stock.html", levels=levels, total=total, q=text, page=number, pages=pages, unlinked=unlinked
    )


@blueprint.get("/stock/sku")
def sku() -> str:
    """One SKU: its levels, the sums of all its movements, and the newest of these."""
    at = runtime()
    wanted = request.args.get("sku", "")
    with at.database.scope():
        levels, sums = at.queries.stock(wanted), at.queries.movement_sums(wanted)
    for level in levels:
        level["sum"] = sums.get(level["warehouse"], 0)
    return render_template("sku.html", sku=wanted, levels=levels)
