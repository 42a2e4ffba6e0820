"""The simulated remote: keeps what it is told, with a network in front that loses, delays, repeats and reorders."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from benchmarks.simulation.world import Broken, Process
from stocksync.delivery.answers import Answer, RemoteOrder, RemotePage, Verdict, understand
from stocksync.errors import RemoteError

if TYPE_CHECKING:
    from benchmarks.simulation.world import World

_LOST = Answer(Verdict.UNCLEAR, "ConnectionError", "the connection was lost")
_LATE = Answer(Verdict.UNCLEAR, "Timeout", "no complete answer within 8 s")
_PATIENCE = 8.0
_TRIED = "SELECT last_attempt_at FROM stock_sync_orders WHERE token_id = ? AND order_id = ?"
Name = tuple[str, str]
"""Seller and order."""


@dataclass
class Weather:
    """How often what goes wrong in this seed; each a chance for one request, 0 for what never does."""

    dies: float = 0.0
    """Of one activity."""
    stalls: float = 0.0
    lost: float = 0.0
    late: float = 0.0
    """A request that is given up arrives minutes later."""
    repeated: float = 0.0
    """The network repeats a request minutes later."""
    down: float = 0.0
    """5xx."""
    refused: float = 0.0
    """This order's failure, not for good."""
    invalid: float = 0.0
    throttled: float = 0.0
    credentials: float = 0.0
    disturbances: float = 0.0
    """Of one event: something happens to Redis, clocks, the remote, the database."""
    clocks: bool = False
    """Clocks of single processes are wrong."""
    dedupes: bool = False
    """The remote does a repeated idempotency key once."""
    reconciles: bool = True


@dataclass
class Ledger:
    """What an order really went through since its attempts were at zero."""

    countable: int = 0
    refused_for_good: bool = False
    unclear: list[str] = field(default_factory=list)
    """Of answers that tell nothing: when the order had been tried before, as its row says."""

    def forget(self) -> None:
        """Its attempts are at zero."""
        self.countable, self.refused_for_good = 0, False
        self.unclear.clear()

    def attempts(self, served_at: str) -> int:
        """How many attempts may be counted, if the remote served somebody at `served_at`."""
        return self.countable + sum(served_at > tried_at for tried_at in self.unclear)


