"""What every page has: the runtime behind it, filters kept in the address, the way back, errors in a reader's words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from flask import Blueprint, current_app, flash, redirect, render_template, request, url_for
from flask_babel import format_percent

from stocksync import errors
from stocksync.runtime import Runtime
from stocksync.store.operation_lists import AGES, Filter
from stocksync.web import words
from stocksync.web.auth import current_user
from stocksync.web.language import gettext as _
from stocksync.web.language import number

blueprint = Blueprint("pages", __name__)
PAGE_SIZE = 50
_FILTERS = ("status", "q", "error", "age", "doubt")
_PLAIN = re.compile(r"[\w-][\w.:@-]*")


def runtime() -> Runtime:
    """The process's own, or the one that the application was made with."""
    at: Runtime = current_app.extensions["stocksync"]()
    return at


@blueprint.app_context_processor
def _for_templates() -> dict[str, Any]:
    return {
        "words": words,
        "now": runtime().clock(),
        "order_url": order_url,
    }


@blueprint.app_template_filter("numberformat")
def _number(value: float) -> str:
    return number(value)


@blueprint.app_template_filter("percentformat")
def _percent(share: float, how: str) -> str:
    return str(format_percent(share, how))


@blueprint.app_template_filter("moment")
def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def page_number() -> int:
    """Which page of a list is asked for; as far as a list goes."""
    return max(1, min(request.args.get("page", 1, type=int), 2000))


def filter_of(given: Mapping[str, str]) -> tuple[Filter, dict[str, str]]:
    """The filter that an address (or a form) names, and its parts as they go into the next address."""
    at = runtime()
    kept = {name: text for name in _FILTERS if (text := given.get(name, "").strip())}
    stale = timedelta(hours=at.config.monitoring_stale_operation_hours)
    newest, oldest = _ages(stale).get(kept.get("age", ""), (None, None))
    now = at.clock()
    wanted = Filter(
        status=kept.get("status"),
        error_class=kept.get("error"),
        in_doubt="doubt" in kept,
        since=None if oldest is None else now - oldest,
        until=None if newest is None else now - newest,
    )
    return at.operation_lists.understand(wanted, kept["q"]) if "q" in kept else wanted, kept


def _ages(stale: timedelta) -> dict[str, tuple[timedelta | None, timedelta | None]]:
    """An age by its name: older than the first, not older than the second."""
    steps = [None, *(age for _name, age in AGES), None]
    names = [*(name for name, _age in AGES), "older"]
    return {name: (steps[place], steps[place + 1]) for place, name in enumerate(names)} | {
        "stale": (stale, None)
    }


def order_url(token_id: str, order_id: str) -> str:
    """The address of an order's page, whatever its id is made of."""
    if _PLAIN.fullmatch(token_id) and _PLAIN.fullmatch(order_id):
        return url_for("pages.order", token_id=token_id, order_id=order_id)
    return url_for("pages.order", token_id="-", order_id="-", seller=token_id, id=order_id)


def ids_of(texts: Iterable[str]) -> list[UUID]:
    """The ids among `texts`; what is none is left out."""
    found = []
    for text in texts:
        with suppress(ValueError):
            found.append(UUID(text))
    return found


def actor() -> str:
    """Who acts, for the log."""
    user = current_user()
    assert user is not None
    return user.name


def back(said: str, kind: str = "good") -> Any:
    """Say what was done, on the page that the form came from."""
    flash(said, kind)
    address = request.form.get("back", "")
    local = address.startswith("/") and not address.startswith(("//", "/\\")) and not urlsplit(address).netloc
    return redirect(address if local and address.isprintable() else url_for("pages.overview"), code=303)


def said_of(error: errors.StockSyncError) -> str:
    """An error in the reader's language."""
    if isinstance(error, errors.TransitionRefused):
        return _(
            "It is already “%(status)s”: nothing was changed.", status=words.word("STATUS", error.status)
        )
    if isinstance(error, errors.UnknownOperation):
        return _("There is no such operation. Finished ones are cleaned up after a month.")
    if isinstance(error, errors.UnknownOrder):
        return _("There is no such order for this seller.")
    if isinstance(error, errors.InDoubt):
        return _(
            "It is not known whether the stock was moved. Say so first: the buttons are on the operation’s page."
        )
    if isinstance(error, errors.RefundExceedsSale):
        return _("The units can’t be put back: they came back already.")
    if isinstance(error, errors.RepairRefused):
        return _(
            "It can’t be told again now: it is on its way, has nothing to say, or telling does not mend it."
        )
    if isinstance(error, errors.UnknownDifference):
        return _("There is no such difference any more.")
    if isinstance(error, errors.RemoteError):
        return _("The orders service could not be asked. Try again when it answers.")
    if isinstance(error, errors.InvalidInput):
        if error.field == "reason":
            return _("Please give a reason, of at most 200 characters.")
        return _("That can’t be taken: %(why)s", why=str(error))
    if isinstance(error, errors.DatabaseUnavailable):
        return _("The database does not answer. Nothing is lost; try again in a minute.")
    return str(error)


def show_error(error: errors.StockSyncError, code: int) -> Any:
    """An error of ours: after a form on the page it came from, else on a page of its own."""
    if request.method == "POST" and code not in (404, 503) and "back" in request.form:
        return back(said_of(error), "bad")
    return show(said_of(error), code)


def show_http_error(words_given: str, code: int) -> Any:
    """An error of the web, in a page like the others."""
    known = {
        404: _("There is no page at this address."),
        405: _("This address takes no such request."),
        413: _("That is more than a form may hold."),
        500: _("Something went wrong on our side. Nothing was lost; the log says what it was."),
    }
    return show(known.get(code) or words_given, code)


def show(message: str, code: int) -> Any:
    """A page with a message, and what its code means."""
    titles = {403: _("Not allowed"), 404: _("Not found"), 429: _("Too many attempts")}
    title = titles.get(code) or (_("Out of order") if code >= 500 else _("That did not work"))
    return render_template("error.html", title=title, message=message), code
