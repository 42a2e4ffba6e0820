"""The contract of the orders microservice, kept to the letter: turns a request into its answer."""

import base64
import hmac
import json
from collections.abc import Callable
from datetime import datetime

from .orders import Order, OrderBook, Outcome, Position, as_moment, as_text
from .tokens import why_refused
from .wire import Request, Response, contract_response, json_response, page_response

MAX_BODY_BYTES = 64 * 1024
_MAX_KEY_LENGTH = 255
_DEFAULT_LIMIT = 100
_MAX_LIMIT = 500
_SUCCESS = contract_response(200, None)


class Microservice:
    """Answers requests from an order book.

    The bearer must equal `token`, or be a JWT signed with `jwt_secret`; with neither, any bearer will do.
    """

    def __init__(
        self,
        book: OrderBook,
        clock: Callable[[], datetime],
        token: str | None = None,
        jwt_secret: str | None = None,
    ) -> None:
        self._book = book
        self._clock = clock
        self._token = token
        self._jwt_secret = jwt_secret

    def answer(self, request: Request) -> tuple[Response, Outcome | None]:
        """Return the answer, and what came of it in the order book (None: nothing was to be written)."""
        match request.method, request.segments:
            case "PUT", ("orders", order_id, "stock-status") if order_id:
                return self.refusal(request) or self._tell(request, order_id)
            case "GET", ("orders",):
                return self.refusal(request) or (self._list(request), None)
            case "GET", ("orders", order_id) if order_id:
                return self.refusal(request) or (self._show(request, order_id), None)
            case _, ("orders", order_id, "stock-status") if order_id:
                return page_response(405, "Method Not Allowed", ("Allow", "PUT")), None
            case _, ("orders",) | ("orders", _):
                return page_response(405, "Method Not Allowed", ("Allow", "GET")), None
        # A path that is not the contract's is answered as a framework does: a client pointed at the wrong
        # address must not take this for the word that an order does not exist.
        return page_response(404, "Not Found"), None

    def refusal(self, request: Request) -> tuple[Response, None] | None:
        """Return 401 for a request without a good bearer, None for one with it."""
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        bearer = bearer.strip()
        if scheme.lower() != "bearer" or not bearer:
            return _unauthorized("the header 'Authorization: Bearer <token>' is missing"), None
        if self._token is None and self._jwt_secret is None:
            return None
        if self._token is not None and hmac.compare_digest(bearer.encode(), self._token.encode()):
            return None
        if self._jwt_secret is None:
            return _unauthorized("the token is wrong"), None
        reason = why_refused(bearer, self._jwt_secret, self._clock())
        return (_unauthorized(reason), None) if reason else None

    def _tell(self, request: Request, order_id: str) -> tuple[Response, Outcome | None]:
        try:
            content = request.json()
        except ValueError:
            return contract_response(400, "the body is not JSON"), None
        if not isinstance(content, dict):
            return contract_response(400, "the body is not a JSON object"), None
        token_id, flag = content.get("token_id"), content.get("is_stock_updated")
        if not isinstance(token_id, str) or not token_id:
            return contract_response(400, "token_id is missing or not a text"), None
        if not isinstance(flag, bool):
            return contract_response(400, "is_stock_updated is missing or not true or false"), None
        key = request.headers.get("idempotency-key") or None
        if key is not None and len(key) > _MAX_KEY_LENGTH:
            return contract_response(400, f"Idempotency-Key is over {_MAX_KEY_LENGTH} characters"), None
        outcome = self._book.tell(token_id, order_id, flag, key, self._clock())
        if outcome is Outcome.UNKNOWN_ORDER:
            return _unknown(order_id), outcome
        if outcome is Outcome.KEY_CONFLICT:
            return contract_response(422, "this Idempotency-Key came before with other content"), outcome
        return _SUCCESS, outcome

    def _list(self, request: Request) -> Response:
        query = request.query
        if not query.get("token_id"):
            return contract_response(400, "token_id is missing")
        try:
            limit = int(query.get("limit") or _DEFAULT_LIMIT)
        except ValueError:
            limit = 0
        if not 1 <= limit <= _MAX_LIMIT:
            return contract_response(400, f"limit is a number from 1 to {_MAX_LIMIT}")
        try:
            since = as_moment(query["updated_since"]) if query.get("updated_since") else None
        except (ValueError, OverflowError):
            return contract_response(400, "updated_since is an ISO 8601 moment with its offset, URL-encoded")
        try:
            after = _decode_cursor(query["cursor"]) if query.get("cursor") else None
        except (ValueError, OverflowError):
            return contract_response(400, "cursor is not one given out here")
        orders, position = self._book.page(query["token_id"], limit, since, after)
        next_cursor = None if position is None else _encode_cursor(position)
        return json_response(
            200, {"orders": [_content(order) for order in orders], "next_cursor": next_cursor}
        )

    def _show(self, request: Request, order_id: str) -> Response:
        token_id = request.query.get("token_id")
        if not token_id:
            return contract_response(400, "token_id is missing")
        order = self._book.find(token_id, order_id)
        return _unknown(order_id) if order is None else json_response(200, _content(order))


def _content(order: Order) -> dict[str, object]:
    return {
        "id": order.order_id,
        "is_stock_updated": order.is_stock_updated,
        "updated_at": as_text(order.updated_at),
    }


def _unknown(order_id: str) -> Response:
    return contract_response(404, f"order {order_id} is not known")


def _unauthorized(error: str) -> Response:
    return contract_response(401, error, ("WWW-Authenticate", "Bearer"))


def _encode_cursor(position: Position) -> str:
    moment, order_id = position
    return base64.urlsafe_b64encode(json.dumps([as_text(moment), order_id]).encode()).decode()


def _decode_cursor(cursor: str) -> Position:
    """Return the position a cursor stands for; raises ValueError for one that was never given out."""
    content = json.loads(base64.b64decode(cursor, altchars=b"-_", validate=True))
    match content:
        case [str(moment), str(order_id)]:
            return as_moment(moment), order_id
    raise ValueError("not a cursor")
