"""`up` as its user runs it: every process of the Procfile, on this machine alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.servers import free_port, wait_until

PROJECT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("redis_server")]


@contextmanager
def up(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """`stocksync up --with-sandbox` with its data in `folder`; what it says goes to `folder/out`."""
    names = ("STOCK_SYNC_", "ALLEGRO_MICROSERVICE_", "DATABASE_URL", "REDIS_URL")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(names)}
    options = ("--with-sandbox", "--port", str(port), "--sandbox-port", str(free_port()))
    with (folder / "out").open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "stocksync", "up", *options],
            cwd=PROJECT,
            env=environment | {"STOCK_SYNC_DATA_DIR": str(folder / "data")},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(timeout=40)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In the place of pytest's own, which may be too long for the socket of the embedded Redis."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def test_it_runs_everything_restarts_what_ends_and_stops_together(tmp_path: Path) -> None:
    def said() -> str:
        return (tmp_path / "out").read_text(errors="replace")

    def workers() -> list[psutil.Process]:
        found = []
        for child in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.Error):  # it ended meanwhile
                found += [child] if "jobs.worker" in child.cmdline() else []
        return found

    port = free_port()
    with up(tmp_path, port) as process:
        wait_until(lambda: _answers(port), 60, said)
        (first,) = wait_until(workers, 30, said)
        everything = psutil.Process(process.pid).children(recursive=True)
        assert any("redis-server" in " ".join(child.cmdline()) for child in everything)

        with up(tmp_path, free_port()) as second:
            assert second.wait(timeout=30) == 1
        assert f"a Redis answers in {tmp_path / 'data'} already" in said()

        first.kill()
        wait_until(lambda: workers() not in ([], [first]), 30, said)
        assert "worker was ended by SIGKILL; starting it again in 1 s" in said()

        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=40) == 0, said()
    assert not [child for child in everything if child.is_running()]


def _answers(port: int) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}/healthz", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
