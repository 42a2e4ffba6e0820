"""What keeps the deliveries going: sellers' lanes and the breaker, comparisons with the remote, alerts."""

from __future__ import annotations

from typing import Any

from flask import abort, render_template, request
from flask_babel import gettext as _

from stocksync.domain.checkout_form import check_word
from web.auth import requires
from web.pages.frame import actor, back, blueprint, runtime


@blueprint.get("/lanes")
def lanes() -> str:
    """Every seller: what waits, and whether it is worked on; the remote's breaker; the periodic tasks."""
    at = runtime()
    with at.database.scope():
        found, tasks = at.queries.lanes(), at.tasks()
    return render_template("lanes.html", lanes=found, tasks=tasks, breaker=at.breaker.open_until())


@blueprint.post("/lanes/<action>")
@requires("operator")
def change_lane(action: str) -> Any:
    """Pause or resume one seller."""
    at, lane = runtime(), request.form.get("lane", "")
    if action == "pause":
        reason = check_word("reason", request.form.get("reason"))
        changed = at.lanes.pause(lane, f"{actor()}: {reason}")
        return back(_("Paused: nothing is sent for this seller.") if changed else _("It was paused already."))
    if action != "resume":
        abort(404)
    if not at.lanes.resume(lane):
        abort(404)
    at.wakeups.wake(lane, force=True)
    return back(_("Going on."))
