"""A client of the stand-in microservice, to test it with."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import requests

from stocksync.sandbox import Sandbox

NOON = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)


class Client:
    """What a sender would do, in short: one kept-alive session with a bearer."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.url = sandbox.url
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["Authorization"] = "Bearer abc"

    def tell(
        self, order_id: str, flag: bool = True, key: str | None = None, token_id: str = "t1"
    ) -> requests.Response:
        body = json.dumps({"token_id": token_id, "is_stock_updated": flag}).encode()
        return self.put(f"/orders/{order_id}/stock-status", body, {"Idempotency-Key": key} if key else None)

    def put(
        self, path: str, body: bytes, headers: dict[str, str] | None = None, timeout: float = 2
    ) -> requests.Response:
        url = f"{self.url}{path}"
        return self.session.put(url, data=body, headers=headers, timeout=timeout, allow_redirects=False)

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.session.get(f"{self.url}{path}", **{"timeout": 2, **options})

    def listed(self, **query: Any) -> dict[str, Any]:
        answer = self.get("/orders", params={"token_id": "t1", **query})
        assert answer.status_code == 200, answer.text
        content: dict[str, Any] = answer.json()
        return content


def assert_refused(answer: requests.Response, status: int, word: str = "") -> None:
    """The answer has this status and the contract's own body, naming the word."""
    assert answer.status_code == status
    content = answer.json()
    assert content["success"] is False
    assert word in content["error"]
