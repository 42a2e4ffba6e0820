"""`python -m stocksync`: what it prints, what its exit code says, what it leaves undone.

The commands run in this process, as `main()` runs them; a few need one of their own.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stocksync import InDoubt, InventoryManagerWithSync, runtime
from stocksync.sandbox import Sandbox
from tests.processes import ROOT, Said, run_command
from tests.servers import free_port
from tests.shop import SELLER, Shop, form, goods, open_shop

UNKNOWN = "01a20a68-a1b1-7459-a326-d85c4cd3d65e"
HEADER = "sku,warehouse,quantity\n"

on_sqlite = pytest.mark.parametrize(
    "database_url", ["sqlite"], indirect=True
)  # all others run on PostgreSQL too


class CommandLine:
    """Runs commands in a folder of their own, with nothing in the environment but what a test puts there."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self.folder = folder
        self.environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "DATABASE_URL": database_url}

    def start(self, command: str) -> subprocess.Popen[str]:
        """A process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "stocksync", *shlex.split(command)],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )

    def run(self, command: str, *, stdin: str = "", **settings: str) -> Said:
        """In this process, with a runtime of its own."""
        self.environment |= settings
        return run_command(shlex.split(command), self.folder, self.environment, stdin)

    def write(self, name: str, content: str | bytes) -> None:
        (self.folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


@pytest.fixture
def at(tmp_path: Path, database_url: str) -> CommandLine:
    return CommandLine(tmp_path, database_url)


@pytest.fixture
def shop(database_url: str) -> Iterator[Shop]:
    """A view of the same database from inside: with a schema, ten of A and five of B."""
    with open_shop(database_url) as opened:
        opened.clock.now = datetime.now(UTC)  # the commands have no other clock
        opened.stock(A=10, B=5)
        runtime.use(opened.runtime)
        yield opened
    runtime.use(None)


@pytest.fixture
def remote(at: CommandLine) -> Iterator[Sandbox]:
    """The stand-in microservice, where the commands look for the real one."""
    with Sandbox(token="secret") as sandbox:
        at.environment |= {
            "ALLEGRO_MICROSERVICE_BASE_URL": sandbox.url,
            "ALLEGRO_MICROSERVICE_JWT_TOKEN": "secret",
        }
        yield sandbox


def on_hand(shop: Shop) -> tuple[int, int]:
    return shop.on_hand("A"), shop.on_hand("B")


# The schema


@pytest.mark.starts_empty
def test_migrate_makes_the_schema_and_finds_nothing_to_do_the_second_time(at: CommandLine) -> None:
    first, second = at.run("migrate"), at.run("migrate")

    assert (first.code, first.out) == (
        0,
        "applied 0001_initial\n",
    )
    assert (second.code, second.out) == (0, "nothing to do\n")


@pytest.mark.starts_empty
def test_of_two_that_migrate_at_once_one_does_it_and_both_succeed(at: CommandLine) -> None:
    both = [at.start("migrate --json") for _ in range(2)]
    said = [process.communicate(timeout=60) for process in both]

    assert [process.returncode for process in both] == [0, 0], said
    assert sorted(len(json.loads(out)["applied"]) for out, _ in said) == [0, 1]


@on_sqlite
@pytest.mark.starts_empty
def test_on_a_schema_that_is_behind_a_command_says_to_migrate(at: CommandLine) -> None:
    at.write("count.csv", HEADER + "A,Ирина,1\n")

    for command in ("check", "stock import count.csv", "orders process -", "deliver", "status", "audit"):
        said = at.run(command)
        assert said.code == 1
        assert "un `python -m stocksync migrate`" in said.out + said.err


# Stock


def test_a_count_is_imported(at: CommandLine, shop: Shop) -> None:
    at.write("count.csv", HEADER + "A,Ирина,7\nC,Ирина,0\n")

    said = at.run("stock import count.csv")

    assert (said.code, said.out) == (0, "2 SKUs counted, 7 units; 1 levels changed\n")
    assert on_hand(shop) == (7, 5)


def test_a_sku_is_shown_with_its_level_and_last_movements(at: CommandLine, shop: Shop) -> None:
    shop.runtime.inventory.set_on_hand({"A": 7}, "Ирина", actor="Oksana", reason="three were broken")

    said = at.run("stock show A")

    assert said.code == 0
    assert "1 levels, 7 units" in said.out
    assert "-3     7              count  Oksana  three were broken" in said.out


@on_sqlite
@pytest.mark.parametrize(
    ("options", "answer", "code", "after"), [("", "n", 1, 11), ("", "y", 0, 10), ("--yes --json", "", 0, 10)]
)
def test_a_rebuild_shows_what_differs_and_asks(
    at: CommandLine, shop: Shop, options: str, answer: str, code: int, after: int
) -> None:
    shop.runtime.database.execute_sql("UPDATE stock_sync_levels SET on_hand = 11 WHERE sku = 'A'")

    said = at.run(f"stock rebuild {options}", stdin=answer)

    assert (said.code, on_hand(shop)[0]) == (code, after)
    if options:
        assert said.document == {"differing": 1, "rebuilt": 1, "refused": []}
    else:
        assert "Ирина      A    11       10" in said.out
        assert "Set on hand of 1 level(s) to what has moved?" in said.err


@on_sqlite
def test_a_rebuild_refuses_less_than_nothing_in_words(at: CommandLine, shop: Shop) -> None:
    shop.runtime.database.execute_sql("UPDATE stock_sync_movements SET delta = -10 WHERE sku = 'A'")

    said = at.run("stock rebuild --yes")

    assert (said.code, on_hand(shop)[0]) == (1, 10)
    assert "A in warehouse Ирина: its movements come to less than nothing" in said.out


def test_a_clean_up_counts_first_and_then_takes_away(at: CommandLine, shop: Shop) -> None:
    with open_shop(at.environment["DATABASE_URL"]) as before:
        before.clock.now = before.clock.now.replace(year=2020)
        before.deduct()
        before.drain()

    said = [at.run(f"cleanup {option}") for option in ("--dry-run", "", "")]

    assert [line.code for line in said] == [0, 0, 0]
    assert [line.out.split("\n")[0] for line in said] == ["operations: 1", "operations: 1", "operations: 0"]
    assert shop.statuses() == []
    assert f"{SELLER}: 1 pruned, 1 orders, 1 deducted" in at.run("audit").out


@on_sqlite
def test_a_file_with_the_mark_and_line_ends_of_a_spreadsheet_is_read(at: CommandLine, shop: Shop) -> None:
    at.write("count.csv", "\ufeffquantity,sku,note,warehouse\r\n7,A,x,Ирина\r\n")

    assert at.run("stock import count.csv").code == 0
    assert shop.on_hand("A") == 7


NOT_A_COUNT = "quantity: a whole number from 0 is needed, got"
BAD_COUNTS = {
    "a missing column": ("sku,warehouse\nA,Ирина\n", "line 1: the header lacks quantity"),
    "an empty file": ("", "line 1: the header lacks quantity, sku, warehouse"),
    "a negative count": (f"{HEADER}A,Ирина,1\nC,Ирина,-1\n", f"line 3: {NOT_A_COUNT} '-1'"),
    "a count in words": (f"{HEADER}A,Ирина,1\nC,Ирина,two\n", f"line 3: {NOT_A_COUNT} 'two'"),
    "a short line": (f"{HEADER}A,Ирина,1\nC\n", "line 3: warehouse: a non-empty text is needed"),
    "a SKU twice": (f"{HEADER}A,Ирина,1\nA,Ирина,2\n", "line 3: sku A in warehouse Ирина appears more than once"),
    "a SKU too long": (f"{HEADER}A,Ирина,1\n{'x' * 201},Ирина,1\n", "line 3: sku: at most 200 characters, got 201"),
    "what is not UTF-8": (HEADER.encode() + b"A,W,1\nB,\xff,1\n", "the file is not UTF-8"),
}  # fmt: skip


@on_sqlite
@pytest.mark.parametrize(("content", "said"), BAD_COUNTS.values(), ids=BAD_COUNTS)
def test_a_bad_count_is_refused_with_line_and_reason_and_nothing_is_imported(
    at: CommandLine, shop: Shop, content: str | bytes, said: str
) -> None:
    at.write("count.csv", content)

    refused = at.run("stock import count.csv")

    assert refused.code == 1
    assert said in refused.out
    assert "nothing was imported" in refused.err
    assert on_hand(shop) == (10, 5)


@on_sqlite
def test_every_bad_line_of_a_count_is_named(at: CommandLine, shop: Shop) -> None:
    at.write("count.csv", HEADER + "A,Ирина,-1\nB,Ирина,3\nC,,3\n")

    assert [fault["line"] for fault in at.run("stock import count.csv --json").document["refused"]] == [2, 4]


BAD_LINES = {
    "not UTF-8": HEADER.encode() + b"A,\xff,1\n",
    "more than a thousand million": f"{HEADER}C,Ирина,2000000000\n".encode(),
    "a field larger than the reader takes": HEADER.encode() + b"x" * 200_000 + b",W,1\n",
}


@on_sqlite
@pytest.mark.parametrize("content", BAD_LINES.values(), ids=BAD_LINES)
def test_whatever_is_wrong_with_a_count_has_its_line(at: CommandLine, shop: Shop, content: bytes) -> None:
    at.write("count.csv", content)

    assert "line 2: " in at.run("stock import count.csv").out


@on_sqlite
@pytest.mark.parametrize("command", ["stock import", "orders process"])
def test_a_file_that_can_not_be_read_is_said_in_words(at: CommandLine, shop: Shop, command: str) -> None:
    said = at.run(f"{command} /proc/self/mem")  # it opens, and its first byte is an I/O error

    assert said.code == 1
    assert said.err.startswith("error: ")


# Orders


def file_of(*orders: object) -> str:
    return "".join(f"{order if isinstance(order, str) else json.dumps(order)}\n" for order in orders)


def test_bad_lines_are_reported_with_number_and_reason_and_the_good_ones_go_through(
    at: CommandLine, shop: Shop
) -> None:
    nameless = form()
    del nameless["id"]
    mixed = file_of(
        form("good-1", {"1": ("A", 3), "2": (None, 1)}),
        "{not json",
        nameless,
        form("negative", {"1": ("A", 1), "2": ("A", -1)}),
        "",
        form("too-much", {"1": ("A", 1), "2": ("B", 6)}),
        ["a list"],
        form("good-2", {"1": ("B", 5)}),
    )
    at.write("orders.jsonl", mixed)

    said = at.run("orders process orders.jsonl")

    assert said.code == 1
    for line in (
        "line 2: order (without id): not JSON",
        "line 3: order (without id): id: Field required\n",
        "line 4: order negative: lineItems.1.quantity: Input should be greater than or equal to 1, got -1\n",
        "line 6: order too-much: too little stock in warehouse Ирина: B needs 6, has 5\n",
        "line 7: order (without id): expected a JSON object, got list\n",
        "2 orders taken, 2 operations recorded, 5 lines refused\n",
    ):
        assert line in said.out
    assert on_hand(shop) == (7, 0)
    assert shop.broken_promises() == []
    assert at.run("audit").code == 0


@on_sqlite
def test_an_order_without_account_is_of_the_one_that_is_named(at: CommandLine, shop: Shop) -> None:
    accountless = form("one")
    del accountless["token_id"]

    assert at.run("orders process - --token seller-9", stdin=file_of(accountless)).code == 0
    assert shop.order("one").token_id == "seller-9"


@on_sqlite
@pytest.mark.parametrize("option", ["", "--json"])
def test_an_id_of_half_a_character_is_reported_like_any_other_fault(
    at: CommandLine, shop: Shop, option: str
) -> None:
    said = at.run(f"orders process - {option}", stdin=file_of(form("\ud800"), "{not json"))

    assert said.code == 1
    assert "not JSON" in said.out


def test_an_unknown_warehouse_is_refused_before_anything_is_read(at: CommandLine, shop: Shop) -> None:
    waiting = at.start("orders process - --warehouse Marte")
    try:
        assert waiting.wait(timeout=30) == 1  # though its stdin never ends
    finally:
        waiting.kill()
        _, err = waiting.communicate()

    assert err == "error: warehouse: 'Marte' is unknown (known: Ирина)\n"


@on_sqlite
def test_an_unknown_warehouse_is_refused_though_the_file_could_not_be_read(
    at: CommandLine, shop: Shop
) -> None:
    said = at.run("orders process /proc/self/mem --warehouse Marte")

    assert said.code == 1
    assert "'Marte' is unknown" in said.err


@on_sqlite
def test_before_the_first_import_every_warehouse_is_unknown_and_it_says_what_to_do(at: CommandLine) -> None:
    at.run("migrate")

    said = at.run("orders process -")

    assert said.code == 1
    assert "run `stock import` first" in said.err


def test_an_order_is_shown_with_its_lines_and_operations(at: CommandLine, shop: Shop) -> None:
    shop.orders.process_order_stock_update(form("one", {"line-7": ("A", 2)}))

    said = at.run(f"orders show one --token {SELLER}")

    assert said.code == 0
    assert "order one of seller-1: we say True" in said.out
    assert "line-7" in said.out
    assert "deduction" in said.out


# Returns, cancellations, doubts


def test_returns_are_taken_and_orphans_reported(at: CommandLine, shop: Shop) -> None:
    shop.orders.process_order_stock_update(form(lines={"line-1": ("A", 3)}))
    rows = [goods(), goods("return-2", order="nobody's"), goods("return-3", quantity=9), goods("return-4")]
    at.write("returns.jsonl", "\n".join(map(json.dumps, rows)) + "\n{not json\n")

    first, again = (at.run("returns process returns.jsonl --json") for _ in range(2))
    assert (first.code, first.document["returns"], first.document["operations"]) == (1, 2, 2)
    refused = [(fault["line"], fault["error"]) for fault in first.document["refused"]]
    assert refused == [(2, "OrphanRefund"), (3, "RefundExceedsSale"), (5, "InvalidReturn")]
    assert first.document["orphans"] == 1
    assert (again.document["already_returned"], again.document["operations"]) == (2, 0)
    assert shop.on_hand("A") == 9
    assert "1 of them without a known sale" in at.run("returns process returns.jsonl").out


def test_a_return_without_restock_leaves_stock_as_it_is(at: CommandLine, shop: Shop) -> None:
    shop.orders.process_order_stock_update(form(lines={"line-1": ("A", 3)}))
    nameless = {name: value for name, value in goods().items() if name != "token_id"}

    said = at.run(f"returns process - --no-restock --token {SELLER}", stdin=json.dumps(nameless))
    assert (said.code, shop.on_hand("A")) == (0, 7)
    assert said.out == "1 returns taken, 1 operations recorded, 0 lines refused\n  queued: 1\n"


def test_an_order_is_cancelled_by_who_and_why(at: CommandLine, shop: Shop) -> None:
    shop.orders.process_order_stock_update(form(lines={"line-1": ("A", 3)}))

    said = at.run(f"orders cancel order-1 --token {SELLER} --reason 'changed her mind' --json")
    refund = shop.operation(said.document["operations"][0])
    assert (said.code, said.document["status"], shop.on_hand("A")) == (0, "cancelled", 10)
    assert "command line" in refund["actor"]
    assert refund["reason"] == "changed her mind"
    assert at.run(f"orders cancel order-1 --token {SELLER}").out == (
        "order order-1 was cancelled before, 0 refunds recorded\n"
    )


def test_an_operation_is_cancelled_with_its_stock_put_back(at: CommandLine, shop: Shop) -> None:
    operation = shop.orders.process_order_stock_update(form()).operations[0]

    assert at.run(f"operations cancel {operation} --reason 'never left' --put-back").code == 0
    assert (shop.on_hand("A"), shop.operation(operation)["applied"]) == (10, "no")


@pytest.mark.parametrize(("answer", "status"), [("--deducted", "pending"), ("--not-deducted", "cancelled")])
def test_an_operation_in_doubt_is_listed_and_confirmed(
    at: CommandLine, shop: Shop, answer: str, status: str
) -> None:
    class Silent:
        def remove_as_sale(self, sku: str, warehouse: str, quantity: int) -> None:
            raise TimeoutError

    with pytest.raises(InDoubt) as doubt:
        InventoryManagerWithSync(Silent(), shop.service).remove_as_sale_with_sync(
            "A", "Ирина", 1, "order-1", SELLER
        )
    operation = doubt.value.operation_id
    listed = at.run("operations list --in-doubt --json").document
    assert [row["id"] for row in listed["operations"]] == [str(operation)]

    assert at.run(f"operations confirm {operation}").code == 2
    assert at.run(f"operations confirm {operation} {answer} --reason counted").code == 0
    assert shop.operation(operation)["status"] == status
    assert at.run(f"operations confirm {operation} {answer}").code == 1


def test_an_order_shows_where_the_remote_differs(at: CommandLine, shop: Shop) -> None:
    operation = shop.orders.process_order_stock_update(form()).operations[0]
    shop.service.cancel(operation, actor="Anna", reason="no")

    assert "the two differ" in at.run(f"orders show order-1 --token {SELLER}").out
    assert at.run(f"orders show order-1 --token {SELLER} --json").document["differs"] is True


@on_sqlite
def test_a_database_error_of_one_line_does_not_stop_the_others(at: CommandLine, shop: Shop) -> None:
    with shop.runtime.database.transaction_scope():
        shop.runtime.database.execute_sql(
            "CREATE TRIGGER refuse BEFORE INSERT ON stock_sync_orders WHEN NEW.order_id = 'order-1'"
            " BEGIN SELECT RAISE(ABORT, 'constraint of somebody else'); END"
        )
    at.write("orders.jsonl", "\n".join(json.dumps(form(order)) for order in ("order-1", "order-2")))

    said = at.run("orders process orders.jsonl --json")
    assert (said.code, said.document["orders"], shop.on_hand("A")) == (1, 1, 9)
    assert said.document["refused"][0]["reason"] == "the database says: constraint of somebody else"


# Answers for programs


@on_sqlite
def test_with_json_stdout_is_one_object_and_nothing_else(
    at: CommandLine, shop: Shop, remote: Sandbox
) -> None:
    at.write("count.csv", HEADER + "C,Ирина,1\n")
    at.write("orders.jsonl", file_of(form("two"), "{not json"))
    (operation,) = shop.orders.process_order_stock_update(form("one")).operations

    for command, code in {
        "migrate": 0,
        "check": 1,
        "stock import count.csv": 0,
        "stock import orders.jsonl": 1,
        "stock show": 0,
        "stock show A": 0,
        "stock rebuild": 0,
        "orders process orders.jsonl": 1,
        "orders show one --token seller-1": 0,
        "orders unlinked": 0,
        "operations list": 0,
        f"operations show {operation}": 0,
        f"operations retry {operation}": 0,
        f"operations cancel {operation} --reason late": 0,
        "deliver": 0,
        "lanes list": 0,
        "lanes pause seller-1 --reason holiday": 0,
        "lanes resume seller-1": 0,
        "sweep": 0,
        "status": 0,
        "audit": 0,
        "reconcile": 0,
        "differences list": 0,
        "monitor": 1,  # no Redis here
        "alerts list": 0,
        "cleanup": 0,
        "cleanup --dry-run": 0,
        "users key till": 0,
    }.items():
        said = at.run(f"-v {command} --json")
        assert (command, said.code) == (command, code), said
        assert said.document
        assert said.out.count("\n") == 1


# Operations


@on_sqlite
def test_operations_are_listed_by_status_and_by_order(at: CommandLine, shop: Shop) -> None:
    shop.deduct("one")
    shop.deduct("two")

    assert at.run("operations list --order two").out.endswith("\n1 of 1\n")
    assert at.run("operations list --status pending --limit 1").out.endswith("\n1 of 2\n")
    assert at.run("operations list --status failed").out.endswith("\n0 of 0\n")


@on_sqlite
def test_what_is_unknown_is_said_to_be(at: CommandLine, shop: Shop) -> None:
    for command, said in {
        f"operations show {UNKNOWN}": f"operation {UNKNOWN} is unknown",
        "operations retry not-an-id": "operation not-an-id is unknown",
        f"operations cancel {UNKNOWN} --reason late": f"operation {UNKNOWN} is unknown",
        "orders show two --token seller-1": "order two of account seller-1 is unknown; check both ids\n",
        "stock show Z": "SKU Z was never seen; `stock show` lists all\n",
        "lanes pause nobody --reason x": "lane nobody is unknown",
        "lanes resume nobody": "lane nobody is unknown",
    }.items():
        refused = at.run(command)
        assert refused.code == 1
        assert refused.err.startswith(f"error: {said}")


def test_an_operation_that_is_retried_keeps_who_asked_and_why(at: CommandLine, shop: Shop) -> None:
    operation = shop.deduct()

    said = at.run(f"operations retry {operation} --reason 'it is back'")
    entry = shop.operation(operation)["log"][-1]

    assert (said.code, said.out) == (0, f"operation {operation} queued for retry\n")
    assert entry["action"] == "manual_retry"
    assert entry["details"]["actor"].endswith("(command line)")
    assert entry["details"]["reason"] == "it is back"


def test_a_cancelled_operation_keeps_its_reason_and_can_not_be_retried(at: CommandLine, shop: Shop) -> None:
    (operation,) = shop.orders.process_order_stock_update(form()).operations

    cancelled = at.run(f"operations cancel {operation} --reason 'told by phone'")
    retried = at.run(f"operations retry {operation}")

    assert (cancelled.code, cancelled.out) == (0, f"operation {operation} cancelled\n")
    assert shop.operation(operation)["reason"] == "told by phone"
    assert retried.code == 1
    assert retried.err == f"error: operation {operation} is cancelled and cannot be retried\n"
    assert shop.on_hand("A") == 9
    assert shop.broken_promises() == []


@on_sqlite
@pytest.mark.parametrize(("option", "code"), [("", 2), ("--reason '  '", 1)])
def test_a_cancellation_needs_a_reason(at: CommandLine, shop: Shop, option: str, code: int) -> None:
    said = at.run(f"operations cancel {shop.deduct()} {option}")

    assert said.code == code
    assert "reason" in said.err
    assert shop.statuses() == ["pending"]


# Delivery, status, audit


def test_deliver_tells_the_remote_and_completes_the_operations(
    at: CommandLine, shop: Shop, remote: Sandbox
) -> None:
    for order in (
        form("one", {"1": ("A", 1), "2": ("B", 1)}),
        form("two"),
        form("postage", {"1": (None, 1)}),
    ):
        shop.orders.process_order_stock_update(order)

    said = at.run("deliver --json")

    assert said.code == 0
    assert said.document == {
        "processed": 3, "succeeded": 3, "failed": 0, "max_retries_reached": 0, "next_due_at": None
    }  # fmt: skip
    assert {(order["order_id"], order["is_stock_updated"]) for order in remote.orders()} == {
        ("one", True),
        ("two", True),
    }
    assert shop.statuses() == ["completed"] * 3
    assert shop.broken_promises() == []


@on_sqlite
def test_deliver_waits_for_what_is_due_later_if_it_is_told_to(
    at: CommandLine, shop: Shop, remote: Sandbox
) -> None:
    remote.set_faults(error_share=0.5, seed=3)
    for number in range(8):
        shop.deduct(str(number))

    said = at.run(
        "deliver --wait 30 --json", STOCK_SYNC_RETRY_INITIAL_DELAY="0.05", STOCK_SYNC_RETRY_MAX_ATTEMPTS="50"
    ).document

    assert said["succeeded"] == 8
    assert said["failed"] > 0


@on_sqlite
def test_deliver_without_an_address_is_a_fault_of_the_configuration(at: CommandLine, shop: Shop) -> None:
    said = at.run("deliver")

    assert said.code == 2
    assert "ALLEGRO_MICROSERVICE_BASE_URL is not set" in said.err


@on_sqlite
def test_status_says_how_many_wait(at: CommandLine, shop: Shop) -> None:
    shop.deduct("one")
    shop.deduct("two")

    said = at.run("status")

    assert said.code == 0
    assert said.out.startswith("healthy: 2 orders wait, next at ")
    assert "pending_operations: 2" in said.out


def test_an_audit_that_finds_damage_names_it_and_ends_with_one(at: CommandLine, shop: Shop) -> None:
    shop.runtime.database.execute_sql("UPDATE stock_sync_levels SET on_hand = 11 WHERE sku = 'A'")

    said = at.run("audit")

    assert said.code == 1
    assert "on hand is not the sum of the movements\n  Ирина, A, 11, 10\n" in said.out
    assert said.out.endswith("1 promise(s) broken\n")


def test_check_is_content_when_everything_is_there(
    at: CommandLine, shop: Shop, redis_url: str, remote: Sandbox
) -> None:
    said = at.run("check", REDIS_URL=redis_url)

    assert said.code == 0
    assert said.out.count(": ok\n") == 6


@on_sqlite
def test_check_names_every_part_that_is_missing_and_no_password(at: CommandLine, shop: Shop) -> None:
    said = at.run("check --json", REDIS_URL=f"redis://:hunter2@127.0.0.1:{free_port()}")
    parts = said.document["parts"]

    assert said.code == 1
    assert {part for part in parts if parts[part] != "ok"} == {"redis", "microservice"}
    assert "hunter2" not in said.out + said.err


# What goes wrong around it


@on_sqlite
@pytest.mark.parametrize("command", ["migrate", "orders process -", "deliver --json"])
def test_a_wrong_configuration_lists_every_fault_and_ends_with_two(at: CommandLine, command: str) -> None:
    said = at.run(
        command,
        STOCK_SYNC_RETRY_MAX_ATTEMPTS="0",
        STOCK_SYNC_RETRY_JITTER="maybe",
        STOCK_SYNC_RETRY_MAX_DELEY="7",
        REDIS_URL_FILE="/no/such/file",
    )

    assert (said.code, said.out) == (2, "")
    for fault in ("MAX_ATTEMPTS must be", "JITTER must be", "MAX_DELEY is no setting", "REDIS_URL_FILE: "):
        assert fault in said.err


@on_sqlite
@pytest.mark.parametrize("command", ["operations list --status lost", "stock import no.csv", "fly"])
def test_bad_usage_is_said_and_ends_with_two(at: CommandLine, command: str) -> None:
    said = at.run(command)

    assert (said.code, said.out) == (2, "")
    assert "Usage: " in said.err


@on_sqlite
@pytest.mark.parametrize("command", ["migrate", "audit"])
def test_a_database_that_does_not_answer_is_said_in_words_without_its_password(
    at: CommandLine, command: str
) -> None:
    said = at.run(command, DATABASE_URL=f"postgresql://shop:hunter2@127.0.0.1:{free_port()}/shop")

    assert said.code == 1
    assert said.err.startswith("error: the database ")
    assert "can't be reached: " in said.err
    assert "hunter2" not in said.err


@on_sqlite
def test_a_file_that_is_no_database_is_said_in_words(at: CommandLine, sqlite_url: str) -> None:
    Path(sqlite_url.removeprefix("sqlite:///")).write_text("this is not a database" * 100)

    said = at.run("status")

    assert said.code == 1
    assert "file is not a database" in said.err


@on_sqlite
def test_a_reader_that_leaves_early_is_told_nothing(at: CommandLine, shop: Shop) -> None:
    process = at.start("stock show")
    assert process.stdout
    process.stdout.close()
    _, err = process.communicate(timeout=60)

    assert (process.returncode, err) == (1, "")


def test_a_lane_is_paused_and_resumed_by_a_person(at: CommandLine, shop: Shop, remote: Sandbox) -> None:
    operation = shop.deduct()
    assert at.run("lanes pause seller-1 --reason holiday").code == 0
    at.run("deliver")
    assert shop.operation(operation)["status"] == "pending"
    (lane,) = at.run("lanes list --json").document["lanes"]
    assert (lane["paused"], lane["paused_reason"], lane["orders_waiting"]) == (True, "holiday", 1)

    assert at.run("lanes resume seller-1").code == 0
    at.run("deliver")
    assert shop.operation(operation)["status"] == "completed"
