"""The recovery that docs/operations/backup.md describes: back up under traffic, lose the database, restore, repeat."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from stocksync.sandbox import Sandbox
from tests.processes import ROOT, Processes
from tests.server_programs import find_postgres
from tests.servers import PostgresServer

SELLER = "seller-1"
pytestmark = [pytest.mark.slow]


def order(number: int, status: str = "READY_FOR_PROCESSING") -> dict[str, Any]:
    """One line of one unit; a cancelled one is the later revision."""
    line = {"id": f"line-{number}", "quantity": 1, "offer": {"id": "1", "external": {"id": "ALARM-CLOCK"}}}
    hour, revision = (10, "r2") if status == "CANCELLED" else (9, "r1")
    return {
        "id": f"order-{number}", "token_id": SELLER, "status": status, "revision": revision,
        "updatedAt": f"2026-03-02T{hour:02}:00:00Z", "lineItems": [line],
    }  # fmt: skip


class Shop:
    """A shop whose database is backed up and lost."""

    def __init__(self, processes: Processes, sandbox: Sandbox) -> None:
        self.processes, self.sandbox, self.forms = processes, sandbox, list[dict[str, Any]]()

    def take(self, forms: Sequence[dict[str, Any]]) -> Any:
        """Process `forms`, as whoever reads Allegro's events does, and remember them as Allegro does."""
        self.forms += [form for form in forms if form not in self.forms]
        text = "".join(json.dumps(form) + "\n" for form in forms)
        return self.processes.command("orders", "process", "-", text=text)

    def told(self) -> dict[str, bool]:
        return {one["order_id"]: one["is_stock_updated"] for one in self.sandbox.orders()}

    def on_hand(self) -> int:
        levels = self.processes.command("stock", "show")["levels"]
        return int(levels[0]["on_hand"])

    def differences(self) -> set[tuple[str, str]]:
        runs = self.processes.command("reconcile", "--dry-run", code=None)["runs"]
        return {(one["kind"], one["order_id"]) for run in runs for one in run["discrepancies"]}

    def url(self, database: str) -> None:
        self.processes.environment["DATABASE_URL"] = database


@pytest.fixture
def shop(tmp_path: Path, database_url: str, redis_url: str) -> Iterator[Shop]:
    with (
        Sandbox("sandbox") as sandbox,
        Processes(
            tmp_path, database_url, redis_url, sandbox, STOCK_SYNC_RECONCILIATION_GRACE_SECONDS="0"
        ) as processes,
    ):
        (tmp_path / "stock.csv").write_text("sku,warehouse,quantity\nALARM-CLOCK,Ирина,1000\n")
        processes.command("stock", "import", "stock.csv")
        yield Shop(processes, sandbox)


def back_up(url: str, folder: Path) -> Path:
    """As the page says it: its own script for SQLite, pg_dump for PostgreSQL."""
    target = folder / "backup"
    if url.startswith("sqlite"):
        page = (ROOT / "docs/operations/backup.md").read_text(encoding="utf-8")
        script = page.split("<!-- file: backup.py -->\n```python\n")[1].split("```")[0]
        source = url.removeprefix("sqlite:///")
        subprocess.run([sys.executable, "-c", script, source, target], check=True, timeout=60)
    else:
        command = [str(client("pg_dump")), "--format=custom", f"--file={target}", url]
        subprocess.run(command, check=True, timeout=60)
    return target


def lose_and_restore(url: str, backup: Path, server: PostgresServer | None) -> str:
    """The database is gone; the URL of a new one with what the back-up holds."""
    if server is None:
        database = Path(url.removeprefix("sqlite:///"))
        for file in database.parent.glob(f"{database.name}*"):
            file.unlink()
        backup.rename(database)
        return url
    server.drop_database(url.rsplit("/", 1)[1])
    restored = server.url(server.create_database())
    command = [
        str(client("pg_restore")),
        "--exit-on-error",
        "--no-owner",
        f"--dbname={restored}",
        str(backup),
    ]
    subprocess.run(command, check=True, timeout=60)
    return restored


def client(name: str) -> Path:
    """A program of PostgreSQL that is as new as the server that the tests run."""
    folder = find_postgres()
    for place in (folder, (folder / "postgres").resolve().parent):
        if (place / name).exists():
            return place / name
    pytest.skip(f"the PostgreSQL of the tests comes without {name}")


def sell_while_backed_up(shop: Shop, url: str, folder: Path) -> Path:
    """Orders come in and a worker delivers while the back-up is taken."""
    selling = subprocess.Popen(
        [sys.executable, "-m", "stocksync", "orders", "process", "-"],
        env=shop.processes.environment, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    assert selling.stdin
    for number in range(100):
        shop.forms.append(order(number))
        selling.stdin.write(json.dumps(order(number)).encode() + b"\n")
        if number == 50:
            selling.stdin.flush()
            backup = back_up(url, folder)
    selling.stdin.close()
    assert selling.wait(60) == 0
    return backup


def test_what_a_restored_database_lacks_is_found_and_repeated(
    shop: Shop, database_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    server = None if database_url.startswith("sqlite") else request.getfixturevalue("postgres_server")
    shop.take([order(number) for number in range(20)])
    worker = shop.processes.start("jobs.worker")
    shop.processes.wait_for_rest()
    backup = sell_while_backed_up(shop, database_url, tmp_path)
    shop.take([order(3, "CANCELLED")])
    shop.processes.wait_for_rest()
    assert shop.processes.end(worker) == 0
    told, on_hand = shop.told(), shop.on_hand()
    assert (len(told), told["order-3"], on_hand) == (100, False, 901)

    shop.url(lose_and_restore(database_url, backup, server))

    # The books are those of the moment of the back-up, and the remote knows what happened since.
    assert shop.processes.command("audit")["ok"]
    found = shop.differences()
    assert ("missing_remote", "order-3") in found
    assert ("extra_remote", "order-99") in found
    assert {kind for kind, _ in found} == {"missing_remote", "extra_remote"}
    assert shop.told() == told  # nothing was sent

    # Everything that Allegro has is repeated, the known orders too.
    report = shop.take(list(shop.forms))
    assert report["refused"] == []
    shop.processes.command("deliver")
    assert (shop.told(), shop.on_hand()) == (told, on_hand)
    assert shop.processes.command("reconcile")["buckets"] == {"agrees": 100}
    assert shop.processes.command("audit")["ok"]


def test_a_cancellation_that_is_lost_holds_after_it_is_repeated_though_the_processes_started_first(
    shop: Shop, database_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The page says: repeat first, start later. This is what happens otherwise.

    The reconciliation has `True` sent under a state version that the remote knows with `False`, and is refused.
    """
    server = None if database_url.startswith("sqlite") else request.getfixturevalue("postgres_server")
    shop.take([order(1)])
    shop.processes.command("deliver")
    backup = back_up(database_url, tmp_path)
    shop.take([order(1, "CANCELLED")])
    shop.processes.command("deliver")
    shop.url(lose_and_restore(database_url, backup, server))

    assert shop.processes.command("reconcile")["fixed"] == 1
    shop.processes.command("deliver")
    shown = shop.processes.command("orders", "show", "order-1", "--token", SELLER)
    assert (shop.told(), shown["waiting"]) == ({"order-1": False}, "failed")

    shop.take([order(1, "CANCELLED")])
    shop.processes.command("deliver")
    shown = shop.processes.command("orders", "show", "order-1", "--token", SELLER)
    assert (shop.told(), shown["waiting"]) == ({"order-1": False}, None)
    assert shop.processes.command("audit")["ok"]
