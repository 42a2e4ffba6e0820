"""The demo as its user runs it: a program of its own, which says how it ended and leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from tests.servers import wait_until

PROJECT = Path(__file__).parents[2]
FORMS = [
    json.loads(line)
    for line in (PROJECT / "stocksync/sandbox/data/orders.jsonl").read_text(encoding="utf-8").splitlines()
]
STOCK_LINES = sum(
    line["offer"]["external"] is not None
    for form in FORMS
    if form["status"] == "READY_FOR_PROCESSING"
    for line in form["lineItems"]
)
BOUND = 150
"""Seconds: the demo ends by itself within two minutes."""
ELSEWHERE = {
    "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/theirs",
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "ALLEGRO_MICROSERVICE_BASE_URL": "http://127.0.0.1:1",
    "STOCK_SYNC_RETRY_MAX_ATTEMPTS": "not a number",
    "http_proxy": "http://127.0.0.1:1",
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(BOUND + 30)]


@dataclass
class Demo:
    """A started demo. Processes that descend from it carry `mark` in their environment, as far as they keep one."""

    process: subprocess.Popen[str]
    mark: str
    folder: Path
    stderr: Path
    seen: set[psutil.Process] = field(default_factory=set)

    def said(self) -> str:
        """What it has said on stderr so far."""
        return self.stderr.read_text(encoding="utf-8")

    def look(self) -> str:
        """The command lines of its descendants now, each remembered."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self.seen.update(psutil.Process(self.process.pid).children(recursive=True))
        return "\n".join(_command(process) for process in self.seen)

    def finish(self) -> tuple[int, str]:
        """Wait for its end, with an eye on its processes; its exit code and stdout."""

        deadline = time.monotonic() + BOUND
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"not ended within {BOUND} s:\n{self.said()}"
            self.look()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.1)
        return self.process.returncode, self.process.communicate(timeout=10)[0]

    def survivors(self) -> list[str]:
        """Its processes that live, wherever they hang now."""
        marked = {process for process in psutil.process_iter() if _mark(process) == self.mark}
        return [_command(process) for process in self.seen | marked if _lives(process)]

    def left_behind(self) -> list[object]:
        """Processes, temporary folders, and what it wrote where it was called."""
        return [*self.survivors(), *(self.folder / "t").iterdir(), *(self.folder / "here").iterdir()]


@contextlib.contextmanager
def demo(folder: Path, *options: str, **variables: str) -> Iterator[Demo]:
    """Start the demo in an empty folder that is not the project's, without any settings but `variables`."""
    for name in ("here", "t"):
        (folder / name).mkdir()
    mark = uuid4().hex
    names = ("STOCK_SYNC_", "ALLEGRO_MICROSERVICE_", "DATABASE_URL", "REDIS_URL")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(names)}
    environment |= {"PYTHONPATH": str(PROJECT), "TMPDIR": str(folder / "t"), "DEMO_MARK": mark} | variables
    stderr = folder / "stderr"
    with stderr.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "stocksync", "demo", *options],
            cwd=folder / "here",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            encoding="utf-8",
        )
    started = Demo(process, mark, folder, stderr)
    try:
        yield started
    finally:
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=30)


@pytest.fixture(scope="module")
def staying(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """A demo that stays up, though everything of the environment points elsewhere."""
    with demo(tmp_path_factory.mktemp("staying"), **ELSEWHERE) as run:
        yield run


@pytest.mark.usefixtures("redis_server", "staying")
def test_everything_is_delivered_and_the_last_line_is_its_proof(tmp_path: Path) -> None:
    """Beside another demo, too."""
    with demo(tmp_path, "--exit") as run:
        code, out = run.finish()
        assert code == 0, f"{out}\n{run.said()}"
        assert json.loads(out.splitlines()[-1]) == {
            "orders": len(FORMS),
            "operations": STOCK_LINES,
            "completed": STOCK_LINES,
            "failed": 0,
            "pending": 0,
            "lost": 0,
            "remote_agrees": True,
        }
        assert "every promise holds" in out
        assert "Traceback" not in run.said()
        assert "\r" not in run.said(), "no progress bars on a pipe"
        assert run.left_behind() == []


@pytest.mark.usefixtures("redis_server")
def test_it_stays_up_until_told_to_stop_whatever_the_environment_points_at(staying: Demo) -> None:
    wait_until(lambda: "the page stays at" in staying.said(), BOUND, lambda: f"a report\n{staying.said()}")
    page = staying.said().partition("the page stays at ")[2].split()[0]
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(page, timeout=10) as answer:
        assert answer.status == 200
    commands = staying.look()
    assert all(
        name in commands for name in ("gunicorn", "stocksync worker", "stocksync scheduler", "redis-server")
    )

    staying.process.send_signal(signal.SIGTERM)
    code, out = staying.finish()

    assert code == 0, f"{out}\n{staying.said()}"
    assert f"{STOCK_LINES} completed, 0 failed, 0 waiting, 0 lost" in out
    assert staying.left_behind() == []


@pytest.mark.usefixtures("redis_server")
def test_told_to_stop_on_the_way_it_ends_everything(tmp_path: Path) -> None:
    with demo(tmp_path, "--exit") as run:
        wait_until(lambda: "goes down" in run.said(), BOUND, lambda: f"the outage\n{run.said()}")
        assert run.look()

        run.process.send_signal(signal.SIGINT)
        code, out = run.finish()

        assert code == 1
        assert out == ""
        assert run.said().splitlines()[-1] == "stopped"
        assert run.left_behind() == []


def test_an_occupied_port_is_said_in_words(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as occupant:
        port = occupant.getsockname()[1]
        with demo(tmp_path, "--exit", "--port", str(port)) as run:
            code, out = run.finish()
            assert code != 0
            assert out == ""
            assert run.said() == f"error: port {port} on 127.0.0.1 is taken; choose another with --port\n"
            assert run.left_behind() == []


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return f"process {process.pid}"


def _mark(process: psutil.Process) -> str | None:
    try:
        return process.environ().get("DEMO_MARK")
    except (psutil.Error, OSError):
        return None


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
