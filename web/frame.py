"""What every view has: the runtime, whether a program asks, the reader's language and colours, addresses, headers; and what errors answer."""

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, cast

from flask import (
    Blueprint,
    Response,
    current_app,
    flash,
    g,
    jsonify,
    redirect,
    render_template,
    request,
    url_for,
)
from flask_babel import get_locale, lazy_gettext as _
from peewee import PeeweeException
from werkzeug.exceptions import HTTPException
from werkzeug.local import LocalProxy

from stocksync import errors
from stocksync.runtime import Runtime
from stocksync.store.outages import is_unavailable
from stocksync.web import words

runtime = cast(Runtime, LocalProxy(lambda: current_app.extensions["stocksync"]()))  # noqa: PLW0108 (there is no application yet)
"""The process's own, or the one that the application was made with."""
blueprint = Blueprint("pages", __name__)

LANGUAGES = {"ru": "Русский", "pl": "Polski", "en": "English"}
FOR_ALL = frozenset({"/healthz", "/readyz"})
PAGE_SIZE = 50
LAST_PAGE = 2000
"""As far as a list can be turned over."""
_CHOICES = {"language": tuple(LANGUAGES), "theme": ("auto", "light", "dark")}

# The first that fits counts: its code, and what the page says; None: the error's own words.
_ANSWERS: tuple[tuple[type[errors.StockSyncError], int, Any], ...] = (
    (
        errors.UnknownOperation,
        404,
        _("There is no such operation. Finished ones are cleaned up after a month."),
    ),
    (errors.UnknownOrder, 404, _("There is no such order for this seller.")),
    (errors.UnknownDifference, 404, _("There is no such difference any more.")),
    (errors.UnknownWarehouse, 404, _("That can’t be taken: %(why)s")),
    (errors.TransitionRefused, 400, _("It is already “%(status)s”: nothing was changed.")),
    (
        errors.RepairRefused,
        409,
        _(
            "It can’t be told again now: it is on its way, has nothing to say, telling does not fix it, or somebody has decided already."
        ),
    ),
    (errors.InvalidInput, 400, _("That can’t be taken: %(why)s")),
    (errors.InvalidOrder, 400, None),
    (errors.InvalidReturn, 400, None),
    (errors.InsufficientStock, 409, None),
    (errors.IdempotencyConflict, 409, None),
    (errors.OrderHasForm, 409, None),
    (errors.OrderCancelled, 409, None),
    (errors.OrphanRefund, 409, None),
    (errors.RefundExceedsSale, 409, _("The units can’t be put back: they came back already.")),
    (
        errors.InDoubt,
        409,
        _(
            "It is not known whether the stock was moved. Say so first: the buttons are on the operation’s page."
        ),
    ),
    (errors.RemoteError, 502, _("The orders service could not be asked. Try again when it answers.")),
    (
        errors.DatabaseUnavailable,
        503,
        _("The database does not answer. Nothing is lost; try again in a minute."),
    ),
    (errors.StockSyncError, 503, None),
)
_MESSAGES = {
    404: _("There is no page at this address."),
    405: _("This address takes no such request."),
    413: _("That is more than a form may hold."),
    500: _("Something went wrong on our side. Nothing was lost; the log says what it was."),
}
_TITLES = {403: _("Not allowed"), 404: _("Not found"), 429: _("Too many attempts")}


@blueprint.app_context_processor
def _for_templates() -> dict[str, Any]:
    return {
        "words": words,
        "now": runtime.clock(),
        "moment": datetime.fromisoformat,
        "user": g.get("user"),
        "language": str(get_locale()),
        "languages": LANGUAGES,
        "theme": _chosen("theme") or "auto",
    }


# Who asks, and in which language and colours


def for_program() -> bool:
    """Whether the path is one that programs ask: errors are JSON there, in English, and keys count."""
    return request.path.startswith("/api/") or request.path in (*FOR_ALL, "/metrics")


def select_language() -> str:
    """What the reader chose, else what the browser asks for, else what the settings say."""
    return (
        ("en" if for_program() else None)  # programs, and whoever reads their logs, get one language
        or _chosen("language")
        or request.accept_languages.best_match(LANGUAGES)
        or runtime.config.page_language
    )


def _chosen(name: str) -> str | None:
    """What the address says, else the cookie; None: neither says anything that there is."""
    return next(
        (
            text
            for text in (request.args.get(name), request.cookies.get(f"stocksync_{name}"))
            if text in _CHOICES[name]
        ),
        None,
    )


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