@dataclass
class SimulatedRemote:
    """The service and the way to it."""

    world: World
    weather: Weather
    flags: dict[Name, bool] = field(default_factory=dict)
    changed_at: dict[Name, datetime] = field(default_factory=dict)
    away_until: float = -1.0
    served_at: str = ""
    """When a process last noted that the remote had served somebody, by the clock on the wall."""
    ledgers: dict[Name, Ledger] = field(default_factory=dict)
    said: dict[str, bool] = field(default_factory=dict)
    """Idempotency key -> flag."""
    done: set[str] = field(default_factory=set)
    on_the_way: int = 0
    figures: Counter[str] = field(default_factory=Counter)

    def ledger(self, name: Name) -> Ledger:
        return self.ledgers.setdefault(name, Ledger())

    def rescued(self, name: Name) -> None:
        """Its lease ran out, which counts as an attempt."""
        self.ledger(name).countable += 1

    def is_away(self) -> bool:
        return self.world.now < self.away_until

    def _apply(self, name: Name, flag: bool, key: str, how: str) -> None:
        if self.weather.dedupes and key in self.done:
            return
        self.done.add(key)
        self.flags[name] = flag
        self.changed_at[name] = self.world.wall()
        if how:
            self.world.tell(f"the remote gets {key} = {flag} {how}")

    def _later(self, name: Name, flag: bool, key: str, how: str) -> None:
        self.on_the_way += 1

        def arrive() -> None:
            self.on_the_way -= 1
            self._apply(name, flag, key, how)

        self.world.after(self.world.rng.uniform(1, 400), arrive)

    def put(self, process: Process, name: Name, flag: bool, key: str) -> Answer:
        """One request with all that may happen to it."""
        self.figures["requests"] += 1
        if self.said.setdefault(key, flag) is not flag:
            raise Broken(f"the key {key} stands for two intentions")
        process.point("before a request")
        draw, weather = self.world.rng.random, self.weather
        self._pass(process, draw() < weather.stalls)
        answer = self._answered(process, name, flag, key)
        self.world.tell(f"tells {key} = {flag}: {answer.error_class or 'accepted'}")
        self._pass(process, draw() < weather.stalls)
        self._note(name, answer)
        process.point("after an answer")
        return answer

    def _pass(self, process: Process, stalls: bool) -> None:
        seconds = self.world.rng.uniform(20, 400) if stalls else self.world.rng.uniform(0.001, 0.1)
        if stalls:
            self.world.tell(f"stands still for {seconds:.0f} s in a request")
        process.sleep(seconds)

    def _answered(self, process: Process, name: Name, flag: bool, key: str) -> Answer:
        rng, weather = self.world.rng, self.weather
        if self.is_away():
            if rng.random() < 0.3:
                process.sleep(_PATIENCE)
                return _LATE
            return _LOST
        if rng.random() < weather.lost:
            process.sleep(rng.choice((0.01, _PATIENCE)))
            if rng.random() < 0.6:
                self._apply(name, flag, key, "and its answer is lost")
            return _LOST
        if rng.random() < weather.late:
            self._later(name, flag, key, "late")
            process.sleep(_PATIENCE)
            return _LATE
        for chance, statuses in (
            (weather.down, (500, 502, 504)),
            (weather.refused, (200, 404, 409)),
            (weather.invalid, (422, 400)),
            (weather.throttled, (429, 503)),
            (weather.credentials, (401, 403)),
        ):
            if rng.random() < chance:
                status = rng.choice(statuses)
                later = str(rng.choice((1, 20, 300))) if status in (429, 503) else None
                return understand(status, {"success": False, "error": "no"}, later)
        if rng.random() < weather.repeated:
            self._later(name, flag, key, "once more")
        self._apply(name, flag, key, "")
        return understand(200, {"success": True})

    def _note(self, name: Name, answer: Answer) -> None:
        """Keep what the order went through, to judge what is counted of it."""
        ledger = self.ledger(name)
        if answer.verdict in (Verdict.REJECTED, Verdict.INVALID):
            ledger.countable += 1
            ledger.refused_for_good |= answer.verdict is Verdict.INVALID
        elif answer.verdict is Verdict.UNCLEAR:
            ledger.countable += self.weather.clocks  # then nobody can tell what came first
            ((tried_at,),) = self.world.database.look(_TRIED, *name)
            ledger.unclear += [tried_at] if tried_at else []


class Client:
    """One process's way to the remote: a sender, and a reader for reconciliation."""

    timeout = _PATIENCE

    def __init__(self, remote: SimulatedRemote, process: Process) -> None:
        self._remote, self._process = remote, process

    def update_stock_status(
        self,
        *,
        token_id: str,
        order_id: str,
        is_stock_updated: bool,
        idempotency_key: str | None = None,
        traceparent: str | None = None,
        timeout: float | None = None,
    ) -> Answer:
        del traceparent, timeout
        return self._remote.put(self._process, (token_id, order_id), is_stock_updated, str(idempotency_key))

    def forget_token(self) -> None: ...

    def is_healthy(self, timeout: float = 3.0) -> bool:
        del timeout
        self._process.point("a question for the remote's health")
        self._process.sleep(0.01)
        return not self._remote.is_away()

    def list_orders(
        self, *, token_id: str, updated_since: datetime, cursor: str | None, limit: int
    ) -> RemotePage:
        self._ask()
        ids = sorted(
            order
            for (token, order), changed in self._remote.changed_at.items()
            if token == token_id and changed >= updated_since and order > (cursor or "")
        )
        return RemotePage(
            [RemoteOrder(order, self._remote.flags[token_id, order]) for order in ids[:limit]],
            ids[limit - 1] if len(ids) > limit else None,
        )

    def find_order(self, *, token_id: str, order_id: str) -> RemoteOrder | None:
        self._ask()
        flag = self._remote.flags.get((token_id, order_id))
        return None if flag is None else RemoteOrder(order_id, flag)

    def _ask(self) -> None:
        self._process.point("a question to the remote")
        self._process.sleep(0.01)
        if self._remote.is_away():
            raise RemoteError("ConnectionError", "away")
