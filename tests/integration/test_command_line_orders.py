"""`python -m stocksync orders`, `returns` and `operations`: files of them, and one by one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from stocksync import InDoubt, InventoryManagerWithSync
from tests.command_line import CommandLine, file_of, on_hand, on_sqlite, stocked
from tests.shop import SELLER, Shop, form, goods

UNKNOWN = "01a20a68-a1b1-7459-a326-d85c4cd3d65e"


@pytest.fixture
def at(tmp_path: Path, database_url: str) -> CommandLine:
    return CommandLine(tmp_path, database_url)


@pytest.fixture
def shop(database_url: str) -> Iterator[Shop]:
    with stocked(database_url) as opened:
        yield opened


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
    assert "order one of seller-1\nwe say True, the remote last said" in said.out
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
