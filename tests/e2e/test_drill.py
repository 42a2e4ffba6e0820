"""The drill in its short form; and that each of its checks can fail, and says what does."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.drill.caller import SKUS, WAREHOUSE, Caller, Calls
from benchmarks.drill.checks import GROWTH, Facts, check, leaks, out_of_turn
from benchmarks.drill.faults import every_fault
from benchmarks.drill.gather import Books, document
from benchmarks.drill.journal import Journal, Kept
from benchmarks.drill.releases import Releases
from benchmarks.drill.remote import JournalledSandbox
from benchmarks.drill.report import document as outcome_document, lines
from benchmarks.drill.run import Plan, UnknownFault, chosen, draw, play
from benchmarks.drill.settings import IN_STOCK
from stocksync import StockSyncConfig
from stocksync.runtime import Runtime
from stocksync.store.context import Wakeups
from stocksync.store.migrate import migrate
from tests.processes import ROOT, run_command
from tests.remote_orders import set_orders
from tests.servers import wait_until


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the drill reads /proc")
def test_the_short_drill_holds(tmp_path: Path) -> None:
    said: list[str] = []
    names = ("worker killed", "Redis flushed", "remote resets", "caller killed")
    plan = Plan(0, "sqlite", 5, names, warm_up=1.0, namespaces=False, pace=0.4)

    outcome = play(plan, tmp_path, said.append)

    found = outcome_document(outcome)
    assert outcome.ok, "\n".join(lines(found))
    assert {row["fault"] for row in found["faults"]} == {fault.name for fault in chosen(every(), names)}
    assert all(row["calls"] for row in found["faults"])
    assert found["told"] > 50
    assert len(said) == len(names) + 2  # where the hosts are, a line for each, and that all is over


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the drill reads /proc")
def test_a_signal_ends_the_drill_and_all_of_its_processes(tmp_path: Path) -> None:
    words = ["--minutes", "5", "--faults", "Redis flushed", "--keep", str(tmp_path / "kept"), "--proxies"]
    drill = subprocess.Popen([sys.executable, "-m", "benchmarks.drill", *words], cwd=ROOT)
    try:
        wait_until(lambda: list(tmp_path.glob("kept/caller-1.jsonl")), 30.0, "a caller calls")
        drill.send_signal(signal.SIGINT)
        try:
            assert drill.wait(20) == 1
        except subprocess.TimeoutExpired:  # it came while the drill forked: one presses Ctrl-C again
            drill.send_signal(signal.SIGINT)
            assert drill.wait(20) == 1
    finally:
        drill.kill()
        drill.wait()
    assert [line for line in processes() if str(tmp_path) in line] == []
    assert str(tmp_path) not in Path("/proc/mounts").read_text()


def processes() -> list[str]:
    """The command line of every process that runs."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return found


def every() -> list[Any]:
    return every_fault(Releases(None, Path("unused")))


def test_each_fault_comes_once_before_any_comes_again() -> None:
    faults = every()
    drawn = draw(faults, random.Random(3))
    first, second = ([next(drawn).name for _ in faults] for _ in range(2))

    assert sorted(first) == sorted(second) == sorted(fault.name for fault in faults)
    assert first != second


def test_a_fault_that_nobody_knows_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UnknownFault, match="Redis flushed"):
        chosen(every(), ["the moon falls"])


# That the checks can fail


@dataclass
class Small:
    """A shop with forty calls of one caller, all of them delivered."""

    runtime: Runtime
    remote: JournalledSandbox
    folder: Path
    environment: dict[str, str]

    @property
    def journal(self) -> Path:
        return self.folder / "caller-1.jsonl"

    @property
    def told(self) -> Path:
        return self.folder / "remote.jsonl"

    def execute(self, statement: str) -> None:
        with self.runtime.database.transaction_scope():
            self.runtime.database.execute_sql(statement)

    def write(self, *entries: dict[str, Any]) -> None:
        for entry in entries:
            Journal(self.journal).write(at=time.monotonic(), **entry)

    def facts(self) -> Facts:
        def asked(*words: str) -> dict[str, Any]:
            return document(run_command([*words, "--json"], self.folder, self.environment).out)

        books = Books(self.environment)
        try:
            return books.facts(
                [self.journal], self.told, self.remote.orders(), IN_STOCK, audit=asked("audit"),
                reconciliation=asked("reconcile", "--dry-run"),
                leaks=leaks(self.folder, {"token": "a-token-of-the-test"}),
            )  # fmt: skip
        finally:
            books.close()


@pytest.fixture
def small(tmp_path: Path, sqlite_url: str) -> Iterator[Small]:
    with JournalledSandbox("a-token-of-the-test", tmp_path / "remote.jsonl") as remote:
        environment = {
            "DATABASE_URL": sqlite_url,
            "ALLEGRO_MICROSERVICE_BASE_URL": remote.url,
            "ALLEGRO_MICROSERVICE_JWT_TOKEN": "a-token-of-the-test",
            "STOCK_SYNC_RECONCILIATION_GRACE_SECONDS": "0",
        }
        runtime = Runtime(StockSyncConfig.load(environment), wakeups=Wakeups())
        migrate(runtime.database)
        runtime.inventory.set_on_hand(dict.fromkeys(SKUS, IN_STOCK), WAREHOUSE)
        small = Small(runtime, remote, tmp_path, environment)
        caller = Caller("caller-1", Calls(runtime), Journal(small.journal), Kept(), random.Random(4))
        for number in range(40):
            caller.do(caller.next(), lambda: True)
            if number % 10 == 9:
                runtime.service.process_pending_operations(1000)
        yield small
        runtime.close()