@blueprint.after_app_request
def secure(response: Response) -> Response:
    """Headers that keep other sites and injected scripts out."""
    response.headers.update(
        {
            "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
            "img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
            "frame-ancestors 'none'",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            **({"Strict-Transport-Security": "max-age=31536000"} if request.is_secure else {}),
        }
    )
    response.headers.setdefault("Cache-Control", "no-store")
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
    return (
        path
        if path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
        else url_for("pages.overview")
    )


@blueprint.app_template_global()
def order_url(token_id: str, order_id: str) -> str:
    """The address of an order's page, whatever its id is made of."""
    return (
        url_for("pages.order", token_id=token_id, order_id=order_id)
        if all(re.fullmatch(r"[\w-][\w.:@-]*", text) for text in (token_id, order_id))
        else url_for("pages.order", token_id="-", order_id="-", seller=token_id, id=order_id)  # noqa: S106 (a hyphen, no password)
    )


def back(said: str, kind: str = "good") -> Any:
    """Say what was done, on the page that the form came from."""
    flash(said, kind)
    return redirect(own_path(request.form.get("back", "")), code=303)


def page_number() -> int:
    """Which page of a list is asked for."""
    return max(1, min(request.args.get("page", 1, type=int), LAST_PAGE))


def choice_of(name: str, choices: Iterable[str]) -> str:
    """What the address says, where it is one of `choices`, else the first of these."""
    first, *others = choices
    return request.args[name] if request.args.get(name) in others else first


def order_of(default: str, *others: str) -> str:
    """What the list is sorted by: a column, with `-` in front for falling; each goes both ways."""
    columns = [name.removeprefix("-") for name in (default, *others)]
    return choice_of("sort", [default, *columns, *(f"-{name}" for name in columns)])


@blueprint.app_template_filter()
def in_order(rows: Iterable[dict[str, Any]], order: str) -> list[dict[str, Any]]:
    """The rows that are shown, sorted among themselves; what is empty comes last, or first where it falls."""
    name = order.removeprefix("-")
    return sorted(rows, key=lambda row: (row[name] is None, row[name]), reverse=order.startswith("-"))


# What an error answers with


@blueprint.app_errorhandler(errors.StockSyncError)
def _handle_our_error(error: errors.StockSyncError) -> Any:
    if isinstance(error, errors.DatabaseUnavailable):
        runtime.database_outage.begins(error)
    code, said = next((code, said) for kind, code, said in _ANSWERS if isinstance(error, kind))
    if for_program():
        return jsonify(detail=str(error)), code
    if isinstance(error, errors.InvalidInput) and error.field == "reason":
        said = _("Please give a reason, of at most 200 characters.")
    message = str(said or "%(why)s") % {
        "status": words.word("STATUS", getattr(error, "status", None)),
        "why": error,
    }
    if request.method == "POST" and code not in (404, 503) and "back" in request.form:
        return back(message, "bad")  # it is said on the page that the form is on
    return _page(message, code), code


@blueprint.app_errorhandler(PeeweeException)
def _handle_database_error(error: PeeweeException) -> Any:
    if not is_unavailable(error):
        raise error  # a fault of ours, logged with its traceback
    runtime.database_outage.begins(error)
    return _handle_our_error(errors.DatabaseUnavailable("the database does not answer"))


@blueprint.after_app_request
def _note_that_the_database_answers(response: Response) -> Response:
    # No view of these blueprints answers without it.
    if response.status_code < 400 and request.blueprint in ("pages", "stock_sync", "api_orders"):
        runtime.database_outage.ends()
    return response


@blueprint.app_errorhandler(HTTPException)
def _handle_http_error(error: HTTPException) -> Any:
    if error.response is not None:
        return error.response
    code, said = error.code or 500, error.description or error.name
    return (
        jsonify(detail=said) if for_program() else _page(_MESSAGES.get(code) or said, code),
        code,
        # What the code demands: Allow, Retry-After, WWW-Authenticate.
        {name: value for name, value in error.get_headers() if name != "Content-Type"}
        | ({"WWW-Authenticate": "Bearer"} if code == 401 else {}),
    )


def _page(message: Any, code: int) -> str:
    """A page with a message, and what its code means."""
    return render_template(
        "error.html",
        title=_TITLES.get(code) or (_("Out of order") if code >= 500 else _("That did not work")),
        message=message,
    )
