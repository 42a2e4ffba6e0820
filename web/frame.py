"""What every view has: the runtime, whether a program asks, the reader's language and colours, addresses."""

import re
from datetime import datetime, timedelta
from typing import Any, cast

import flask_babel
from flask import Blueprint, Response, current_app, flash, g, redirect, request, url_for
from werkzeug.local import LocalProxy

from stocksync.runtime import Runtime
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
_CHOICES = {"language": tuple(LANGUAGES), "theme": ("auto", "light", "dark")}


@blueprint.app_context_processor
def _for_templates() -> dict[str, Any]:
    return {
        "words": words,
        "now": runtime.clock(),
        "user": g.get("user"),
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


@blueprint.app_template_global()
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


@blueprint.app_template_global()
def order_url(token_id: str, order_id: str) -> str:
    """The address of an order's page, whatever its id is made of."""
    if all(re.fullmatch(r"[\w-][\w.:@-]*", text) for text in (token_id, order_id)):
        return url_for("pages.order", token_id=token_id, order_id=order_id)
    return url_for("pages.order", token_id="-", order_id="-", seller=token_id, id=order_id)


def back(said: str, kind: str = "good") -> Any:
    """Say what was done, on the page that the form came from."""
    flash(said, kind)
    return redirect(own_path(request.form.get("back", "")), code=303)


def page_number() -> int:
    """Which page of a list is asked for."""
    return max(1, min(request.args.get("page", 1, type=int), LAST_PAGE))
