"""The HTTP API, `/api/v1`: how a view becomes a call, the document and the docs, and what every call refuses."""

import inspect
import re
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, cast
from uuid import UUID

import flask_openapi3_swagger
from flask import Blueprint, Response, abort, current_app, jsonify, make_response, render_template, request
from flask.json.provider import DefaultJSONProvider
from flask_openapi3 import APIBlueprint, OpenAPI
from pydantic import AwareDatetime, BaseModel, BeforeValidator, Field, ValidationError, create_model

from stocksync.orders.checkout_form import fault_in_words, written_out
from stocksync.store.operation_lists import Filter
from stocksync.web.api_answers import Fault

_COMMON: dict[str, Any] = {
    "abp_responses": dict.fromkeys((400, 401, 403, 404, 429, 503), Fault),
    "abp_security": [{"key": []}],
}
stock_sync = APIBlueprint("stock_sync", __name__, url_prefix="/api/v1/stock-sync", **_COMMON)
orders = APIBlueprint("api_orders", __name__, url_prefix="/api/v1/orders", **_COMMON)
docs = Blueprint(
    "docs",
    __name__,
    static_folder=Path(flask_openapi3_swagger.__file__).parent / "templates" / "swagger",
    static_url_path="/docs/files",
)


# What a call may take


def _written_as(pattern: str, said: str) -> BeforeValidator:
    """Refuse a text that is written otherwise; pydantic alone would take `yes` for True and `5.0` for 5."""

    def check(given: Any) -> Any:
        if isinstance(given, str) and not re.fullmatch(pattern, given):
            raise ValueError(said)
        return given

    return BeforeValidator(check)


_whole_number = _written_as("-?[0-9]{1,18}", "a whole number is needed")
Limit = Annotated[int, Field(ge=1, le=200), _whole_number]
Offset = Annotated[int, Field(ge=0, le=100_000), _whole_number]
YesNo = Annotated[bool, _written_as("true|false", "true or false is needed")]
ShortText = Annotated[str, Field(min_length=1, max_length=200)]
# One line that says something.
OneLine = Annotated[ShortText, Field(pattern=r"^[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*$")]
Cursor = Annotated[UUID | None, Field(description="`next` of the answer before")]
_Moment = Annotated[AwareDatetime, BeforeValidator(written_out)]
# What stands in the query for a Filter, but for its status, of which each call takes its own.
_FILTER: dict[str, Any] = {
    "order_id": (ShortText | None, None),
    "sku": (ShortText | None, None),
    "token_id": (ShortText | None, None),
    "error_class": (ShortText | None, None),
    "in_doubt": (YesNo, False),
    "since": (Annotated[_Moment | None, Field(description="recorded at or after this time")], None),
    "until": (Annotated[_Moment | None, Field(description="recorded before this time")], None),
}


def call(
    route: Callable[..., Any], rule: str, answer: Any, *faults: int
) -> Callable[[Callable[..., Any]], Any]:
    """Decorator of a view, for one call: what the view returns is shown as `answer`; it may end with `faults` too.

    The view's parameters are the call's, in the order in which the document shows them: what `rule` names is taken
    from the path, `body` from the body, all others from the query. `wanted`, a Filter, is made of several.
    """

    def decorate(view: Callable[..., Any]) -> Any:
        parameters = inspect.signature(view).parameters
        fields: dict[str, Any] = {}
        for name, each in parameters.items():
            fields |= (
                _FILTER
                if name == "wanted"
                else {name: (each.annotation, ... if each.default is each.empty else each.default)}
            )
        body_model = {"body": fields.pop("body")[0]} if "body" in fields else {}

        @wraps(view)
        def shown(path: BaseModel, query: BaseModel, **body: BaseModel) -> Response:
            given = dict(path) | dict(query) | body
            if "wanted" in parameters:
                given["wanted"] = Filter(**{name: given.pop(name) for name in _FILTER})
            return Response(
                answer.model_validate(view(**given), from_attributes=True).model_dump_json(),
                mimetype="application/json",
            )

        shown.__annotations__ = body_model | {
            "path": create_model("Path", **{name: fields.pop(name) for name in re.findall(r"(\w+)>", rule)}),
            "query": create_model("Query", __config__={"extra": "forbid"}, **fields),
        }
        return route(rule, responses={200: answer, **dict.fromkeys(faults, Fault)})(shown)

    return decorate


# What every call refuses


@stock_sync.before_request
@orders.before_request
def refuse_what_is_given_twice() -> None:
    """Refuse parameters that are given twice, of which the models see one."""
    for name, values in request.args.lists():
        if len(values) > 1:
            abort(400, f"{name}: given {len(values)} times")


@orders.before_request
def refuse_what_is_no_document() -> None:
    """Refuse bodies that are no JSON object, each of which is an error of its own."""
    request.max_content_length = 2 * 1024 * 1024
    try:
        body = request.get_json()  # it answers 415 for another Content-Type
    except RecursionError:
        body = None
    if not isinstance(body, dict):
        abort(400, "The body must be one JSON object.")


def say_faults(error: ValidationError) -> Response:
    """What the models found wrong, as every other error is said."""
    return make_response(jsonify(detail="; ".join(map(fault_in_words, error.errors(include_url=False)))), 400)


class Json(DefaultJSONProvider):
    """JSON in which 5.0 is 5, as the standard has it: it knows numbers, not kinds of them."""

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        return super().loads(
            s,
            parse_float=lambda text: int(float(text)) if float(text).is_integer() else float(text),
            **kwargs,
        )


# What there is to read about them


@docs.get("/api/v1/openapi.json")
def document() -> Any:
    """The OpenAPI document."""
    return jsonify(cast(OpenAPI, current_app).api_doc)


@docs.get("/docs")
def page() -> str:
    """The docs in a browser."""
    return render_template("docs.html")
