"""The API against its own document: whatever is asked, the answer is one that the document promises, to every role."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from werkzeug.serving import make_server

from stocksync.sandbox import Sandbox
from stocksync.web import create_app
from tests.logins import KEYS, SETTINGS
from tests.memory import quick_folder
from tests.shop import SELLER, START, Shop, form, open_shop


def remote_settings(remote: Sandbox) -> dict[str, str]:
    return {"ALLEGRO_MICROSERVICE_BASE_URL": remote.url, "ALLEGRO_MICROSERVICE_JWT_TOKEN": "sandbox"}


DOCUMENT = "/api/v1/openapi.json"


# The plan's code where an operation's status does not allow it is 400, which is otherwise for what no one may ask.
REFUSED_AS_PLANNED = """
[[operations]]
include-path-regex = "/(retry|cancel|confirm)"
checks.positive_data_acceptance.expected-statuses = ["2xx", 400, 403, 404, 409]

# No JSON schema can say that the ids of an order's lines differ.
[[operations]]
include-path-regex = "/orders/process"
checks.positive_data_acceptance.expected-statuses = ["2xx", 400, 403, 404, 409]
"""


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    """With some of everything, so that calls that follow others find what these named."""
    folder = quick_folder("stocksync-api-")
    url = f"sqlite:///{folder / 'shop.sqlite3'}"
    with Sandbox(token="sandbox") as remote, open_shop(url, **SETTINGS, **remote_settings(remote)) as opened:
        del opened.runtime.__dict__["sender"]
        opened.stock(A=1000)
        opened.orders.process_order_stock_update(form())
        for number in range(20):
            opened.deduct(f"order-{number + 2}", line_item_id="1")
        opened.runtime.deliveries.pause(SELLER, "asked for")
        opened.runtime.alerts.observe([("pending", "", {"count": 2000, "time": "now"})], [], START, START)
        yield opened
    shutil.rmtree(folder, ignore_errors=True)


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


@pytest.mark.slow
@pytest.mark.parametrize(("role", "seconds"), [("operator", 25), ("reader", 8)])
def test_every_answer_is_one_that_the_document_promises(
    url: str, role: str, seconds: int, tmp_path: Path
) -> None:
    """Schemathesis: hundreds of good and bad requests for each call, and calls one after the other."""
    settings = tmp_path / "schemathesis.toml"
    settings.write_text(REFUSED_AS_PLANNED)

    found = subprocess.run(
        [
            str(Path(sys.executable).parent / "schemathesis"),
            *(
                "--config-file",
                str(settings),
                "run",
                url + DOCUMENT,
                "--checks",
                "all",
                "--seed",
                "1",
                "--generation-deterministic",
            ),
            *(
                "--max-examples",
                "6",
                "--max-time",
                str(seconds),
                "--suppress-health-check",
                "all",
                "--no-color",
            ),
            *("-H", f"Authorization: Bearer {KEYS[role]}"),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )

    assert found.returncode == 0, found.stdout
