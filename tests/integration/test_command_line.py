"""`python -m stocksync`: what it prints, what its exit code says, what it leaves undone.

The commands run in this process, as `main()` runs them; a few need one of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from stocksync.sandbox import Sandbox
from tests.command_line import HEADER, CommandLine, file_of, on_sqlite, stocked
from tests.servers import free_port
from tests.shop import Shop, form


@pytest.fixture
def at(tmp_path: Path, database_url: str) -> CommandLine:
    return CommandLine(tmp_path, database_url)


@pytest.fixture
def shop(database_url: str) -> Iterator[Shop]:
    with stocked(database_url) as opened:
        yield opened


@pytest.fixture
def remote(at: CommandLine) -> Iterator[Sandbox]:
    """The stand-in microservice, where the commands look for the real one."""
    with Sandbox(token="secret") as sandbox:
        at.environment |= {
            "ALLEGRO_MICROSERVICE_BASE_URL": sandbox.url,
            "ALLEGRO_MICROSERVICE_JWT_TOKEN": "secret",
        }
        yield sandbox


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
@pytest.mark.starts_empty
@pytest.mark.parametrize(
    ("settings", "code", "said"),
    [
        ({"STOCK_SYNC_DELIVERY_BATCH_SIZE": "many"}, 2, "STOCK_SYNC_DELIVERY_BATCH_SIZE"),
        ({}, 1, "Run `python -m stocksync migrate` first"),
        ({"DATABASE_URL": "postgresql://127.0.0.1:1/shop"}, 1, "can't be reached"),
    ],
    ids=["settings", "schema", "database"],
)
def test_a_page_that_can_not_start_says_why_in_words_and_by_its_exit_code(
    at: CommandLine, settings: dict[str, str], code: int, said: str
) -> None:
    at.environment |= settings

    process = at.start(f"web --host 127.0.0.1 --port {free_port()}")
    _, err = process.communicate(timeout=60)

    assert process.returncode == code
    assert said in err
    assert "Traceback" not in err


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
