"""One order: its lines and operations, what we say and what the remote says, and the ways to repair it."""

from __future__ import annotations

from typing import Any

from flask import render_template, request

from stocksync.web.auth import requires
from stocksync.web.language import gettext as _
from stocksync.web.pages.frame import actor, back, blueprint, runtime
from stocksync.web.pages.operations import actions_of


@blueprint.get("/orders/<token_id>/<order_id>")
def order(token_id: str, order_id: str) -> str:
    """An order; ids that an address can't carry as a part of its path come in its query."""
    if "seller" in request.args:
        token_id, order_id = request.args["seller"], request.args.get("id", "")
    at = runtime()
    with at.database.scope():
        found = at.queries.order(token_id, order_id)
    for row in found["operations"]:
        row["actions"] = actions_of(row)
    # A retry takes all of the order along that waits or is given up: one button does for all.
    again = next((row for row in found["operations"] if row["status"] == "failed"), None)
    told = found["is_stock_updated"] is not None and found["due_at"] is None and found["claim_id"] is None
    return render_template("order.html", order=found, again=again, tell=told and again is None)


@blueprint.post("/orders/tell")
@requires("operator")
def tell_again() -> Any:
    """Have the remote told again, whatever it says."""
    form = request.form
    runtime().reconciliation.tell_again(
        form.get("seller", ""), form.get("id", ""), actor=actor(), reason=form.get("reason", "")
    )
    return back(_("The orders service will be told again at once."))
