"""The pictures of the documents, taken anew: `python -m tests.e2e.screens` writes docs/screens.

Of a shop in which everything has happened, as the operator anna sees it; needs Chromium and redis-server.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from redis import Redis

from stocksync import StockSyncConfig
from stocksync.credentials import hash_password
from stocksync.queue.wakeups import scheduler_lock
from stocksync.sandbox import Sandbox
from tests.e2e.stage import DESKTOP, PASSWORD, ROOT, browsing, visiting
from tests.page_shop import filled, serving
from tests.servers import RedisServer
from tests.shop import SELLER

FOLDER = ROOT / "docs" / "screens"
LOCALES = {"en": "en-GB", "pl": "pl-PL", "ru": "ru-RU"}


def pages(known: dict[str, UUID]) -> dict[str, str]:
    """The pages of the operator's guide, by the names of their pictures."""
    return {
        "overview": "/",
        "operations": "/operations?status=failed",
        "operation": f"/operations/{known['failed']}",
        "order": f"/orders/{SELLER}/refused-2",
        "reconciliation": "/reconciliation",
        "alerts": "/alerts",
        "stock": "/stock?sort=on_hand",
        "sellers": "/lanes",
    }


@contextmanager
def redis_with_processes(folder: Path) -> Iterator[str]:
    """The URL of a Redis in which a worker and a scheduler seem to live; real ones would deliver what is to be shown."""
    server = RedisServer(folder)
    server.start()
    try:
        config, connection = StockSyncConfig.load({}), Redis.from_url(server.url)
        connection.sadd(f"rq:workers:{config.queue_name}", "rq:worker:shown")
        connection.hset("rq:worker:shown", "last_heartbeat", f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}")
        connection.set(scheduler_lock(config.redis_prefix), "shown")
        yield server.url
    finally:
        server.stop()


def take() -> None:
    """Write every picture."""
    with tempfile.TemporaryDirectory() as name, redis_with_processes(Path(name)) as redis_url:
        url = f"sqlite:///{name}/shop.db"
        known, users = filled(url), f"anna:operator:{hash_password(PASSWORD)}"
        with (
            Sandbox(token="sandbox") as sandbox,
            serving(url, sandbox, REDIS_URL=redis_url, STOCK_SYNC_USERS=users) as address,
            browsing() as browser,
        ):
            shots = [
                (lang, "light", f"{lang}-{page}", path)
                for lang in LOCALES
                for page, path in pages(known).items()
            ]
            shots += [
                ("ru", "light", "overview", "/"),
                ("ru", "dark", "operations", "/operations?q=FILTR-04"),
            ]
            for language, theme, shot, path in shots:
                with visiting(browser, address, DESKTOP, theme=theme, locale=LOCALES[language]) as visitor:
                    visitor.log_in()
                    visitor.go(path)
                    visitor.page.wait_for_load_state("networkidle")
                    file = FOLDER / f"{shot}.png"
                    visitor.page.screenshot(path=file, full_page=True)
                    if pngquant := shutil.which("pngquant"):  # where it is: a third of the size
                        subprocess.run([pngquant, "--force", "--ext", ".png", "96", file], check=True)


if __name__ == "__main__":
    take()
