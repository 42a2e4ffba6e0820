"""The wheel as a monolith takes it: one name in site-packages, light by default, beside `jobs` and `web` of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest
from redis import Redis

from bin.distributions import build
from stocksync import __version__
from stocksync.queue.wakeups import StockSyncJob, make_queue
from stocksync.sandbox import Sandbox
from tests.processes import ROOT, Processes
from tests.servers import free_port, wait_until
from tests.shop import form

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SHIPPED = ("stocksync", "web", "pyproject.toml", "README.md", "LICENSE")
EPOCH = 1_780_000_000
MOST_PACKAGES, MOST_MEGABYTES = 15, 30
# A monolith's own packages, of the names that stocksync's checkout has too.
MONOLITH = {
    "jobs/__init__.py": "",
    "jobs/worker.py": "raise SystemExit('this is the worker of the monolith')",
    "jobs/letters.py": "def send(path):\n    open(path, 'w').write('sent')\n",
    "web/__init__.py": "raise SystemExit('this is the page of the monolith')",
    "sell.py": """
import json, sys
from rq import Queue
from stocksync import Runtime, StockSyncConfig
import jobs.letters

runtime = Runtime(StockSyncConfig.load())
runtime.inventory.add("A", "Ирина", 5)
print(runtime.orders.process_order_stock_update(json.load(sys.stdin)).status)
Queue("letters", connection=runtime.connect_redis()).enqueue("jobs.letters.send", "letter")
""",
}


class Installed(Processes):
    """An empty virtual environment outside the checkout, and a monolith's folder in which its commands run."""

    def __init__(self, folder: Path) -> None:
        self.venv = folder / "venv"
        self.monolith = folder / "monolith"
        for name, text in MONOLITH.items():
            path = self.monolith / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", self.venv], check=True)
        self.sdist, self.wheel = build(copy_of_the_checkout(folder / "source"), folder, EPOCH)
        # The versions of the lock, so that this is the same tomorrow.
        lock = (ROOT / "requirements-dev.txt").read_text()
        self.constraints = folder / "constraints.txt"
        self.constraints.write_text("\n".join(re.findall(r"^[\w.\[\]-]+==[^\\\n]*", lock, re.M)))
        self.environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        self._running = []
        self.folder = self.monolith

    def install(self, extras: str = "", *options: str) -> None:
        """The wheel with `extras`, as `pip install` does."""
        python = str(self.venv / "bin/python")
        pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
        what = ["-q", "-c", str(self.constraints), *options, f"stocksync{extras} @ {self.wheel.as_uri()}"]
        done = subprocess.run(
            [*pip, "install", *what],
            capture_output=True, text=True, check=False, timeout=240,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def run(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """A program of the environment, in the monolith's folder."""
        return subprocess.run(
            [str(self.venv / "bin" / words[0]), *words[1:]],
            cwd=self.monolith, env=self.environment, input=stdin,
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    def begin(self, *words: str) -> None:
        """A program of the environment that runs until it is ended."""
        with (self.monolith / f"{'-'.join(words[:2])}.log").open("wb") as out:
            program = [str(self.venv / "bin" / words[0]), *words[1:]]
            process = subprocess.Popen(
                program, cwd=self.monolith, env=self.environment, stdout=out, stderr=out
            )
        self._running.append(process)

    def site_packages(self) -> Path:
        """Where everything was installed."""
        return next(self.venv.glob("lib/python*/site-packages"))


def copy_of_the_checkout(source: Path) -> Path:
    """What is built from, at `source`, so that nothing is left in the checkout."""
    source.mkdir(parents=True)
    for name in SHIPPED:
        ours = ROOT / name
        if ours.is_dir():
            shutil.copytree(ours, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ours, source)
    return source


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel and what it needs by default."""
    made = Installed(tmp_path_factory.mktemp("wheel"))
    made.install()
    return made


@pytest.fixture(scope="module")
def migrated(installed: Installed) -> str:
    """What `migrate` says there, of the database in the monolith's folder."""
    return installed.run("stocksync", "migrate").stdout


@pytest.fixture
def whole(installed: Installed, redis_url: str, tmp_path: Path) -> Iterator[tuple[Installed, Sandbox]]:
    """The wheel with every part, an empty shop, and the microservice. After this the venv is not the default one."""
    installed.install("[all]", "--no-compile")  # of most packages little is imported
    with Sandbox(token="sandbox") as remote:
        installed.environment |= {
            "DATABASE_URL": f"sqlite:///{tmp_path / 'shop.sqlite3'}",
            "REDIS_URL": redis_url,
            "ALLEGRO_MICROSERVICE_BASE_URL": remote.url,
            "ALLEGRO_MICROSERVICE_JWT_TOKEN": "sandbox",
            "NO_PROXY": "127.0.0.1",
        }
        try:
            yield installed, remote
        finally:
            installed.__exit__()


def test_the_wheel_brings_one_name_with_all_its_files(installed: Installed) -> None:
    names = ZipFile(installed.wheel).namelist()

    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"stocksync"}
    for needed in ("py.typed", "web/templates/base.html", "web/static/page.css", "sandbox/data/orders.jsonl",
                   "web/translations/ru/LC_MESSAGES/messages.mo", "store/migrations/0001_initial.py"):  # fmt: skip
        assert f"stocksync/{needed}" in names


def test_the_same_source_is_built_into_the_same_bytes(installed: Installed, tmp_path: Path) -> None:
    """Checked out by somebody else, at another time, with another umask."""
    source = copy_of_the_checkout(tmp_path / "elsewhere" / "source")
    for path in source.rglob("*"):
        if path.is_file():
            path.chmod(0o600 | (path.stat().st_mode & 0o100))
            os.utime(path, (EPOCH - 7, EPOCH - 7))

    built = build(source, tmp_path, EPOCH)

    assert [one.name for one in built] == [installed.sdist.name, installed.wheel.name]
    assert [one.read_bytes() for one in built] == [installed.sdist.read_bytes(), installed.wheel.read_bytes()]


def test_it_says_its_licence_and_brings_the_licences_of_what_it_ships(installed: Installed) -> None:
    with ZipFile(installed.wheel) as wheel:
        about = {name.partition(".dist-info/")[2]: name for name in wheel.namelist()}
        metadata = wheel.read(about["METADATA"]).decode()

    assert f"\nVersion: {__version__}\n" in metadata
    assert "\nLicense-Expression: MIT AND 0BSD\n" in metadata
    vendored = [path.name for path in (ROOT / "web/static/vendor").glob("*.LICENSE")]
    for name in ("LICENSE", *(f"stocksync/web/static/vendor/{one}" for one in vendored)):
        assert f"licenses/{name}" in about


def test_by_default_it_is_light(installed: Installed) -> None:
    folder = installed.site_packages()
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

    assert len(list(folder.glob("*.dist-info"))) <= MOST_PACKAGES
    assert size / 2**20 <= MOST_MEGABYTES


def test_importing_it_loads_neither_rq_nor_anything_slow(installed: Installed) -> None:
    said = installed.run(
        "python", "-c", "import stocksync, sys; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    )

    assert not {"rq", "redis", "peewee", "pydantic", "click"} & set(said.stdout.split())
    assert "stocksync" in said.stdout.split()


def test_a_caller_needs_no_extra(installed: Installed, migrated: str) -> None:
    assert migrated.startswith("applied")
    installed.run("stocksync", "stock", "import", "/dev/stdin", stdin="sku,warehouse,quantity\nA,Ирина,5\n")

    taken = installed.run(
        "stocksync", "orders", "process", "-", stdin=json.dumps(form("o-1", {"l": ("A", 2)}))
    )

    assert taken.returncode == 0, taken.stderr
    assert (
        json.loads(installed.run("stocksync", "status", "--json").stdout)["statistics"]["pending_operations"]
        == 1
    )


@pytest.mark.parametrize(
    ("words", "setting", "extra"),
    [
        ("worker", {"ALLEGRO_MICROSERVICE_BASE_URL": "http://127.0.0.1:9"}, "worker"),
        ("scheduler", {}, "worker"),
        ("web", {}, "web"),
        ("status", {"DATABASE_URL": "postgresql://nobody@127.0.0.1:9/x"}, "postgresql"),
        ("monitor", {"STOCK_SYNC_ALERT_URLS": "tgram://1:x/1"}, "alerts"),
    ],
)
def test_a_missing_part_is_said_in_one_sentence_with_the_command_to_run(
    installed: Installed,
    migrated: str,
    monkeypatch: pytest.MonkeyPatch,
    words: str,
    setting: dict[str, str],
    extra: str,
) -> None:
    monkeypatch.setattr(installed, "environment", installed.environment | setting)

    said = installed.run("stocksync", words)

    assert said.returncode == 2
    assert re.fullmatch(rf"\S+ is not installed: run `pip install 'stocksync\[{extra}\]'`\n", said.stderr)


def test_beside_a_monolith_with_jobs_and_web_of_its_own_an_order_is_sold_delivered_and_seen(
    whole: tuple[Installed, Sandbox], redis_url: str
) -> None:
    installed, remote = whole
    port = free_port()
    installed.run("stocksync", "migrate")
    queue = make_queue(Redis.from_url(redis_url), "stock-sync")
    old = StockSyncJob.create("jobs.periodic.sweep", connection=queue.connection, origin=queue.name)
    queue.enqueue_job(old)

    for words in (("worker",), ("scheduler",), ("web", "--host", "127.0.0.1", "--port", str(port))):
        installed.begin("stocksync", *words)
    installed.begin("rq", "worker", "letters", "--url", redis_url)
    sold = installed.run("python", "sell.py", stdin=json.dumps(form("o-1", {"l": ("A", 2)})))

    assert sold.stdout == "queued\n", sold.stderr
    wait_until(
        lambda: [row for row in remote.orders() if row["is_stock_updated"]],
        timeout=30,
        message=installed.logs,
    )
    wait_until((installed.monolith / "letter").exists, message=installed.logs)
    wait_until(lambda: old.get_status(refresh=True) == "finished", message=installed.logs)
    wait_until(lambda: "o-1" in page(port), timeout=20, message=installed.logs)


def page(port: int) -> str:
    """The list of delivered operations; empty while nobody answers."""
    try:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{port}/operations?status=completed", timeout=5
        ) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""
