"""What the browser tests stand on: a Chromium, and a shop with all its real processes behind the page."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

from stocksync import StockSyncConfig
from stocksync.credentials import hash_password
from stocksync.runtime import Runtime
from stocksync.sandbox import Sandbox
from stocksync.store.migrate import migrate
from tests.processes import Processes
from tests.server_programs import ServerMissing
from tests.servers import free_port, wait_until

ROOT = Path(__file__).parent.parent.parent
SCREENS = ROOT / "build" / "screens"
AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text(encoding="utf-8")
DESKTOP, PHONE = (1280, 800), (390, 844)
PASSWORD = "correct horse battery"
# The flags without which Chromium tries to reach its maker's hosts.
_FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run", "--disable-component-update",
    "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip


def chromium() -> str:
    """The browser's path. Raises ServerMissing."""
    names = ("chromium", "chromium-browser", "google-chrome")
    for path in (os.environ.get("STOCKSYNC_CHROMIUM"), *map(shutil.which, names)):
        if path:
            return path
    raise ServerMissing("the tests of the page need Chromium; on Debian: apt-get install chromium")


@contextmanager
def browsing() -> Iterator[Browser]:
    """One browser for many tests."""
    path = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(_FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Visitor:
    """Somebody at the page. `faults`: what the browser complained of: scripts that broke, rules that were violated."""

    page: Page
    address: str
    faults: list[str] = field(default_factory=list)

    def go(self, path: str) -> None:
        self.page.goto(self.address + path)

    def log_in(self, name: str = "anna") -> None:
        self.go("/login")
        self.page.fill('input[name="name"]', name)
        self.page.fill('input[name="password"]', PASSWORD)
        self.page.click("form button.primary")
        self.page.wait_for_selector("header nav")

    def serious(self) -> list[str]:
        """What axe-core finds serious or critical on the page as it is."""
        self.page.evaluate(AXE)
        found = self.page.evaluate(
            "async () => (await axe.run(document, {resultTypes: ['violations']})).violations"
            ".filter(one => ['serious', 'critical'].includes(one.impact))"
            ".map(one => `${one.id}: ${one.nodes.slice(0, 3).map(node => node.target.join(' ')).join(', ')}`)"
        )
        return list(found)


@contextmanager
def visiting(
    browser: Browser,
    address: str,
    size: tuple[int, int] = DESKTOP,
    *,
    theme: str = "light",
    locale: str = "en-GB",
) -> Iterator[Visitor]:
    """A fresh profile; ends with no complaint of the browser, or fails."""
    context: BrowserContext = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if theme == "dark" else "light",
        locale=locale,
        timezone_id="Europe/Warsaw",
        bypass_csp=False,
    )
    page = context.new_page()
    page.set_default_timeout(15_000)
    visitor = Visitor(page, address)

    def complain(message: ConsoleMessage) -> None:
        # A page that answers 4xx is told by the browser too; that is no fault of the page's scripts.
        if message.type == "error" and "Failed to load resource" not in message.text:
            visitor.faults.append(message.text)

    page.on("console", complain)
    page.on("pageerror", lambda error: visitor.faults.append(str(error)))
    try:
        yield visitor
    finally:
        context.close()
    assert visitor.faults == []


class Shop(Processes):
    """Every process of the Procfile, with people who may log in, and a runtime on the same database to look with."""

    def __init__(self, folder: Path, database_url: str, redis_url: str, sandbox: Sandbox) -> None:
        hashed = hash_password(PASSWORD)
        users = f"anna:operator:{hashed}\nrita:reader:{hashed}"
        settings = {
            "STOCK_SYNC_USERS": users,
            "STOCK_SYNC_RETRY_INITIAL_DELAY": "0.2",
            "STOCK_SYNC_RETRY_MAX_DELAY": "0.4",
            "STOCK_SYNC_RETRY_MAX_ATTEMPTS": "2",
            "STOCK_SYNC_SWEEP_INTERVAL_SECONDS": "2",
        }
        super().__init__(folder, database_url, redis_url, sandbox, **settings)
        config = StockSyncConfig.load(self.environment | {"STOCK_SYNC_DATA_DIR": str(folder)})
        self.runtime = Runtime(config)
        migrate(self.runtime.database)
        self.address = f"http://127.0.0.1:{free_port()}"

    def open(self) -> None:
        """Start them."""
        self.start("jobs.worker")
        self.start("jobs.scheduler")
        port = self.address.rpartition(":")[2]
        words = [sys.executable, "-m", "stocksync", "web", "--host", "127.0.0.1", "--port", port]
        with (self.folder / "web.log").open("wb") as out:
            process = subprocess.Popen(words, env=self.environment, cwd=ROOT, stdout=out, stderr=out)
        self._running.append(process)
        wait_until(self._answers, timeout=30, message="the page")

    def close(self) -> None:
        """Give the runtime's connections back."""
        self.runtime.close()

    def _answers(self) -> bool:
        import urllib3

        try:
            return urllib3.request("GET", f"{self.address}/healthz", retries=False).status == 200
        except urllib3.exceptions.HTTPError:
            return False
