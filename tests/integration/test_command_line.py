"""`python -m stocksync`, run as a person runs it: what it prints, what its exit code says, what it leaves undone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stocksync.sandbox import FaultPlan, Sandbox
from tests.processes import ROOT
from tests.servers import free_port
from tests.shop import SELLER, WAREHOUSE, form, open_shop

UNKNOWN = "01a20a68-a1b1-7459-a326-d85c4cd3d65e"
READING = ("stock show", "status", "audit", "sweep", "operations list", f"operations show {UNKNOWN}")
WRITING = (f"operations retry {UNKNOWN}", f"operations cancel {UNKNOWN} --reason late", "deliver")


@dataclass(frozen=True)
class Said:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON object that stdout is."""
        document = json.loads(self.out)
        assert isinstance(document, dict)
        return document


class CommandLine:
    """Runs commands in a folder of their own with nothing in the environment but what a test puts there."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self.folder = folder
        self.database_url = database_url
        self.environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "DATABASE_URL": database_url}

    def start(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "stocksync", *words],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            **options,
        )

    def run(self, *words: str, stdin: str = "", **settings: str) -> Said:
        self.environment |= settings
        process = self.start(*words, stdin=subprocess.PIPE)
        out, err = process.communicate(stdin, timeout=60)
        assert "Traceback" not in out + err, err
        return Said(process.returncode, out, err)

    def write(self, name: str, content: str | bytes) -> str:
        """A file of the folder; answers with its name."""
        (self.folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return name

    def process(self, *forms: dict[str, Any]) -> Said:
        lines = "".join(json.dumps(one) + "\n" for one in forms)
        return self.run("orders", "process", "-", "--json", stdin=lines)

    def on_hand(self) -> dict[str, int]:
        return {
            level["sku"]: level["on_hand"] for level in self.run("stock", "show", "--json").document["levels"]
        }

    def operations(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = self.run("operations", "list", "--json").document["operations"]
        return listed


def prepared(folder: Path, database_url: str) -> CommandLine:
    """With a schema, and ten of A and five of B on hand."""
    with open_shop(database_url) as shop:
        shop.stock(A=10, B=5)
    return CommandLine(folder, database_url)


@pytest.fixture
def bare(tmp_path: Path, sqlite_url: str) -> CommandLine:
    return CommandLine(tmp_path, sqlite_url)


@pytest.fixture
def shop(tmp_path: Path, sqlite_url: str) -> CommandLine:
    return prepared(tmp_path, sqlite_url)


@pytest.fixture
def shop_anywhere(tmp_path: Path, database_url: str) -> CommandLine:
    """Once on SQLite, once on PostgreSQL."""
    return prepared(tmp_path, database_url)


@pytest.fixture
def sandbox() -> Iterator[Callable[..., Sandbox]]:
    """Starts the stand-in microservice."""
    started: list[Sandbox] = []

    def start(faults: FaultPlan | None = None) -> Sandbox:
        started.append(Sandbox(token="secret", faults=faults).start())
        return started[-1]

    yield start
    for each in started:
        each.stop()


def deliver(shop: CommandLine, remote: Sandbox, *words: str) -> Said:
    return shop.run(
        "deliver", *words, ALLEGRO_MICROSERVICE_BASE_URL=remote.url, ALLEGRO_MICROSERVICE_JWT_TOKEN="secret"
    )


# The schema


def test_migrate_makes_the_schema_and_finds_nothing_to_do_the_second_time(
    tmp_path: Path, database_url: str
) -> None:
    at = CommandLine(tmp_path, database_url)
    first, second = at.run("migrate"), at.run("migrate")

    assert (first.code, first.out) == (0, "applied 0001_initial\n")
    assert (second.code, second.out) == (0, "nothing to do\n")


def test_two_that_migrate_at_once_both_succeed(tmp_path: Path, database_url: str) -> None:
    at = CommandLine(tmp_path, database_url)
    both = [at.start("migrate", "--json") for _ in range(2)]
    said = [process.communicate(timeout=60) for process in both]

    assert [process.returncode for process in both] == [0, 0], said
    assert sorted(len(json.loads(out)["applied"]) for out, _ in said) == [0, 1]


@pytest.mark.parametrize(
    "command", [*READING, *WRITING, "stock import count.csv", "orders process -", "orders show 1 --token 1", "check"]
)  # fmt: skip
def test_on_a_schema_that_is_behind_a_command_says_to_migrate(bare: CommandLine, command: str) -> None:
    bare.write("count.csv", "sku,warehouse,quantity\nA,Ирина,1\n")

    said = bare.run(*command.split())

    assert said.code == 1
    assert "run `python -m stocksync migrate`" in (said.out + said.err).lower()


# Stock


def test_a_count_is_imported_and_shown(shop_anywhere: CommandLine) -> None:
    count = shop_anywhere.write("count.csv", "sku,warehouse,quantity\nA,Ирина,7\nC,Ирина,0\n")

    said = shop_anywhere.run("stock", "import", count)

    assert (said.code, said.out) == (0, "2 SKUs counted, 7 units; 1 levels changed\n")
    assert shop_anywhere.on_hand() == {"A": 7, "B": 5, "C": 0}


def test_one_sku_is_shown_with_its_last_movements(shop: CommandLine) -> None:
    shop.run("stock", "import", shop.write("count.csv", "sku,warehouse,quantity\nA,Ирина,7\n"))

    said = shop.run("stock", "show", "A")

    assert said.code == 0
    assert "count in count.csv" in said.out
    assert "-3" in said.out


def test_a_file_with_the_mark_and_line_ends_of_a_spreadsheet_is_read(shop: CommandLine) -> None:
    count = shop.write("count.csv", "\ufeffquantity,sku,note,warehouse\r\n7,A,x,Ирина\r\n")

    assert shop.run("stock", "import", count).code == 0
    assert shop.on_hand()["A"] == 7


BAD_COUNTS = {
    "a missing column": ("sku,warehouse\nA,Ирина\n", "line 1: the header lacks quantity"),
    "an empty file": ("", "line 1: the header lacks quantity, sku, warehouse"),
    "a negative count": ("C,Ирина,-1\n", "line 3: quantity: a whole number from 0 is needed, got '-1'"),
    "a count in words": ("C,Ирина,two\n", "line 3: quantity: a whole number from 0 is needed, got 'two'"),
    "half a unit": ("C,Ирина,1.5\n", "line 3: quantity: a whole number from 0 is needed, got '1.5'"),
    "a SKU twice": ("C,Ирина,1\nA,Ирина,2\n", "line 4: sku A in warehouse Ирина appears more than once"),
    "no SKU": (",Ирина,1\n", "line 3: sku: a non-empty text is needed"),
    "a short line": ("C\n", "line 3: "),
    "a long SKU": (f"{'x' * 201},Ирина,1\n", "line 3: sku: at most 200 characters, got 201"),
    "what is not UTF-8": (b"\xff,Warehouse,1\n", "not UTF-8"),
}


@pytest.mark.parametrize(("lines", "said"), BAD_COUNTS.values(), ids=BAD_COUNTS)
def test_a_count_with_a_bad_line_names_it_and_imports_nothing(
    shop: CommandLine, lines: str | bytes, said: str
) -> None:
    content = lines.encode() if isinstance(lines, str) else lines
    if b"," in content and not content.startswith(b"sku") or content == b"C\n":
        content = "sku,warehouse,quantity\nA,Ирина,1\n".encode() + content

    refused = shop.run("stock", "import", shop.write("count.csv", content))

    assert refused.code == 1
    assert said in refused.out
    assert "nothing was imported" in refused.err
    assert shop.on_hand() == {"A": 10, "B": 5}


def test_every_bad_line_of_a_count_is_named(shop: CommandLine) -> None:
    count = shop.write("count.csv", "sku,warehouse,quantity\nA,Ирина,-1\nB,Ирина,3\nC,,3\n")

    refused = shop.run("stock", "import", count, "--json").document["refused"]

    assert [fault["line"] for fault in refused] == [2, 4]


BAD_FILES = {
    "a line that is not UTF-8 has its number": (b"sku,warehouse,quantity\nA,\xff,1\n", "line 2: "),
    "a count above a thousand million has its number": ("sku,warehouse,quantity\nC,Ирина,2000000000\n".encode(), "line 2: "),
    "a field larger than the reader takes": (b"sku,warehouse,quantity\n" + b"x" * 200_000 + b",W,1\n", "line 2: "),
}  # fmt: skip


@pytest.mark.xfail(strict=True, reason="no line number, or a traceback of csv.Error")
@pytest.mark.parametrize(("content", "said"), BAD_FILES.values(), ids=BAD_FILES)
def test_whatever_is_wrong_with_a_count_has_its_line(shop: CommandLine, content: bytes, said: str) -> None:
    refused = shop.run("stock", "import", shop.write("count.csv", content))

    assert refused.code == 1
    assert said in refused.out


@pytest.mark.xfail(strict=True, reason="an OSError while reading ends in a traceback")
@pytest.mark.parametrize("command", ["stock import", "orders process"])
def test_a_file_that_can_not_be_read_is_said_in_words(shop: CommandLine, command: str) -> None:
    said = shop.run(*command.split(), "/proc/self/mem")  # it opens, and its first byte is an I/O error

    assert said.code == 1
    assert "error: " in said.err


def test_a_sku_that_was_never_seen_is_said_to_be_unknown(shop: CommandLine) -> None:
    said = shop.run("stock", "show", "Z")

    assert said.code == 1
    assert "SKU Z was never seen" in said.err


# Orders


def mixed_file() -> str:
    """A good order, five bad lines, an empty line, and another good order."""
    nameless = form()
    del nameless["id"]
    lines = [
        json.dumps(form("good-1", {"1": ("A", 3), "2": (None, 1)})),
        "{not json",
        json.dumps(nameless),
        json.dumps(form("negative", {"1": ("A", 1), "2": ("A", -1)})),
        "",
        json.dumps(form("too-much", {"1": ("A", 1), "2": ("B", 6)})),
        json.dumps(["a list"]),
        json.dumps(form("good-2", {"1": ("B", 5)})),
    ]
    return "\n".join(lines) + "\n"


def test_bad_lines_are_reported_with_number_and_reason_and_the_good_ones_go_through(
    shop_anywhere: CommandLine,
) -> None:
    said = shop_anywhere.run("orders", "process", shop_anywhere.write("orders.jsonl", mixed_file()))

    assert said.code == 1
    refused = [line for line in said.out.splitlines() if line.startswith("line ")]
    assert [line.split(":")[0] for line in refused] == ["line 2", "line 3", "line 4", "line 6", "line 7"]
    for line, reason in zip(
        refused,
        ("not JSON", "id: Field required", "got -1", "B needs 6, has 5", "expected a JSON object"),
        strict=True,
    ):
        assert reason in line
    assert "2 orders taken, 2 operations recorded, 5 lines refused" in said.out
    assert shop_anywhere.on_hand() == {"A": 7, "B": 0}
    assert shop_anywhere.run("audit").code == 0


def test_processing_a_file_twice_deducts_nothing_again(shop_anywhere: CommandLine) -> None:
    orders = form("one", {"1": ("A", 2)}), form("two", {"1": ("A", 3), "2": ("B", 1)})
    first, second = shop_anywhere.process(*orders), shop_anywhere.process(*orders)

    assert (first.code, second.code) == (0, 0)
    assert first.document["operations"] == 3
    assert second.document == {"orders": 2, "already_updated": 2, "operations": 0, "refused": []}
    assert shop_anywhere.on_hand() == {"A": 5, "B": 4}
    assert len(shop_anywhere.operations()) == 3


def test_a_file_with_nothing_but_good_orders_ends_with_zero(shop: CommandLine) -> None:
    said = shop.run("orders", "process", "-", stdin=json.dumps(form()))

    assert (said.code, said.out) == (
        0,
        "1 orders taken, 1 operations recorded, 0 lines refused\n  queued: 1\n",
    )


def test_an_order_without_account_is_of_the_one_that_is_named(shop: CommandLine) -> None:
    bare = form("one")
    del bare["token_id"]

    assert shop.run("orders", "process", "-", "--token", "seller-9", stdin=json.dumps(bare)).code == 0
    assert shop.run("orders", "show", "one", "--token", "seller-9").code == 0


@pytest.mark.xfail(
    strict=True, reason="an id of half a character can't be printed: a traceback, and no report at all"
)
@pytest.mark.parametrize("option", ["", "--json"])
def test_an_id_of_half_a_character_is_reported_like_any_other_fault(shop: CommandLine, option: str) -> None:
    said = shop.run("orders", "process", "-", *option.split(), stdin=json.dumps(form("\ud800")) + "\n{")

    assert said.code == 1
    assert "not JSON" in said.out


def test_an_unknown_warehouse_is_refused_before_anything_is_read(shop_anywhere: CommandLine) -> None:
    endless = shop_anywhere.start("orders", "process", "-", "--warehouse", "Marte", stdin=subprocess.PIPE)
    try:
        code = endless.wait(timeout=30)  # its stdin stays open
    finally:
        endless.kill()
    _, err = endless.communicate()

    assert code == 1
    assert err == f"error: warehouse: 'Marte' is unknown (known: {WAREHOUSE})\n"


def test_an_unknown_warehouse_is_refused_though_the_file_could_not_be_read(shop: CommandLine) -> None:
    said = shop.run("orders", "process", "/proc/self/mem", "--warehouse", "Marte")

    assert said.code == 1
    assert "'Marte' is unknown" in said.err


def test_before_the_first_import_every_warehouse_is_unknown_and_it_says_what_to_do(bare: CommandLine) -> None:
    bare.run("migrate")

    said = bare.run("orders", "process", "-")

    assert said.code == 1
    assert "run `stock import` first" in said.err


def test_an_order_is_shown_with_its_lines_and_operations(shop_anywhere: CommandLine) -> None:
    shop_anywhere.process(form("one", {"1": ("A", 2)}))

    said = shop_anywhere.run("orders", "show", "one", "--token", SELLER)

    assert said.code == 0
    assert "order one of seller-1: we say True" in said.out
    assert "deduction" in said.out


def test_an_unknown_order_is_said_to_be_unknown(shop: CommandLine) -> None:
    said = shop.run("orders", "show", "two", "--token", SELLER)

    assert (said.code, said.err) == (1, "error: order two of account seller-1 is unknown\n")


# Answers for programs


@pytest.mark.parametrize(
    "command",
    [
        "migrate",
        "check",
        "stock show",
        "stock show A",
        "stock import count.csv",
        "orders process orders.jsonl",
        f"orders show one --token {SELLER}",
        "operations list",
        "operations show OPERATION",
        "operations retry OPERATION",
        "operations cancel OPERATION --reason late",
        "sweep",
        "status",
        "audit",
    ],
)
def test_with_json_stdout_is_one_object_and_nothing_else(shop_anywhere: CommandLine, command: str) -> None:
    shop_anywhere.write("count.csv", "sku,warehouse,quantity\nC,Ирина,1\n")
    shop_anywhere.write("orders.jsonl", mixed_file())
    with open_shop(shop_anywhere.database_url) as at:
        (operation,) = at.orders.process_order_stock_update(form("one")).operations

    said = shop_anywhere.run("-v", *command.replace("OPERATION", str(operation)).split(), "--json")

    assert said.document
    assert said.out.count("\n") == 1
    assert said.code == (1 if command in ("check", "orders process orders.jsonl") else 0)


def test_deliver_with_json_is_one_object_too(
    shop_anywhere: CommandLine, sandbox: Callable[..., Sandbox]
) -> None:
    shop_anywhere.process(form("one", {"1": ("A", 2), "2": ("B", 1)}))

    said = deliver(shop_anywhere, sandbox(), "--json")

    assert said.code == 0
    assert said.document == {
        "processed": 2, "succeeded": 2, "failed": 0, "max_retries_reached": 0, "next_due_at": None
    }  # fmt: skip


# Operations


def test_operations_are_listed_by_status_and_by_order(shop: CommandLine) -> None:
    shop.process(form("one"), form("two"))

    assert shop.run("operations", "list", "--order", "two").out.endswith("1 of 1\n")
    assert shop.run("operations", "list", "--status", "pending").out.endswith("2 of 2\n")
    assert shop.run("operations", "list", "--status", "failed").out.endswith("0 of 0\n")


@pytest.mark.parametrize("unknown", [UNKNOWN, "not-an-id"])
@pytest.mark.parametrize("command", ["show", "retry", "cancel --reason late"])
def test_an_unknown_operation_is_said_to_be_unknown(shop: CommandLine, command: str, unknown: str) -> None:
    said = shop.run("operations", *command.split(), unknown)

    assert said.code == 1
    assert said.err.startswith(f"error: operation {unknown} is unknown")


def test_an_operation_that_is_retried_says_by_whom_and_why(shop_anywhere: CommandLine) -> None:
    shop_anywhere.process(form())
    operation = shop_anywhere.operations()[0]["id"]

    said = shop_anywhere.run("operations", "retry", operation, "--reason", "it is back")
    log = shop_anywhere.run("operations", "show", operation, "--json").document["log"]

    assert (said.code, said.out) == (0, f"operation {operation} queued for retry\n")
    assert log[-1]["action"] == "manual_retry"
    assert "(command line)" in log[-1]["details"]["actor"]
    assert log[-1]["details"]["reason"] == "it is back"


def test_a_cancelled_operation_can_be_neither_retried_nor_cancelled_again(shop_anywhere: CommandLine) -> None:
    shop_anywhere.process(form())
    operation = shop_anywhere.operations()[0]["id"]
    cancelled = shop_anywhere.run("operations", "cancel", operation, "--reason", "told by phone")

    retried = shop_anywhere.run("operations", "retry", operation)
    again = shop_anywhere.run("operations", "cancel", operation, "--reason", "told by phone")

    assert (cancelled.code, cancelled.out) == (0, f"operation {operation} cancelled\n")
    assert (retried.code, retried.err) == (
        1,
        f"error: operation {operation} is cancelled and cannot be retried\n",
    )
    assert (again.code, again.err) == (
        1,
        f"error: operation {operation} is cancelled and cannot be cancelled\n",
    )
    assert shop_anywhere.on_hand()["A"] == 9
    assert shop_anywhere.run("audit").code == 0


def test_a_cancellation_without_reason_is_bad_usage(shop: CommandLine) -> None:
    said = shop.run("operations", "cancel", UNKNOWN)

    assert said.code == 2
    assert "--reason" in said.err


def test_blanks_are_no_reason(shop: CommandLine) -> None:
    shop.process(form())
    operation = shop.operations()[0]["id"]

    said = shop.run("operations", "cancel", operation, "--reason", "  ")

    assert (said.code, said.err) == (1, "error: reason: a non-empty text is needed, got '  '\n")
    assert shop.operations()[0]["status"] == "pending"


# Delivery, status, audit


def test_deliver_tells_the_remote_and_completes_the_operations(
    shop_anywhere: CommandLine, sandbox: Callable[..., Sandbox]
) -> None:
    remote = sandbox()
    shop_anywhere.process(form("one"), form("two"), form("postage", {"1": (None, 1)}))

    said = deliver(shop_anywhere, remote)

    assert said.code == 0
    assert {order["order_id"]: order["is_stock_updated"] for order in remote.orders()} == {
        "one": True,
        "two": True,
    }
    assert {operation["status"] for operation in shop_anywhere.operations()} == {"completed"}
    assert shop_anywhere.run("audit").code == 0


def test_what_the_remote_refuses_waits_for_its_next_try(
    shop: CommandLine, sandbox: Callable[..., Sandbox]
) -> None:
    shop.process(form())

    said = deliver(shop, sandbox(FaultPlan(error_share=1.0)), "--json").document
    (operation,) = shop.operations()

    assert (said["succeeded"], said["failed"]) == (0, 1)
    assert (operation["status"], operation["retry_count"]) == ("pending", 1)
    assert operation["next_retry_at"] == said["next_due_at"]


def test_deliver_waits_for_what_is_due_later_if_it_is_told_to(
    shop: CommandLine, sandbox: Callable[..., Sandbox]
) -> None:
    remote = sandbox(FaultPlan(error_share=0.5, seed=3))
    shop.environment |= {"STOCK_SYNC_RETRY_INITIAL_DELAY": "0.05", "STOCK_SYNC_RETRY_MAX_ATTEMPTS": "50"}
    shop.process(*(form(str(number)) for number in range(8)))

    said = deliver(shop, remote, "--wait", "30", "--json").document

    assert said["succeeded"] == 8
    assert said["failed"] > 0


def test_deliver_without_an_address_is_a_fault_of_the_configuration(shop: CommandLine) -> None:
    said = shop.run("deliver")

    assert said.code == 2
    assert "ALLEGRO_MICROSERVICE_BASE_URL is not set" in said.err


def test_status_says_how_many_wait(shop: CommandLine) -> None:
    shop.process(form("one"), form("two"))

    said = shop.run("status")

    assert said.code == 0
    assert said.out.startswith("healthy: 2 orders wait")
    assert "pending_operations: 2" in said.out


def test_an_audit_that_finds_damage_names_it_and_ends_with_one(shop_anywhere: CommandLine) -> None:
    with open_shop(shop_anywhere.database_url) as at:
        at.runtime.database.execute_sql("UPDATE stock_sync_levels SET on_hand = 11 WHERE sku = 'A'")

    said = shop_anywhere.run("audit")

    assert said.code == 1
    assert "on hand is not the sum of the movements" in said.out
    assert "Ирина, A, 11, 10" in said.out
    assert "1 promise(s) broken" in said.out


def test_check_is_content_when_everything_is_there(
    shop_anywhere: CommandLine, redis_url: str, sandbox: Callable[..., Sandbox]
) -> None:
    said = shop_anywhere.run("check", REDIS_URL=redis_url, ALLEGRO_MICROSERVICE_BASE_URL=sandbox().url)

    assert said.code == 0
    assert said.out.count(": ok\n") == 5


def test_check_names_every_part_that_is_missing(shop: CommandLine) -> None:
    said = shop.run("check", "--json", REDIS_URL=f"redis://:hunter2@127.0.0.1:{free_port()}")

    assert said.code == 1
    assert {part for part, answer in said.document["parts"].items() if answer != "ok"} == {
        "redis",
        "microservice",
    }
    assert "hunter2" not in said.out + said.err


# What goes wrong around it


@pytest.mark.parametrize("command", ["status", "migrate", "orders process -", "deliver --json"])
def test_a_wrong_configuration_lists_every_fault_and_ends_with_two(shop: CommandLine, command: str) -> None:
    said = shop.run(
        *command.split(),
        STOCK_SYNC_RETRY_MAX_ATTEMPTS="0",
        STOCK_SYNC_RETRY_JITTER="maybe",
        STOCK_SYNC_RETRY_MAX_DELEY="7",
        REDIS_URL_FILE="/no/such/file",
    )

    assert (said.code, said.out) == (2, "")
    for variable in ("MAX_ATTEMPTS must be", "JITTER must be", "MAX_DELEY is no setting", "REDIS_URL_FILE: "):
        assert variable in said.err


@pytest.mark.parametrize(
    "command", ["operations list --limit 9999", "operations list --status lost", "stock", "fly"]
)
def test_bad_usage_is_said_and_ends_with_two(shop: CommandLine, command: str) -> None:
    said = shop.run(*command.split())

    assert (said.code, said.out) == (2, "")
    assert "Usage: " in said.err


@pytest.mark.parametrize("command", ["status", "migrate", "audit"])
def test_a_database_that_does_not_answer_is_said_in_words_without_its_password(
    bare: CommandLine, command: str
) -> None:
    said = bare.run(command, DATABASE_URL=f"postgresql://shop:hunter2@127.0.0.1:{free_port()}/shop")

    assert said.code == 1
    assert said.err.startswith("error: the database can't be reached: ")
    assert "hunter2" not in said.err


def test_a_file_that_is_no_database_is_said_in_words(bare: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "stocksync.sqlite3").write_text("this is not a database" * 100)

    said = bare.run("status")

    assert said.code == 1
    assert "file is not a database" in said.err


def test_a_reader_that_leaves_early_is_no_error_to_shout_about(shop: CommandLine) -> None:
    process = shop.start("stock", "show")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()

    assert process.wait(timeout=60) == 1
    assert process.stderr.read() == ""
    process.stderr.close()
