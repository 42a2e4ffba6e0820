"""What every view has: the runtime, whether a program asks, the reader's language and colours, addresses, filters."""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, cast

import flask_babel
from flask import Blueprint, Response, current_app, flash, redirect, request, url_for
from werkzeug.local import LocalProxy

from stocksync.runtime import Runtime
from stocksync.store.operation_lists import AGES, Filter
from stocksync.store.states import can_be_cancelled, can_be_retried
from stocksync.web import words

runtime = cast(Runtime, LocalProxy(lambda: current_app.extensions["stocksync"]()))  # noqa: PLW0108 (there is no application yet)
"""The process's own, or the one that the application was made with."""
blueprint = Blueprint("pages", __name__)
blueprint.add_app_template_filter(datetime.fromisoformat, "moment")

LANGUAGES = {"ru": "Русский", "pl": "Polski", "en": "English"}
FOR_ALL = frozenset({"/healthz", "/readyz"})
PAGE_SIZE = 50
LAST_PAGE = 2000
"""As far as a list can be turned over."""
ACTIONS = {"retry": can_be_retried, "cancel": can_be_cancelled}
_CHOICES = {"language": tuple(LANGUAGES), "theme": ("auto", "light", "dark")}
# An age by its name: older than the first, not older than the second.
_AGES = dict(zip([*dict(AGES), "older"], pairwise([None, *dict(AGES).values(), None]), strict=True))


@blueprint.app_context_processor
def _for_templates() -> dict[str, Any]:
    return {
        "words": words,
        "now": runtime.clock(),
        "order_url": order_url,
        "actions_of": actions_of,
        "here": here,
        "language": language(),
        "languages": LANGUAGES,
        "theme": _chosen("theme") or "auto",
    }


# Who asks, and in which language and colours


def for_program() -> bool:
    """Whether the path is one that programs ask: errors are JSON there, in English, and keys count."""
    return request.path.startswith("/api/") or request.path in (*FOR_ALL, "/metrics")


def language() -> str:
    """The code of the reader's language."""
    return str(flask_babel.get_locale())


def select_language() -> str:
    """What the reader chose, else what the browser asks for, else what the settings say."""
    if for_program():
        return "en"  # programs, and whoever reads their logs, get one language
    return (
        _chosen("language") or request.accept_languages.best_match(LANGUAGES) or runtime.config.page_language
    )


def _chosen(name: str) -> str | None:
    """What the address says, else the cookie; None: neither says anything that there is."""
    given = (request.args.get(name), request.cookies.get(f"stocksync_{name}"))
    return next((text for text in given if text in _CHOICES[name]), None)


@blueprint.after_app_request
def _remember(response: Response) -> Response:
    for name, choices in _CHOICES.items():
        if (text := request.args.get(name, "")) in choices:
            response.set_cookie(
                f"stocksync_{name}",
                text,
                max_age=timedelta(days=365),
                samesite="Lax",
                httponly=True,
                secure=request.is_secure,
            )
    return response


# Where things are


def here(**changed: str | int | None) -> str:
    """The address of this page with some of its query changed; None takes a part away."""
    if request.endpoint is None or request.method not in ("GET", "HEAD"):
        return url_for("pages.overview")
    # Nobody who makes up an address sets what `url_for` takes for itself.
    left_out = (*_CHOICES, "endpoint", "_anchor", "_external", "_method", "_scheme")
    kept = {name: text for name, text in request.args.items() if name not in left_out}
    return url_for(request.endpoint, **(kept | changed | (request.view_args or {})))


def own_path(path: str) -> str:
    """`path` where it leads to a page of ours, else the first page."""
    ours = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if ours else url_for("pages.overview")


def order_url(token_id: str, order_id: str) -> str:
    """The address of an order's page, whatever its id is made of."""
    if all(re.fullmatch(r"[\w-][\w.:@-]*", text) for text in (token_id, order_id)):
        return url_for("pages.order", token_id=token_id, order_id=order_id)
    return url_for("pages.order", token_id="-", order_id="-", seller=token_id, id=order_id)


def back(said: str, kind: str = "good") -> Any:
    """Say what was done, on the page that the form came from."""
    flash(said, kind)
    return redirect(own_path(request.form.get("back", "")), code=303)


# Lists and what may be done with their rows


def page_number() -> int:
    """Which page of a list is asked for."""
    return max(1, min(request.args.get("page", 1, type=int), LAST_PAGE))


def filter_of_address() -> tuple[Filter, dict[str, str]]:
    """The filter that the address names, and its parts as they go into the next address."""
    parts = {name: request.args.get(name, "").strip() for name in ("status", "q", "error", "age", "doubt")}
    kept = {name: text for name, text in parts.items() if text}
    stale = timedelta(hours=runtime.config.monitoring_stale_operation_hours)
    newest, oldest = {**_AGES, "stale": (stale, None)}.get(parts["age"], (None, None))
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
