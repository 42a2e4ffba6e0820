"""Another user of the same host: what `ps`, /proc, temporary files and folders show of running processes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import psutil
import pytest

from stocksync.queue.embedded import EmbeddedRedis
from stocksync.sandbox import Sandbox
from tests.integration.test_no_secret_is_kept import ALERTS, PING, SECRETS, SETTINGS, TOKEN
from tests.processes import Processes
from tests.quick_processes import flagged, take_orders
from tests.servers import free_port, wait_until

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="there is no /proc here")


def family(pids: list[int]) -> list[psutil.Process]:
    """These processes and all that they started."""
    found = [psutil.Process(pid) for pid in pids]
    return [*found, *(child for one in found for child in one.children(recursive=True))]


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_no_secret_stands_in_a_command_line_or_a_temporary_file(
    tmp_path: Path, database_url: str, redis_url: str
) -> None:
    port, temporary = free_port(), tmp_path / "temporary"
    temporary.mkdir()
    password = "password-of-the-database-41ab"
    settings = SETTINGS | {"TMPDIR": str(temporary), "PGPASSWORD": password}
    with (
        Sandbox(token=TOKEN) as sandbox,
        Processes(tmp_path, database_url, redis_url, sandbox, **settings) as shop,
    ):
        shop.command("stock", "import", "-", text="sku,warehouse,quantity\nA,Ирина,1000\n")
        modules = (("jobs.worker",), ("jobs.scheduler",), ("stocksync", "web", "--port", str(port)))
        pids = [shop.start(*words).pid for words in modules]
        take_orders(shop, range(3))
        wait_until(lambda: len(flagged(sandbox)) == 3, timeout=30, message="the deliveries")
        wait_until(lambda: len(family(pids)) >= 4, message="gunicorn's worker")

        shown = "\n".join(" ".join(one.cmdline()) for one in family(pids))
        modes = [stat.S_IMODE(Path(f"/proc/{one.pid}/environ").stat().st_mode) for one in family(pids)]

    assert "stocksync" in shown
    assert [secret for secret in (*SECRETS, ALERTS, PING, password, database_url) if secret in shown] == []
    assert {mode & 0o077 for mode in modes} == {0}
    assert list(temporary.rglob("*")) == []


def test_the_messenger_gets_its_addresses_by_its_input(
    tmp_path: Path, database_url: str, redis_url: str
) -> None:
    with (
        Sandbox(token=TOKEN) as sandbox,
        Processes(tmp_path, database_url, redis_url, sandbox, **SETTINGS) as shop,
    ):
        seen = tmp_path / "command-lines"
        # In the place of the program that sends: Python starts this first, wherever it starts.
        (tmp_path / "sitecustomize.py").write_text(
            f"import sys\nopen({str(seen)!r}, 'a').write(' '.join(sys.orig_argv) + '\\n')\n"
        )
        shop.environment["PYTHONPATH"] += f"{os.pathsep}{tmp_path}"
        process = shop.start("stocksync", "monitor")
        process.wait(60)

        lines = seen.read_text()
        assert "messenger" in lines
        assert [secret for secret in (*SECRETS, ALERTS, PING) if secret in lines] == []


def test_the_embedded_redis_listens_at_no_port(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "data") as redis:
        assert psutil.Process(redis.process.pid).net_connections("inet") == []
        for path in (redis.directory, redis.socket_path):
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
