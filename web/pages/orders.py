"""One order: its lines and operations, what we say and what the remote says, and the ways to repair it."""

from __future__ import annotations

from flask import render_template, request

from web.pages.frame import blueprint, runtime
from web.pages.operations import actions_of


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
    # A retry takes all that is failed or waits of the order along: one button does for all.
    again = next((row for row in found["operations"] if row["status"] == "failed" and "retry" in row["actions"]), None)
    return render_template("order.html", order=found, again=again)
