"""The HTTP API, `/api/v1`: its document and docs, made from the calls, and what every call refuses."""

import re
from pathlib import Path
from typing import Any, cast

import flask_openapi3_swagger
from flask import Blueprint, Response, abort, current_app, jsonify, make_response, render_template, request
from flask.json.provider import DefaultJSONProvider
from flask_openapi3 import Info, OpenAPI
from pydantic import ValidationError

from stocksync.orders.checkout_form import fault_in_words
from stocksync.web.api_calls import orders, stock_sync

_ABOUT = """Reliable delivery of stock operations to the orders microservice. Every call needs a key
(`Authorization: Bearer …`); those that change something need the role operator. Errors are `{"detail": "…"}`."""
_LARGEST_BODY = 2 * 1024 * 1024

docs = Blueprint(
    "docs",
    __name__,
    static_folder=Path(flask_openapi3_swagger.__file__).parent / "templates" / "swagger",
    static_url_path="/docs/files",
)


class _Json(DefaultJSONProvider):
    """JSON in which 5.0 is 5, as the standard has it: it knows numbers, not kinds of them."""

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        return super().loads(s, parse_float=_number, **kwargs)


def _number(text: str) -> float:
    return int(float(text)) if float(text).is_integer() else float(text)


def make_application(name: str) -> OpenAPI:
    """A Flask application with the calls, their document and its docs."""
    app = OpenAPI(
        name,
        info=Info(title="stocksync", version="1", description=_ABOUT),
        security_schemes={"key": {"type": "http", "scheme": "bearer"}},
        validation_error_status=400,
        validation_error_callback=_say_faults,
        doc_ui=False,
    )
    app.json = _Json(app)
    app.register_api(stock_sync)
    app.register_api(orders)
    app.register_blueprint(docs)
    return app


@docs.get("/api/v1/openapi.json")
def document() -> Any:
    """The OpenAPI document."""
    return jsonify(cast(OpenAPI, current_app).api_doc)


@docs.get("/docs")
def page() -> str:
    """The docs in a browser."""
    return render_template("docs.html")


@stock_sync.before_request
@orders.before_request
def refuse_what_is_not_named() -> None:
    """Refuse parameters and bodies that the call does not name, which the models alone can't see."""
    path = re.sub(r"<(?:[^<>:]+:)?([^>]+)>", r"{\1}", str(request.url_rule))
    call = (
        cast(OpenAPI, current_app)
        .api_doc["paths"][path]
        .get(request.method.lower().replace("head", "get"), {})
    )
    known = {parameter["name"] for parameter in call.get("parameters", ())}
    for name, values in request.args.lists():
        if name not in known:
            abort(400, f"{name:.60}: there is no such parameter; known: {', '.join(sorted(known)) or 'none'}")
        if len(values) > 1:
            abort(400, f"{name}: given {len(values)} times")
    if "requestBody" in call:
        request.max_content_length = _LARGEST_BODY
        if not request.is_json:
            abort(415, "The body must be JSON, with Content-Type: application/json.")
        try:
            body = request.get_json()
        except RecursionError:
            body = None
        if not isinstance(body, dict):
            abort(400, "The body must be one JSON object.")


def _say_faults(error: ValidationError) -> Response:
    """What the models found wrong, as every other error is said."""
    faults = [fault_in_words(fault) for fault in error.errors(include_url=False)]
    return make_response(jsonify(detail="; ".join(faults)), 400)
