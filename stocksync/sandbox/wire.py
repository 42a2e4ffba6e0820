"""HTTP/1.1 as the sandbox speaks it: reads a request from a stream, writes an answer as bytes."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, unquote

MAX_HEAD_BYTES = 64 * 1024
# So much of a body that is too long is still read: closing on unread bytes resets the connection,
# and the sender would see that instead of the answer.
_DISCARDED_BYTES = 4 * 1024 * 1024


class Unreadable(Exception):
    """The request cannot be read any further: answer with `status` and close."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status
        self.error = error


@dataclass(slots=True)
class Request:
    """One request. Header names are in lower case; path segments and query are decoded."""

    method: str
    segments: tuple[str, ...]
    query: dict[str, str]
    headers: dict[str, str]
    keep_alive: bool
    body: bytes = b""

    def json(self) -> Any:
        """Return the body as JSON; raises ValueError when it is not."""
        try:
            return json.loads(self.body)
        except RecursionError as error:
            raise ValueError("nested too deep") from error


@dataclass(slots=True)
class Response:
    """One answer. `headers` are those beyond length, type, date and connection."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


def json_response(status: int, content: Any, *headers: tuple[str, str]) -> Response:
    return Response(status, json.dumps(content, separators=(",", ":")).encode(), headers=headers)


def contract_response(status: int, error: str | None, *headers: tuple[str, str]) -> Response:
    """Return the contract's own answer; `error` None means success."""
    return json_response(status, {"success": error is None, "error": error}, *headers)


def page_response(status: int, title: str, *headers: tuple[str, str]) -> Response:
    """Return an HTML page, as a gateway or a framework answers: not the contract's."""
    body = f"<!doctype html><html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>\n"
    return Response(status, body.encode(), "text/html; charset=utf-8", headers)


async def read_request(reader: asyncio.StreamReader, body_limit: Callable[[Request], int]) -> Request | None:
    """Return the next request of a connection, or None when the client has gone.

    `body_limit` says how many bytes of body a request may carry. Raises `Unreadable`.
    """
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    except asyncio.LimitOverrunError:
        raise Unreadable(431, f"the headers are longer than {MAX_HEAD_BYTES} bytes") from None
    request = _parse_head(head)
    length = _body_length(request)
    if length == 0:
        return request
    limit = body_limit(request)
    if length > limit:
        await _discard(reader, min(length, _DISCARDED_BYTES))
        raise Unreadable(413, f"the body is longer than {limit} bytes")
    try:
        request.body = await reader.readexactly(length)
    except asyncio.IncompleteReadError:
        return None
    return request


def render_head(response: Response, date: str, length: int | None, keep_alive: bool) -> bytes:
    """Return status line and headers. `length` None announces a chunked body."""
    lines = [
        f"HTTP/1.1 {response.status} {_PHRASES.get(response.status, 'Unknown')}",
        f"Date: {date}",
        f"Content-Type: {response.content_type}",
        "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}",
        f"Connection: {'keep-alive' if keep_alive else 'close'}",
    ]
    lines.extend(f"{name}: {value}" for name, value in response.headers)
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


_PHRASES = {status.value: status.phrase for status in HTTPStatus}


def _parse_head(head: bytes) -> Request:
    request_line, *header_lines = head[:-4].decode("latin-1").split("\r\n")
    try:
        method, target, version = request_line.split(" ")
    except ValueError:
        raise Unreadable(400, "the request line is not HTTP") from None
    if version not in ("HTTP/1.1", "HTTP/1.0"):
        raise Unreadable(505, "only HTTP/1.0 and HTTP/1.1 are spoken here")
    headers = {}
    for line in header_lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise Unreadable(400, "a header has no colon")
        headers[name.lower()] = value.strip()
    path, _, query = target.partition("?")
    connection = headers.get("connection", "").lower()
    return Request(
        method=method,
        # Split before decoding: an order id may hold an encoded slash.
        segments=tuple(unquote(segment) for segment in path.split("/")[1:]),
        query=dict(parse_qsl(query, keep_blank_values=True)) if query else {},
        headers=headers,
        keep_alive=connection != "close" if version == "HTTP/1.1" else connection == "keep-alive",
    )


def _body_length(request: Request) -> int:
    if "transfer-encoding" in request.headers:
        raise Unreadable(411, "send the body with Content-Length, not chunked")
    length = request.headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit() and len(length) < 19):
        raise Unreadable(400, "Content-Length is not a number of bytes")
    return int(length)


async def _discard(reader: asyncio.StreamReader, count: int) -> None:
    while count > 0 and (chunk := await reader.read(min(count, MAX_HEAD_BYTES))):
        count -= len(chunk)
