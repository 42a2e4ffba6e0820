"""What must hold when the faults are over. Each check names what does not; it knows nothing of how the facts were got."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.drill.journal import Kept, Order

DRAIN_SECONDS = 120.0
"""So long after the last fault everything may take to be delivered."""
NEXT_SECONDS = 90.0
"""So long after any fault the next delivery may take. After an answer of 401 the remote is asked once a minute."""
GROWTH = 24 * 2**20
"""Bytes by which the memory of the worker that lived may grow after the warm-up."""
GRACE = 8.0
"""Seconds after a fault of the database in which calls may still raise."""
_SHOWN = 10


@dataclass(frozen=True)
class Operation:
    """One row of the database."""

    id: str
    order: str
    line: str
    kind: str
    sku: str
    units: int
    status: str


@dataclass(frozen=True)
class Delivery:
    """What the database holds of one order's delivery."""

    token: str
    order: str
    state_version: int
    delivered_version: int
    remote_flag: bool | None


@dataclass
class Facts:
    """Everything that was gathered."""

    journals: Mapping[str, Kept]
    initial: int
    """Units of each SKU before the first sale."""
    operations: list[Operation]
    levels: Mapping[str, int]
    movements: Mapping[str, int]
    """Operation -> movements that it has, where it has more than it may have."""
    deliveries: list[Delivery]
    remote: Mapping[tuple[str, str], bool]
    told: list[dict[str, Any]]
    repaired: list[tuple[str, str]] = field(default_factory=list)
    """Seller and order that reconciliation had told again."""
    actions: Mapping[str, int] = field(default_factory=dict)
    """What the operations' logs say -> how often."""
    audit: Mapping[str, Any] = field(default_factory=dict)
    reconciliation: Mapping[str, Any] = field(default_factory=dict)
    drained_after: float | None = 0.0
    memory: tuple[int, int] = (0, 0)
    leaks: list[str] = field(default_factory=list)
    ended: list[tuple[float, str]] = field(default_factory=list)
    """Processes that ended by themselves: when, and how."""
    page_answers: bool = True
    database_hurt: list[tuple[float, float]] = field(default_factory=list)
    stuck_after: list[str] = field(default_factory=list)
    """Faults after which no delivery came in time."""

    def orders(self) -> Iterator[tuple[str, Order]]:
        """Every order of every caller."""
        for kept in self.journals.values():
            yield from kept.book.orders.items()


@dataclass(frozen=True)
class Check:
    """One promise. `said`: what does not hold, the first of it in words."""

    name: str
    said: list[str]

    @property
    def held(self) -> bool:
        """Nothing speaks against it."""
        return not self.said


def _operations(facts: Facts) -> Iterator[str]:
    expected = Counter[Any]()
    ids: set[str] = set()
    for kept in facts.journals.values():
        expected.update(kept.book.operations)
        ids |= kept.book.ids
    found = Counter((o.order, o.line, o.kind, o.sku, o.units, o.status) for o in facts.operations)
    for key in sorted((+expected).keys() | found.keys()):
        if found[key] != expected[key]:
            order, line, kind, sku, units, status = key
            what = f"{kind} of {units} {sku}, {status}, order {order}, line {line}"
            yield f"{what}: {expected[key]} by the callers' journals, {found[key]} in the database"
    for id in sorted(ids - {operation.id for operation in facts.operations}):
        yield f"operation {id} was returned to a caller and is not in the database"


def _calls(facts: Facts) -> Iterator[str]:
    for name, kept in facts.journals.items():
        yield from (f"{name}: refused, {said}" for said in kept.refused)
        if kept.open:
            yield f"{name}: {kept.open['what']} of {kept.open['order']} never returned"


def _database_hurt(facts: Facts, at: float) -> bool:
    return any(start <= at <= end + GRACE for start, end in facts.database_hurt)


def _ended(facts: Facts) -> Iterator[str]:
    """A process that can't reach the database when it starts ends, and the platform starts it again."""
    yield from (how for at, how in facts.ended if not _database_hurt(facts, at))


def _raised(facts: Facts) -> Iterator[str]:
    for name, kept in facts.journals.items():
        for at, what in kept.raised:
            if not _database_hurt(facts, at):
                yield f"{name}: {what} at {at:.1f}, when nothing was wrong with the database"


def _levels(facts: Facts) -> Iterator[str]:
    out = Counter[str]()
    for kept in facts.journals.values():
        out.update(kept.book.out())
    for sku, on_hand in sorted(facts.levels.items()):
        if on_hand != facts.initial - out[sku]:
            yield f"{sku}: {on_hand} on hand, {facts.initial - out[sku]} by the callers' journals"


def _movements(facts: Facts) -> Iterator[str]:
    for operation, count in facts.movements.items():
        yield f"operation {operation} moved stock {count} times"


