"""What every page has: what its template may ask for, its place in a list, its filters, and the way back after a form."""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from flask import Blueprint, flash, redirect, request, url_for

from stocksync.store.operation_lists import AGES, Filter
from stocksync.store.states import can_be_cancelled, can_be_retried
from stocksync.web import words
from stocksync.web.request_context import own_path, runtime

blueprint = Blueprint("pages", __name__)
blueprint.add_app_template_filter(datetime.fromisoformat, "moment")
PAGE_SIZE = 50
LAST_PAGE = 2000
"""As far as a list can be turned over."""
ACTIONS = {"retry": can_be_retried, "cancel": can_be_cancelled}
_PLAIN = re.compile(r"[\w-][\w.:@-]*")
# An age by its name: older than the first, not older than the second.
_AGES = dict(zip([*dict(AGES), "older"], pairwise([None, *dict(AGES).values(), None]), strict=True))


@blueprint.app_context_processor
def _for_templates() -> dict[str, Any]:
    return {"words": words, "now": runtime.clock(), "order_url": order_url, "actions_of": actions_of}


def page_number() -> int:
    """Which page of a list is asked for."""
    return max(1, min(request.args.get("page", 1, type=int), LAST_PAGE))


def filter_of(given: Mapping[str, str]) -> tuple[Filter, dict[str, str]]:
    """The filter that an address (or a form) names, and its parts as they go into the next address."""
    names = ("status", "q", "error", "age", "doubt")
    kept = {name: text for name in names if (text := given.get(name, "").strip())}
    stale = timedelta(hours=runtime.config.monitoring_stale_operation_hours)
    newest, oldest = {**_AGES, "stale": (stale, None)}.get(kept.get("age", ""), (None, None))
    now = runtime.clock()
    wanted = Filter(
        status=kept.get("status"),
        error_class=kept.get("error"),
        in_doubt="doubt" in kept,
        since=None if oldest is None else now - oldest,
        until=None if newest is None else now - newest,
    )
    return runtime.operation_lists.understand(wanted, kept.get("q", "")), kept


def actions_of(row: Mapping[str, Any]) -> list[str]:
    """What may be done with an operation now."""
    if row["applied"] == "unknown":
        return ["confirm"]
    return [name for name, allowed in ACTIONS.items() if allowed(row["status"])]


def order_url(token_id: str, order_id: str) -> str:
    """The address of an order's page, whatever its id is made of."""
    if _PLAIN.fullmatch(token_id) and _PLAIN.fullmatch(order_id):
        return url_for("pages.order", token_id=token_id, order_id=order_id)
    return url_for("pages.order", token_id="-", order_id="-", seller=token_id, id=order_id)


def back(said: str, kind: str = "good") -> Any:
    """Say what was done, on the page that the form came from."""
    flash(said, kind)
    return redirect(own_path(request.form.get("back", "")), code=303)
