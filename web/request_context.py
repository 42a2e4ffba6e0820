"""What every view knows of its request: the runtime, whether a program asks, and the reader's language and colours."""

from datetime import timedelta
from typing import cast

import flask_babel
from flask import Flask, Response, current_app, request, url_for
from werkzeug.local import LocalProxy

from stocksync.runtime import Runtime

LANGUAGES = {"ru": "Русский", "pl": "Polski", "en": "English"}
FOR_ALL = frozenset({"/healthz", "/readyz"})
_CHOICES = {"language": tuple(LANGUAGES), "theme": ("auto", "light", "dark")}

runtime = cast(Runtime, LocalProxy(lambda: current_app.extensions["stocksync"]()))  # noqa: PLW0108 (there is no application yet)
"""The process's own, or the one that the application was made with."""


def set_up(app: Flask) -> None:
    """Show the pages of `app` in the language and the colours that their reader chose, else as the browser asks."""
    flask_babel.Babel(app, locale_selector=_select_language)
    app.after_request(_remember)
    app.jinja_env.globals.update(
        language=language, languages=LANGUAGES, theme=lambda: _chosen("theme") or "auto", here=here
    )


def for_program() -> bool:
    """Whether the path is one that programs ask: errors are JSON there, in English, and keys count."""
    return request.path.startswith("/api/") or request.path in (*FOR_ALL, "/metrics")


def language() -> str:
    """The code of the reader's language."""
    return str(flask_babel.get_locale())


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


def _chosen(name: str) -> str | None:
    """What the address says, else the cookie; None: neither says anything that there is."""
    given = (request.args.get(name), request.cookies.get(f"stocksync_{name}"))
    return next((text for text in given if text in _CHOICES[name]), None)


def _select_language() -> str:
    if for_program():
        return "en"  # programs, and whoever reads their logs, get one language
    return (
        _chosen("language") or request.accept_languages.best_match(LANGUAGES) or runtime.config.page_language
    )


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
