"""Reads the sources of the product: who imports whom, who writes which table, what importing does, how long things are."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, cast

from stocksync.store.models import MODELS

ROOT = Path(__file__).parents[1]

# What the two processes run, and what jobs name: above the runtime, which the rest of their room is below.
PROCESSES = ("stocksync.queue.process", "stocksync.queue.tasks")

# Design, section 3, from the top to the bottom; what stands in one line may look at each other where TOGETHER says so.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("jobs", "stocksync.web", "stocksync.__main__", "stocksync.cli", "stocksync.sandbox"),
    ("stocksync", "stocksync.aio", "stocksync.contrib", "stocksync.testing", *PROCESSES),
    ("stocksync.runtime",),
    ("stocksync.orders", "stocksync.delivery", "stocksync.queue", "stocksync.upkeep"),
    ("stocksync.store",),
    ("stocksync.config",),
    ("stocksync.credentials", "stocksync.errors"),
)
TOGETHER = {
    *((one, other) for one in PROCESSES for other in PROCESSES),
    ("stocksync.__main__", "stocksync.cli"),
    ("stocksync.cli", "stocksync.sandbox"),
    ("stocksync.orders", "stocksync.delivery"),  # a call with `immediate=True` delivers
    ("stocksync.upkeep", "stocksync.queue"),  # a task ends when its process is to stop
    ("stocksync.upkeep", "stocksync.delivery"),  # the breaker's state, and who reads the remote's lists
}
# Decisions without any effect.
PURE = (
    *(
        "stocksync.delivery.answers",
        "stocksync.orders.recording",
        "stocksync.orders.revisions",
        "stocksync.upkeep.discrepancies",
    ),
    *("stocksync.store.states", "stocksync.errors"),
)
RANKS = {room: rank for rank, layer in enumerate(LAYERS) for room in layer}

WEB = {"flask", "werkzeug", "jinja2", "gunicorn", "markupsafe", "itsdangerous", "flask_openapi3"}
DATABASES = {"peewee", "playhouse", "psycopg", "psycopg_pool", "sqlite3", "sqlalchemy"}

DELIVERY_WRITERS = {
    "stocksync.store.operations",
    "stocksync.store.deliveries",
    "stocksync.store.lanes",
    "stocksync.store.reconciliation",
}
STOCK_WRITERS = {"stocksync.store.inventory"}
WRITERS = {
    "pending_stock_operations": DELIVERY_WRITERS | {"stocksync.store.cleanup"},
    "stock_sync_orders": DELIVERY_WRITERS,
    "stock_sync_levels": STOCK_WRITERS,
    "stock_sync_movements": STOCK_WRITERS,
    "stock_sync_order_lines": {"stocksync.store.order_lines"},
}
WRITE = re.compile(
    r"\b(?:UPDATE(?:\s+ONLY)?|(?:INSERT|REPLACE|MERGE)(?:\s+OR\s+\w+)?\s+INTO|DELETE\s+FROM|TRUNCATE(?:\s+TABLE)?)"
    r"\s+[\"`]?(\w+|\{)",
    re.IGNORECASE,
)
SQL = re.compile(
    r"\b(?:SELECT\s.+?\sFROM|INSERT\s+INTO|UPDATE\s+\S+\s+SET|DELETE\s+FROM|(?:CREATE|ALTER|DROP)\s+(?:TABLE|INDEX))\b",
    re.DOTALL,
)
PEEWEE_WRITES = {
    *("update", "insert", "insert_many", "insert_from", "replace_many", "create", "bulk_create"),
    *("bulk_update", "get_or_create", "delete", "delete_by_id", "delete_instance", "set_by_id", "save"),
}

Sources = Mapping[str, str]


@cache
def project() -> Sources:
    """Every module of the product by its dotted name."""
    found = {}
    for package in ("stocksync", "jobs", "web"):
        for file in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
            name = f"stocksync.{name}" if package == "web" else name  # where it is imported from
            found[name.removesuffix(".__init__")] = file.read_text(encoding="utf-8")
    return found


def within(module: str, room: str) -> bool:
    return module == room or module.startswith(f"{room}.")


def room_of(module: str) -> str | None:
    """The room a module is in; None: it has none, or is not ours."""
    rooms = [room for room in RANKS if within(module, room) and (room != "stocksync" or module == room)]
    return max(rooms, key=len, default=None)


def imports_of(module: str, text: str, known: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(module imported, name taken from it or '') for every import, wherever in the file it stands."""
    modules = {*known, *project()}
    is_package = any(within(other, module) and other != module for other in modules)
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                above = package.rsplit(".", node.level - 1)[0]
                source = f"{above}.{source}".rstrip(".")
            for alias in node.names:
                whole = f"{source}.{alias.name}"
                yield (whole, "") if whole in modules else (source, alias.name)


def wrong_arrows(sources: Sources) -> list[str]:
    """Imports that go up, or sideways where the design knows no such way."""
    wrong = []
    for module, text in sources.items():
        here = room_of(module)
        if here is None:
            wrong.append(f"{module} has no room in the layout: give it one in LAYERS")
            continue
        for target, _ in imports_of(module, text, sources):
            there = room_of(target)
            if there is None or there == here:
                continue
            sideways = RANKS[there] == RANKS[here] and (here, there) not in TOGETHER
            if RANKS[there] < RANKS[here] or sideways:
                wrong.append(f"{module} -> {target}")
    return wrong