def _flags(facts: Facts) -> Iterator[str]:
    for name, order in facts.orders():
        flag = facts.remote.get((order.token, name))
        if bool(flag) != order.flag:
            yield f"order {name}: the remote holds {flag}, the truth is {order.flag}"


def _told(facts: Facts) -> Iterator[str]:
    last = {(entry["token"], entry["order"]): entry["flag"] for entry in facts.told}
    by_key = {entry["key"]: entry["flag"] for entry in facts.told}
    ours = {(delivery.token, delivery.order) for delivery in facts.deliveries}
    for token, order in sorted(last.keys() - ours):
        yield f"order {order} of {token}: the remote was told of it, and we do not know it"
    for one in facts.deliveries:
        if one.remote_flag is None:
            continue
        key = f"{one.token}:{one.order}:{one.delivered_version}"
        if by_key.get(key) is not one.remote_flag:
            yield f"order {one.order}: version {one.delivered_version} ({one.remote_flag}) counts as delivered, and the remote's journal lacks it"
        if last.get((one.token, one.order)) is not one.remote_flag:
            yield f"order {one.order}: the last thing that the remote was told is not {one.remote_flag}"
        if facts.remote.get((one.token, one.order)) is not one.remote_flag:
            yield f"order {one.order}: we hold {one.remote_flag} for the remote's flag, and it is another"


def out_of_turn(told: Iterable[Mapping[str, Any]]) -> set[tuple[str, str]]:
    """Seller and order of what the remote applied after something newer: a request that the client had given up on."""
    newest: dict[tuple[str, str], int] = {}
    found = set()
    for entry in told:
        which, version = (entry["token"], entry["order"]), int(entry["key"].rpartition(":")[2])
        if not entry["again"] and version < newest.get(which, 0):
            found.add(which)
        newest[which] = max(version, newest.get(which, 0))
    return found


def _repaired(facts: Facts) -> Iterator[str]:
    for token, order in sorted(set(facts.repaired) - out_of_turn(facts.told)):
        yield f"order {order} of {token} was told again, though the remote had applied everything in turn"


def _audit(facts: Facts) -> Iterator[str]:
    for finding in facts.audit.get("findings", ()):
        yield f"{finding['check']}: {finding['meaning']}: {finding['rows'][:3]}"


def _reconciliation(facts: Facts) -> Iterator[str]:
    if facts.reconciliation and not facts.reconciliation["complete"]:
        yield "a run did not finish"
    for run in facts.reconciliation.get("runs", ()):
        for one in run["discrepancies"]:
            yield f"{one['kind']}: order {one['order_id']} of {run['token_id']}"


def _drained(facts: Facts) -> Iterator[str]:
    if facts.drained_after is None:
        yield f"not everything was delivered {DRAIN_SECONDS:g} s after the last fault"
    yield from facts.stuck_after


def _memory(facts: Facts) -> Iterator[str]:
    before, after = facts.memory
    if after - before > GROWTH:
        yield f"{before / 2**20:.1f} MB after the warm-up, {after / 2**20:.1f} MB at the end"


_CHECKS: dict[str, Callable[[Facts], Iterable[str]]] = {
    "every recorded operation is there once, and completed, or cancelled where asked": _operations,
    "every call returned in the end, and none was refused": _calls,
    "no call raised but while the database was hurt": _raised,
    "stock levels are those of the callers' journals": _levels,
    "no operation moved stock twice": _movements,
    "the remote's flag of every order is the truth": _flags,
    "what we hold for delivered was told, by the remote's journal": _told,
    "the audit is clean": _audit,
    "reconciliation repaired only what the remote applied out of turn": _repaired,
    "reconciliation finds no difference in the end": _reconciliation,
    "deliveries went on after each fault, and the backlog drained in time": _drained,
    "memory of the worker that lived is flat": _memory,
    "no file of the drill holds a secret": lambda facts: facts.leaks,
    "no process ended by itself but while the database was hurt": _ended,
    "the page answers": lambda facts: [] if facts.page_answers else ["it does not"],
}


def check(facts: Facts) -> list[Check]:
    """Every promise, in the order of the table."""
    made = []
    for name, find in _CHECKS.items():
        said = list(find(facts))
        more = [f"… and {len(said) - _SHOWN} more"] if len(said) > _SHOWN else []
        made.append(Check(name, said[:_SHOWN] + more))
    return made


def leaks(folder: Path, secrets: Mapping[str, str], leave_out: Iterable[Path] = ()) -> list[str]:
    """Files of the folder in which one of the secrets stands."""
    skipped, found = tuple(leave_out), []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not any(path.is_relative_to(each) for each in skipped):
            content = path.read_bytes()
            found += [
                f"{path.relative_to(folder)} holds the secret `{name}`"
                for name, secret in secrets.items()
                if secret.encode() in content
            ]
    return found
