"""Which language and which colours a reader gets: chosen in the address, kept in a cookie, else as the browser asks."""

from __future__ import annotations

from typing import Any

import flask_babel
from flask import Flask, Response, current_app, request, url_for

LANGUAGES = {"ru": "Русский", "pl": "Polski", "en": "English"}
FOR_ALL = frozenset({"/healthz", "/readyz"})
THEMES = ("auto", "light", "dark")
_KEPT = {"language": tuple(LANGUAGES), "theme": THEMES}
_YEAR = 365 * 24 * 3600


def speak(app: Flask) -> None:
    """Have the application's pages in the reader's language."""
    flask_babel.Babel(app, locale_selector=_language)
    app.after_request(_remember)
    app.jinja_env.globals.update(
        language=language,
        languages=LANGUAGES,
        theme=lambda: _chosen("theme") or "auto",
        themes=THEMES,
        here=here,
    )


def for_program() -> bool:
    """Whether the path is one that programs ask: errors are JSON there, in English, and keys count."""
    return request.path.startswith("/api/") or request.path in (*FOR_ALL, "/metrics")


def language() -> str:
    """The code of the reader's language."""
    return str(flask_babel.get_locale())


def gettext(text: str, **values: object) -> str:
    """`text` in the reader's language, with `%(name)s` filled in."""
    return str(flask_babel.gettext(text, **values))


def ngettext(one: str, many: str, num: int, **values: object) -> str:
    """The form that a number asks for in the reader's language; `%(num)s` is the number."""
    return str(flask_babel.ngettext(one, many, num, **values))


def number(value: float) -> str:
    """A number as it is written in the reader's language."""
    return str(flask_babel.format_decimal(value))


def here(**changed: str | int | None) -> str:
    """The address of this page with some of its query changed; None takes a part away."""
    query: dict[str, Any] = {name: text for name, text in request.args.items() if name not in _KEPT} | changed
    query = {name: value for name, value in query.items() if value is not None}
    if request.endpoint is None or request.method not in ("GET", "HEAD"):
        return url_for("pages.overview")
    return url_for(request.endpoint, **(request.view_args or {}), **query)


def _chosen(name: str) -> str | None:
    for text in (request.args.get(name), request.cookies.get(f"stocksync_{name}")):
        if text in _KEPT[name]:
            return text
    return None


def _language() -> str:
    if for_program():
        return "en"  # programs, and whoever reads their logs, get one language
    default: str = current_app.extensions["stocksync"]().config.page_language
    return _chosen("language") or request.accept_languages.best_match(LANGUAGES) or default


def _remember(response: Response) -> Response:
    for name, allowed in _KEPT.items():
        if (text := request.args.get(name)) in allowed:
            response.set_cookie(
                f"stocksync_{name}",
                text or "",
                max_age=_YEAR,
                samesite="Lax",
                httponly=True,
                secure=request.is_secure,
            )
    return response