def floors_of(sources: Sources) -> int:
    """On how many floors the rooms stand, each above all that it imports."""
    arrows: dict[str, set[str]] = {room: set() for room in RANKS}
    for module, text in sources.items():
        here = room_of(module)
        for target, _ in imports_of(module, text, sources):
            there = room_of(target)
            if here and there and here != there:
                arrows[here].add(there)

    @cache
    def floor(room: str) -> int:
        return 1 + max((floor(below) for below in arrows[room] if RANKS[below] >= RANKS[room]), default=0)

    return max(map(floor, arrows))


def forbidden_packages(sources: Sources) -> list[str]:
    """Imports of packages that have no place in the room of who imports them."""
    wrong = []
    for module, text in sources.items():
        for target, name in imports_of(module, text, sources):
            package = target.split(".")[0]
            wrong_here = {
                "stocksync": package in {"jobs", "web"}
                or (package in WEB and not within(module, "stocksync.web")),
                **{pure: package not in {*sys.stdlib_module_names, "stocksync"} for pure in PURE},
                "stocksync.orders": package in {"rq", "rq_scheduler", "redis"},
                "stocksync.store": package == "sqlalchemy",
            }
            may_query = within(module, "stocksync.store") or within(module, "stocksync.contrib")
            may_catch = within(module, "stocksync.cli") or within(module, "stocksync.web")
            catches = may_catch and (target, name) == ("peewee", "PeeweeException")
            if any(found and within(module, room) for room, found in wrong_here.items()) or (
                package in DATABASES and not may_query and not catches
            ):
                wrong.append(f"{module} imports {target}")
    return wrong


def texts_of(tree: ast.AST) -> Iterator[str]:
    """Every string but the docstrings; what an f-string fills in is `{}`."""
    passed = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            passed.add(id(node.value))
        elif isinstance(node, ast.JoinedStr):
            passed.update(map(id, node.values))
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in passed:
            yield node.value


def sql_outside_the_store(sources: Sources) -> list[str]:
    wrong = []
    for module, text in sources.items():
        if within(module, "stocksync.store"):
            continue
        wrong += [
            f"{module}: {found[0]}" for said in texts_of(ast.parse(text)) if (found := SQL.search(said))
        ]
        wrong += [
            f"{module} takes {name}"
            for target, name in imports_of(module, text, sources)
            if target in ("stocksync.store.database", "stocksync.store.dialects")
            and name == "Statement"
            and not within(module, "stocksync.contrib")
        ]
    return wrong


def foreign_writes(sources: Sources) -> list[str]:
    """Writes of delivery state, an operation's status or stock outside their one writer."""
    models: Mapping[str, str] = {model.__name__: cast(Any, model)._meta.table_name for model in MODELS}
    wrong = []
    for module, text in sources.items():
        if within(module, "stocksync.store.migrations"):
            continue
        tree = ast.parse(text)
        for said in texts_of(tree):
            for table in WRITE.findall(said):
                written_elsewhere = module not in WRITERS.get(table.lower(), {module})
                if written_elsewhere or (table == "{" and within(module, "stocksync.store")):
                    wrong.append(f"{module} writes {table}")
        taken = {
            models.get(name, "stock_sync_orders")  # who takes them all may write any
            for target, name in imports_of(module, text, sources)
            if target == "stocksync.store.models" and (name in models or name in ("", "*", "MODELS"))
        }
        guarded = {table for table in taken if module not in WRITERS.get(table, {module})}
        called = {node.func for node in ast.walk(tree) if isinstance(node, ast.Call)}
        methods = {func.attr for func in called if isinstance(func, ast.Attribute)} & PEEWEE_WRITES
        if guarded and methods:
            wrong.append(f"{module} knows {', '.join(guarded)} and calls {', '.join(methods)}")
    return wrong


IMPORT_THEM_ALL = """
import importlib, os, socket, sys

done = []
def refuse(*_):
    raise AssertionError("an import connects to something")
def watch(event, args):
    writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if writes or event in {"os.mkdir", "os.remove", "os.rename", "os.fork", "subprocess.Popen", "sqlite3.connect"}:
        done.append(f"{module}: {event} {args[0]!r}")

socket.socket.connect = socket.socket.connect_ex = refuse
sys.addaudithook(watch)
for module in sys.argv[1:]:
    importlib.import_module(module)
print("\\n".join(done))
"""


def done_by_importing(modules: Iterable[str], source: Path, empty: Path) -> list[str]:
    """What importing does to the world, in a new process that starts with nothing."""
    process = subprocess.run(
        [sys.executable, "-c", IMPORT_THEM_ALL, *modules],
        cwd=empty,
        env={"PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    said = process.stdout.split("\n") if process.returncode == 0 else [process.stderr]
    return [line for line in [*said, *map(str, empty.rglob("*"))] if line]
