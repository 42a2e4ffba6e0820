"""An operator at the page: `python -m benchmarks.soak.person`. Logs in, pages through the lists, reads stories, retries.

Over HTTP with a session and its token, one request after the other with a short rest between. A line for each page:
when, what kind, milliseconds, its error if any; and for each operation that was retried its order, as `retried`.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from pathlib import Path
from urllib.parse import quote, urlencode

from benchmarks.history_statements import POPULAR
from benchmarks.soak.journals import Span, Writer

REST = 0.15
"""Seconds between two pages."""
RETRY_EVERY = 60.0
RETRIED = 10
"""Failed operations in one bulk retry."""
_CSRF = re.compile(r'name="csrf" value="([^"]+)"')
_OPERATION = re.compile(r'href="/operations/([0-9a-f-]{36})"')
_ORDER = re.compile(r'href="(/orders/[^"?]+)"')


class Session:
    """One kept-alive connection with a cookie; every request is timed and written down."""

    def __init__(self, port: int, writer: Writer) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._writer = writer
        self._cookies: dict[str, str] = {}

    def ask(self, kind: str, path: str, form: list[tuple[str, str]] | None = None) -> str:
        """The text of the answer; empty after an error, which is written down. Redirects are not followed."""
        began, fault, text = time.monotonic(), "", ""
        try:
            text, status = self._answer(path, form)
            if status >= 400:
                fault = f"{path}: {status}"
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            fault = f"{path}: {type(error).__name__}: {error}"
        self._writer.write(f"{began:.6f}", kind, f"{(time.monotonic() - began) * 1000:.1f}", fault)
        return "" if fault else text

    def _answer(self, path: str, form: list[tuple[str, str]] | None) -> tuple[str, int]:
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items())}
        body = None
        if form is not None:
            body, headers["Content-Type"] = urlencode(form), "application/x-www-form-urlencoded"
        for attempt in (1, 2):
            try:
                self._connection.request("POST" if form is not None else "GET", path, body, headers)
                answer = self._connection.getresponse()
                break
            except ConnectionResetError:
                # The server closes a connection that rested for 2 s; a browser asks again on a new one.
                self._connection.close()
                if attempt == 2:
                    raise
        for name, value in answer.getheaders():
            if name.lower() == "set-cookie":
                name_value = value.split(";", 1)[0].partition("=")
                self._cookies[name_value[0]] = name_value[2]
        return answer.read().decode(), answer.status

    def log_in(self, name: str, password: str) -> None:
        """Raises RuntimeError: that did not work."""
        page = self.ask("login", "/login")
        token = _CSRF.search(page)
        if token is None:
            raise RuntimeError(f"no form to log in: {page[:500]}")
        self.ask("login", "/login", [("csrf", token[1]), ("name", name), ("password", password)])
        if "logout" not in self.ask("overview", "/"):
            raise RuntimeError("the login did not work")


def tour(session: Session) -> Iterator[Callable[[], None]]:
    """What an operator looks at, round after round: one thing at each turn."""
    seen: dict[str, list[str]] = {"operation": [], "order": []}

    def listed(kind: str, path: str) -> None:
        text = session.ask(kind, path)
        seen["operation"] = _OPERATION.findall(text) or seen["operation"]

    def story(kind: str, prefix: str) -> None:
        if seen[kind]:
            text = session.ask(f"{kind}'s story", prefix + seen[kind][0])
            seen["order"] = _ORDER.findall(text) or seen["order"]

    filters = (
        "",
        "status=completed",
        "status=failed",
        "status=pending",
        "age=day",
        f"q={POPULAR}",
        "q=seller-3",
    )
    sorts = ("created_at", "-created_at", "status", "-retry_count")
    for number in cycle(range(1, 401)):
        wanted, sort = filters[number % len(filters)], sorts[number % len(sorts)]
        yield partial(listed, "overview", "/")
        yield partial(listed, "list, filtered", f"/operations?{wanted}")
        yield partial(story, "operation", "/operations/")
        yield partial(listed, "list, sorted", f"/operations?{wanted}&sort={sort}")
        yield partial(story, "order", "")
        yield partial(listed, "list, next page", f"/operations?page={number}")
        yield partial(listed, "search", f"/operations?q={quote(f'soak-{number * 10}')}")
        yield partial(listed, "search", f"/operations?q=SKU-{number * 47 % 20_000}")
        yield partial(listed, "lanes", "/lanes")


def retry(session: Session, writer: Writer) -> None:
    """Choose some failed operations in the list, and have them delivered again."""
    page = session.ask("list, filtered", "/operations?status=failed")
    chosen = list(dict.fromkeys(_OPERATION.findall(page)))[:RETRIED]
    token = _CSRF.search(page)
    if not chosen or token is None:
        return
    for operation in chosen:
        document = session.ask("API operation", f"/api/v1/stock-sync/operations/{operation}")
        if document:
            writer.write(f"{time.monotonic():.6f}", "retried", json.loads(document)["order_id"], "")
    form = [("csrf", token[1]), ("back", "/operations?status=failed"), *(("id", each) for each in chosen)]
    session.ask("bulk retry", "/operations/bulk/retry", form)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser()
    for name, kind in (("start", float), ("seconds", float), ("port", int)):
        parser.add_argument(f"--{name}", type=kind, required=True)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--password", required=True)
    given = parser.parse_args()
    span = Span(given.start, given.seconds)
    with Writer(given.journal) as writer:
        session = Session(given.port, writer)
        span.wait()
        session.log_in(given.name, given.password)
        retried = time.monotonic() - RETRY_EVERY / 2
        for look in tour(session):
            if span.over():
                break
            look()
            if time.monotonic() - retried > RETRY_EVERY:
                retried = time.monotonic()
                retry(session, writer)
            time.sleep(REST)


if __name__ == "__main__":
    main()