def broken(facts: Facts) -> dict[str, str]:
    """The checks that do not hold, with what they say."""
    return {each.name: "\n".join(each.said) for each in check(facts) if not each.held}


def test_where_nothing_is_wrong_every_check_holds(small: Small) -> None:
    facts = small.facts()

    assert broken(facts) == {}
    kinds = {(operation.kind, operation.status) for operation in facts.operations}
    assert kinds >= {("deduction", "completed"), ("refund", "completed")}


def lost_operation(small: Small) -> None:
    line = ["caller-1-90-line-0", "SKU-07", 2]
    do = {"what": "sell_form", "order": "caller-1-90", "token": "seller-1", "lines": [line]}
    small.write({"do": do}, {"done": {"said": "queued", "operations": ["none-such"]}, "seconds": 0.1})


def doubled_movement(small: Small) -> None:
    columns = "warehouse, sku, delta, balance_after, cause, operation_id, created_at"
    small.execute(
        f"INSERT INTO stock_sync_movements (id, cause_key, {columns})"
        f" SELECT 'f' || substr(id, 2), 'again', {columns} FROM stock_sync_movements"
        " WHERE operation_id IS NOT NULL LIMIT 1"
    )


def failed_operation(small: Small) -> None:
    small.execute(
        "UPDATE pending_stock_operations SET status = 'failed', completed_at = NULL WHERE id ="
        " (SELECT id FROM pending_stock_operations WHERE status = 'completed' LIMIT 1)"
    )


def wrong_level(small: Small) -> None:
    small.execute("UPDATE stock_sync_levels SET on_hand = on_hand - 1 WHERE sku = 'SKU-00'")


def other_flag(small: Small) -> None:
    row = small.remote.orders()[0]
    set_orders(small.remote, [row | {"is_stock_updated": not row["is_stock_updated"], "updated_at": None}])


def untold_delivery(small: Small) -> None:
    small.told.write_text("".join(small.told.read_text().splitlines(keepends=True)[:-1]))


def unknown_order(small: Small) -> None:
    Journal(small.told).write(at=1.0, token="seller-1", order="nobody's", flag=True, key="k:1", again=False)


def error_without_cause(small: Small) -> None:
    small.write({"raised": "DatabaseUnavailable"})


def open_call(small: Small) -> None:
    small.write({"do": {"what": "cancel", "order": "caller-1-0", "token": "seller-1"}})


def refused_call(small: Small) -> None:
    open_call(small)
    small.write({"refused": "OrderCancelled: it is"})


def secret_in_a_log(small: Small) -> None:
    (small.folder / "worker-1.log").write_text("Authorization: Bearer a-token-of-the-test\n")


@pytest.mark.parametrize(
    ("spoil", "name", "words"),
    [
        (lost_operation, "every recorded operation", "caller-1-90"),
        (lost_operation, "stock levels", "SKU-07"),
        (doubled_movement, "no operation moved stock twice", "2 times"),
        (doubled_movement, "the audit", "movement"),
        (failed_operation, "every recorded operation", "failed"),
        (wrong_level, "stock levels", "SKU-00"),
        (wrong_level, "the audit", "level_differs"),
        (other_flag, "the remote's flag", "the remote holds"),
        (other_flag, "reconciliation", "order"),
        (untold_delivery, "what we hold for delivered", "lacks it"),
        (unknown_order, "what we hold for delivered", "nobody's"),
        (error_without_cause, "no call raised", "DatabaseUnavailable"),
        (open_call, "every call returned", "never returned"),
        (refused_call, "every call returned", "OrderCancelled"),
        (secret_in_a_log, "no file of the drill holds a secret", "worker-1.log holds the secret `token`"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(small: Small, spoil: Callable[[Small], None], name: str, words: str) -> None:
    spoil(small)

    said = broken(small.facts())

    assert [what for check, what in said.items() if check.startswith(name) and words in what], said


def test_what_the_remote_applied_out_of_turn_may_be_repaired() -> None:
    told = [
        {"token": "s", "order": "a", "flag": flag, "key": f"s:a:{version}", "again": again}
        for flag, version, again in ((False, 2, False), (True, 1, False), (False, 3, False))
    ]
    assert out_of_turn(told) == {("s", "a")}
    assert out_of_turn([told[0], told[1] | {"again": True}]) == out_of_turn(told[::2]) == set()
    assert broken(Facts({}, 0, [], {}, {}, [], {("s", "a"): False}, [], repaired=[("s", "a")])) != {}


@pytest.mark.parametrize(
    ("fact", "value", "name"),
    [
        ("drained_after", None, "deliveries went on"),
        ("stuck_after", ["no delivery"], "deliveries went on"),
        ("memory", (1, 2 + GROWTH), "memory"),
        ("ended", [(50.0, "worker-1 ended")], "no process ended"),
        ("repaired", [("seller-1", "caller-1-3")], "reconciliation repaired only"),
        ("page_answers", False, "the page"),
    ],
)
def test_what_the_drill_saw_itself_counts_too(fact: str, value: object, name: str) -> None:
    facts = Facts({}, 0, [], {}, {}, [], {}, [], database_hurt=[(10.0, 20.0)], ended=[(12.0, "worker-2")])
    assert broken(facts) == {}
    setattr(facts, fact, value)

    assert [check.startswith(name) for check in broken(facts)] == [True]
