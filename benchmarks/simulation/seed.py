"""Runs single seeds, in the world's time, and tells what came of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.simulation.database import SimulatedDatabase
from benchmarks.simulation.run import Simulation
from benchmarks.simulation.world import TIME
from stocksync.delivery import engine, sender_pool
from stocksync.store import cleanup
from stocksync.upkeep.reconcile import Reconciliation


@dataclass(frozen=True)
class Result:
    """What came of a seed. `broken` None: every promise held."""

    seed: int
    operations: int
    digest: str
    settled_after: float
    requests: int
    broken: str | None = None
    history: tuple[str, ...] = ()


@contextmanager
def simulated_time() -> Iterator[None]:
    """The product's own clocks of waiting are the world's, and nothing is logged."""
    modules: tuple[Any, ...] = (engine, sender_pool)
    before = [module.time for module in modules]
    defaults: Any = cleanup.CleanUp.run.__kwdefaults__
    real, walks = defaults["monotonic"], Reconciliation._monotonic
    for module in modules:
        module.time = TIME
    defaults["monotonic"], Reconciliation._monotonic = TIME.monotonic, staticmethod(TIME.monotonic)
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
        for module, time in zip(modules, before, strict=True):
            module.time = time
        defaults["monotonic"], Reconciliation._monotonic = real, staticmethod(walks)
        TIME.world = None


def run_seed(seed: int, operations: int, database: SimulatedDatabase, history: int = 30) -> Result:
    """Run one seed. Whatever the product raises and should not counts as a broken promise too."""
    simulation = Simulation(seed, operations, database)
    broken: str | None = None
    with simulated_time():
        try:
            simulation.run()
        except Exception as error:
            broken = f"{type(error).__name__}: {error}"
            if not isinstance(error, AssertionError):
                broken += _where(error)
        finally:
            simulation.world.end()
            database.world = None
            if database.in_sqlite_transaction():
                database.undo()
    world = simulation.world
    return Result(
        seed,
        operations,
        world.digest(),
        simulation.settled_after,
        simulation.remote.figures["requests"],
        broken,
        tuple(world.last_events)[-history:] if history else tuple(world.last_events),
    )


def _where(error: BaseException) -> str:
    trace: Any = error.__traceback__
    while trace.tb_next:
        trace = trace.tb_next
    return f" ({trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno})"
