"""The API against its own document: whatever is asked, the answer is one that the document promises, to every role."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from werkzeug.serving import make_server

from tests.integration.test_who_gets_in import KEYS, SETTINGS
from tests.shop import Shop, form, open_shop
from web import create_app

DOCUMENT = "/api/v1/openapi.json"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    url = f"sqlite:///{tmp_path_factory.mktemp('api') / 'shop.sqlite3'}"
    with open_shop(url, **SETTINGS) as opened:
        opened.stock(A=1000)
        opened.orders.process_order_stock_update(form())
        opened.deduct("order-2", line_item_id="1")
        yield opened


@pytest.fixture(scope="module")
def url(shop: Shop) -> Iterator[str]:
    """Of a server on a real socket."""
    server = make_server("127.0.0.1", 0, create_app(shop.runtime), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("role", ["operator", "reader"])
def test_every_answer_is_one_that_the_document_promises(url: str, role: str, tmp_path: Path) -> None:
    """Schemathesis: hundreds of good and bad requests for each call, and calls one after the other."""
    found = subprocess.run(
        [
            str(Path(sys.executable).parent / "schemathesis"),
            *("run", url + DOCUMENT, "--checks", "all", "--seed", "1", "--generation-deterministic"),
            *("--max-examples", "20", "--max-time", "90", "--suppress-health-check", "all", "--no-color"),
            *("-H", f"Authorization: Bearer {KEYS[role]}"),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )

    assert found.returncode == 0, found.stdout
