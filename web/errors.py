"""What an error answers with: its code, and its words as a page or, for programs, as {"detail": ...}."""

from __future__ import annotations

from typing import Any

from flask import Flask, Response, current_app, jsonify, request
from peewee import PeeweeException
from werkzeug.exceptions import HTTPException

from stocksync import errors
from stocksync.errors import DatabaseUnavailable, StockSyncError
from stocksync.store.outages import Outage, is_unavailable
from stocksync.web.language import for_program
from stocksync.web.pages import frame

_ON_THE_DATABASE = ("pages", "stock_sync", "api_orders")
"""Blueprints of which no view answers without it."""

# The first that fits counts; whatever is not here is a part of ours that does not answer.
_CODES: tuple[tuple[type[StockSyncError], int], ...] = (
    (errors.UnknownOperation, 404),
    (errors.UnknownOrder, 404),
    (errors.UnknownDifference, 404),
    (errors.UnknownWarehouse, 404),
    (errors.TransitionRefused, 400),
    (errors.RepairRefused, 409),
    (errors.InvalidInput, 400),
    (errors.InvalidOrder, 400),
    (errors.InvalidReturn, 400),
    (errors.InsufficientStock, 409),
    (errors.IdempotencyConflict, 409),
    (errors.OrderHasForm, 409),
    (errors.OrderCancelled, 409),
    (errors.OrphanRefund, 409),
    (errors.RefundExceedsSale, 409),
    (errors.InDoubt, 409),
    (errors.RemoteError, 502),
    (StockSyncError, 503),
)


def set_up(app: Flask) -> None:
    """Have every error of `app` answered here."""
    app.register_error_handler(HTTPException, _of_the_web)
    app.register_error_handler(StockSyncError, _of_ours)
    app.register_error_handler(PeeweeException, _of_the_database)
    app.after_request(_back_again)


def code_of(error: StockSyncError) -> int:
    """The HTTP code that `error` answers with."""
    return next(code for kind, code in _CODES if isinstance(error, kind))


def _of_ours(error: StockSyncError) -> Any:
    code = code_of(error)
    if isinstance(error, DatabaseUnavailable):
        _outage().begins(error)
    return (jsonify(detail=str(error)), code) if for_program() else frame.show_error(error, code)


def _of_the_database(error: PeeweeException) -> Any:
    if not is_unavailable(error):
        raise error  # a fault of ours, logged with its traceback
    _outage().begins(error)
    return _of_ours(DatabaseUnavailable("the database does not answer"))


def _back_again(response: Response) -> Response:
    if response.status_code < 400 and request.blueprint in _ON_THE_DATABASE:
        _outage().ends()
    return response


def _outage() -> Outage:
    outage: Outage = current_app.extensions["stocksync"]().database_outage
    return outage


def _of_the_web(error: HTTPException) -> Any:
    if error.response is not None:
        return error.response
    body, code = _said(error.description or error.name, error.code or 500)
    # What the code demands: Allow, Retry-After, WWW-Authenticate.
    headers = {name: value for name, value in error.get_headers() if name not in ("Content-Type",)}
    return body, code, headers | ({"WWW-Authenticate": "Bearer"} if code == 401 else {})


def _said(words: str, code: int) -> tuple[Any, int]:
    return (jsonify(detail=words), code) if for_program() else frame.show_http_error(words, code)
