"""What an error answers with: its code, and its words as a page or, for programs, as {"detail": ...}."""

from typing import Any

from flask import Response, jsonify, render_template, request
from flask_babel import lazy_gettext as _
from peewee import PeeweeException
from werkzeug.exceptions import HTTPException

from stocksync import errors
from stocksync.store.outages import is_unavailable
from stocksync.web import words
from stocksync.web.frame import back, blueprint, for_program, runtime

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
        _("It can’t be told again now: it is on its way, has nothing to say, or telling does not mend it."),
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


@blueprint.app_errorhandler(errors.StockSyncError)
def _handle_our_error(error: errors.StockSyncError) -> Any:
    if isinstance(error, errors.DatabaseUnavailable):
        runtime.database_outage.begins(error)
    code, said = next((code, said) for kind, code, said in _ANSWERS if isinstance(error, kind))
    if for_program():
        return jsonify(detail=str(error)), code
    if isinstance(error, errors.InvalidInput) and error.field == "reason":
        said = _("Please give a reason, of at most 200 characters.")
    fields = {"status": words.word("STATUS", getattr(error, "status", None)), "why": error}
    message = str(said) % fields if said else str(error)
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
    body = jsonify(detail=said) if for_program() else _page(_MESSAGES.get(code) or said, code)
    # What the code demands: Allow, Retry-After, WWW-Authenticate.
    headers = {name: value for name, value in error.get_headers() if name != "Content-Type"}
    return body, code, headers | ({"WWW-Authenticate": "Bearer"} if code == 401 else {})


def _page(message: Any, code: int) -> str:
    """A page with a message, and what its code means."""
    other = _("Out of order") if code >= 500 else _("That did not work")
    return render_template("error.html", title=_TITLES.get(code, other), message=message)
