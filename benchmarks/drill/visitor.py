"""Somebody at the page, asking twice a second whatever happens."""

from __future__ import annotations

import threading
from collections import Counter
from itertools import cycle

import urllib3

_PATHS = ("/healthz", "/api/v1/stock-sync/operations?limit=50", "/metrics", "/readyz")


class Visitor:
    """Asks inside the `with`. `answers`: status, or that there was none -> how often."""

    def __init__(self, port: int, key: str) -> None:
        """`key`: of the HTTP API."""
        self.answers = Counter[str]()
        self._base, self._headers = f"http://127.0.0.1:{port}", {"Authorization": f"Bearer {key}"}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._visit, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join(15)

    def is_served(self) -> bool:
        """Everything that it asks for is answered as it should be."""
        return all(self._ask(path) == "200" for path in _PATHS)

    def _ask(self, path: str) -> str:
        try:
            answer = urllib3.request(
                "GET", self._base + path, headers=self._headers, retries=False, timeout=10
            )
        except urllib3.exceptions.HTTPError:
            return "no answer"
        return str(answer.status)

    def _visit(self) -> None:
        for path in cycle(_PATHS):
            if self._closing.wait(0.5):
                return
            self.answers[self._ask(path)] += 1
